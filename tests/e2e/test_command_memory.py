# SPDX-License-Identifier: Apache-2.0
"""Each allocation of brim's own code fails once, in each command: it ends with a reason, or goes on; it
does not crash, no lease is left, and a batch goes on where it stopped."""
import os
import re
import shutil

import pytest

import raw_client as raw
from own_daemon import Daemon
from trial import Trial, settle

GIB = 1 << 30
TOLD = re.compile(r"out of (host )?memory|no memory|memory is out|Cannot allocate memory")
FAILED = "this allocation fails"
ALL = bool(os.environ.get("BRIM_ALL_ALLOCS"))
EVERY = 1 if ALL else 11  # of a batch's in make check
pytestmark = [pytest.mark.not_sanitized, pytest.mark.timeout(3600 if ALL else 180)]

COMMANDS = [
    ("ps",), ("ps", "--json"), ("why",), ("why", "held"), ("why", "--fit", "--vram", "1GiB"), ("events",),
    ("batch", "ls"), ("batch", "show", "done"), ("logs", "done"), ("daemon", "status"),
    ("run", "--vram", "1GiB", "--name", "mine", "--", "true"),
    ("run", "--vram", "20GiB", "--", "true"),
]


def fail(machine, number):
    return {"LD_PRELOAD": str(machine.build / "tests" / "libfail_alloc.so"), "FAIL_PROGRAM": "brim",
            "FAIL_ALLOC": str(number)}


@pytest.fixture(name="busy")
def make_busy(daemon, short_dir):
    """A daemon with something to tell: a holder, a refusal, a batch that is done."""
    holder = daemon.client()
    holder.acquire(name="held", resident=2 * GIB, burst=GIB)
    daemon.client().acquire(name="large", resident=20 * GIB)
    trial = Trial(daemon.machine, short_dir, "done", segments=2, workers=1)
    trial.open_gate()
    assert trial.run().returncode == 0
    trial.close()
    daemon.holder = holder
    return daemon


def test_each_allocation_of_a_command_fails_once(busy, record_property):
    machine, total = busy.machine, 0
    for words in COMMANDS:
        wanted = machine.brim(*words)
        number = 1
        while True:
            done = machine.brim(*words, env=fail(machine, number))
            text = done.stderr.replace(FAILED + "\n", "")
            what = (words, number, done.returncode, done.stdout, done.stderr)
            assert 0 <= done.returncode < 128, what
            if FAILED not in done.stderr:
                assert done.returncode == wanted.returncode, what
                break
            assert done.returncode == wanted.returncode or TOLD.search(text), what
            assert len(TOLD.findall(text)) <= 1, what
            total += 1
            number += 1
    assert [lease["name"] for lease in machine.ps()["leases"]] == ["held"]
    record_property("told", f"allocations of commands: {total} failed once, 0 crashes, 0 leases left")
    assert total > 20


def test_allocations_of_a_batch_fail_once(emulator, short_dir, record_property):
    first = Trial(emulator, short_dir, "undisturbed", segments=2, workers=1)
    first.open_gate()
    assert first.run().returncode == 0
    wanted = first.outputs()
    first.close()
    number, count, refused = 1, 0, 0
    while True:
        trial = Trial(emulator, short_dir, f"n{number}", fail(emulator, number), segments=2, workers=1)
        trial.open_gate()
        ended = trial.run()
        what = (number, ended.returncode, ended.stderr)
        assert 0 <= ended.returncode < 128, what
        is_hit = FAILED in ended.stderr
        before = trial.committed()
        assert all(file is not None for _, file in before.values()), what
        if ended.returncode != 0:
            assert len(TOLD.findall(ended.stderr)) == 1, what
            refused += 1
            trial.env = {}
            assert trial.run().returncode == 0, what
        after = trial.committed()
        assert len(after) == 2 and all(after[index] == was for index, was in before.items()), what
        assert trial.outputs() == wanted, what
        trial.close()
        shutil.rmtree(trial.dir)
        shutil.rmtree(emulator.state_dir / "batches" / trial.name)  # a batch looks at the others
        if not is_hit:
            break
        count += 1
        number += EVERY
    settle(emulator)
    record_property("told", f"allocations of a batch: {count} of {number - 1} failed once, {refused} ended it, "
                            "0 lost, 0 twice")
    assert count > 3 and refused > 2
