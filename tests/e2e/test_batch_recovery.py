# SPDX-License-Identifier: Apache-2.0
"""brim batch: killed at any moment, waiting for a burst, on a terminal."""
import os
import pty
import signal
import subprocess

import pytest

from batch_kit import PATIENCE_S, make_batch, read_until, wait_gone  # noqa: F401

GIB = 1 << 30
AHEAD = 3  # segments that a batch may begin beyond those that a test has heard of


def test_killed_again_and_again_the_outputs_are_those_of_an_undisturbed_run(batch):
    """Each time somewhere else in the work: behind the n-th beginning of a segment."""
    batch.write_input(120)
    done_before = 0
    for begins in (1, 2, 3, 4, 5, 6, 7, 2, 9):
        batch.open_gate(begins + AHEAD)  # however fast it is, there is something left at the end
        running = batch.start(env=batch.lead())
        pids = {batch.next_begin()[1] for _ in range(begins)}
        running.kill()
        running.wait(PATIENCE_S)
        for pid in pids:
            wait_gone(pid)
        batch.forget()
        state = batch.show()
        assert state["segments_failed"] == 0
        assert state["segments_done"] >= done_before
        done_before = state["segments_done"]
    done = batch.run()
    assert done.returncode == 0, done.stderr
    assert batch.summary()["segments_done_before"] >= done_before
    batch.check_complete()  # and no attempt is left beside them


@pytest.mark.parametrize("call", ["fsync", "rename", "fdatasync"])
def test_killed_between_any_two_steps_of_a_commit(batch, call):
    """The batch dies by SIGKILL at a system call of its n-th commit; the next run completes it."""
    if subprocess.run(["sh", "-c", "command -v strace"], stdout=subprocess.DEVNULL).returncode != 0:
        pytest.skip("strace is not here")
    batch.write_input(12)
    for nth in (1, 6):
        words = batch.words("--again", "--workers", "1")
        killed = batch.machine.run(
            "strace", "-qq", "-e", f"trace={call}", "-e",
            f"inject={call}:signal=SIGKILL:when={nth}", "-o", "/dev/null",
            batch.machine.build / "brim", *words, cwd=batch.dir)
        assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), killed.stderr
        done = batch.run()
        assert done.returncode == 0, done.stderr
        names = [name for name in batch.outputs() if ".old-" not in name]
        assert names == [f"{n:06}.txt" for n in range(12)]
        for n, text in enumerate(batch.texts):
            assert (batch.dir / "out" / f"{n:06}.txt").read_text() == text


def test_a_stop_while_it_waits_for_a_burst_gives_the_segment_back(batch):
    other = batch.machine.spawn(batch.machine.build / "tests" / "e2e" / "lease_client", "other",
                                4 * GIB, int(2.1 * GIB), 0, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
    assert other.stdout.readline().startswith("granted")
    running = batch.start("--burst", "2.1GiB", "--workers", "1", vram="4GiB",
                          env={**batch.lead(), "BURST": "0",
                               "READY": '{"ready": true, "asks": true}'})
    batch.open_gate(2)
    for _ in range(3):
        batch.next_begin()
    for line in ("ready", f"burst {int(2.1 * GIB)} 0"):
        other.stdin.write(line + "\n")
        other.stdin.flush()
        assert other.stdout.readline() == "ok\n"
    batch.open_gate()
    batch.machine.events.wait(kind="burst_waiting", name="b-1")
    assert batch.machine.brim("stop", "b-1").returncode == 0
    read_until(running.stderr, "ends at the segment's end")
    name, _ = batch.next_begin()  # by its successor, which gets no burst either yet
    assert name != "000002"
    other.stdin.close()
    batch.open_gate(60)
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()
    assert batch.summary()["segments_retried"] == 0


def test_a_terminal_gets_a_bar(batch):
    ours, theirs = pty.openpty()
    running = batch.machine.spawn_brim(*batch.words("--workers", "1"), cwd=batch.dir,
                                       env={**batch.lead(), "COLUMNS": "80"}, stderr=theirs)
    os.close(theirs)
    batch.open_gate(20)
    for _ in range(21):
        batch.next_begin()
    seen = b""
    while b"/50  1 worker" not in seen:  # the 21st segment waits for it
        seen += os.read(ours, 4096)
    batch.open_gate(30)
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    assert running.wait(PATIENCE_S) == 0
    text = seen.decode()
    assert "\rb [" in text
    assert text.rstrip().splitlines()[-1].endswith("s") and "all 50 segments done in" in text


def test_ls_is_a_table_of_all_batches(batch):
    assert "no batches yet" in batch.machine.brim("batch", "ls").stdout
    assert batch.run("--retries", "0", env={"FAIL_AT": "000001"}).returncode == 1
    lines = batch.machine.brim("batch", "ls").stdout.splitlines()
    assert lines[0].split() == ["BATCH", "STATE", "DONE", "SET", "ASIDE", "PID"]
    assert lines[1].split() == ["b", "incomplete", "49/50", "1"]
    wrong = batch.machine.brim("batch", "shwo", "b")
    assert wrong.returncode == 2 and "did you mean show?" in wrong.stderr
    assert "there is no batch 'c'" in batch.machine.brim("batch", "show", "c").stderr
