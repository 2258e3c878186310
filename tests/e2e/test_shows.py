# SPDX-License-Identifier: Apache-2.0
"""What Brim promises a person, each shown by the command that a person would type."""
import os
import signal
import subprocess

import pytest

GIB = 1 << 30
WORKER_RESIDENT = 5_200_000_000
WORKER_BURST = 2_100_000_000
FOR_EVER = -1


class Holder:
    """One lease in a process of its own (tests/e2e/lease_client.c)."""

    def __init__(self, emulator, name, resident, burst, max_wait_ms=0):
        self.process = emulator.spawn(emulator.build / "tests" / "e2e" / "lease_client", name,
                                      int(resident), int(burst), max_wait_ms,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def answer(self):
        return self.process.stdout.readline().strip()

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.tell(line)
        return self.answer()


def test_what_can_never_fit_is_refused_at_once_with_a_reason(emulated):
    done = emulated("brim", "run", "--vram", "13GiB", "--", "true")
    assert done.returncode == 123, done.stderr
    for part in ("13.00 GiB", "11.21 GiB", "reserve 800 MiB", "11.99 GiB"):
        assert part in done.stderr


def test_no_room_names_the_holder_what_is_free_and_the_reserve(emulated):
    done = emulated("brim", "run", "--name", "first", "--vram", "8.9GiB", "--",
                    "brim", "run", "--max-wait", "0", "--vram", "8.9GiB", "--", "true")
    assert done.returncode == 124, done.stderr
    for part in ("first", "free", "reserve", "8.9"):
        assert part in done.stderr


def test_what_fits_runs_with_the_gpu_in_its_environment(emulated):
    done = emulated("brim", "run", "--vram", "5.2GiB", "--burst", "2.1GiB", "--",
                    "sh", "-c", "echo gpu=$CUDA_VISIBLE_DEVICES; exit 7")
    assert done.returncode == 7, done.stderr
    assert "gpu=GPU-" in done.stdout


def test_two_bursts_that_do_not_fit_together_go_one_after_the_other(emulator):
    """12 282 MiB less the reserve: 8 GiB resident leave room for one burst of 2.1 GiB, not two."""
    one = Holder(emulator, "one", 4 * GIB, 2.1 * GIB)
    two = Holder(emulator, "two", 4 * GIB, 2.1 * GIB)
    assert one.answer().startswith("granted")
    assert two.answer().startswith("granted")
    assert one.ask("ready") == two.ask("ready") == "ok"

    assert one.ask(f"burst 0 {FOR_EVER}") == "ok"
    assert two.ask("burst 0 0").startswith("NO_ROOM"), "both peaks at once would be 12.2 GiB"
    two.tell(f"burst 0 {FOR_EVER}")
    emulator.events.wait(kind="burst_waiting", name="two")
    assert emulator.lease("one")["state"] == "busy"
    assert emulator.lease("two")["state"] == "idle"

    assert one.ask("end") == "ok"
    assert two.answer() == "ok"
    assert emulator.lease("two")["state"] == "busy"
    assert two.ask("end") == "ok"


def test_a_second_worker_whose_burst_could_never_be_served_is_held_at_admission(emulator):
    one = Holder(emulator, "one", WORKER_RESIDENT, WORKER_BURST)
    assert one.answer().startswith("granted")
    assert one.ask("ready") == "ok"
    two = Holder(emulator, "two", WORKER_RESIDENT, WORKER_BURST)
    reason = two.answer()
    assert reason.startswith("NO_ROOM")
    assert "burst" in reason
    assert "never" in reason
    assert "one" in reason


def test_a_killed_holder_gives_back_what_it_held(emulator):
    one = Holder(emulator, "one", 8 * GIB, 0)
    assert one.answer().startswith("granted")
    two = Holder(emulator, "two", 8 * GIB, 0, max_wait_ms=FOR_EVER)
    emulator.events.wait(kind="queued", name="two")
    one.process.send_signal(signal.SIGKILL)
    assert two.answer().startswith("granted")


def test_a_holder_lives_through_the_death_of_the_daemon(emulator):
    one = Holder(emulator, "one", 4 * GIB, 1 * GIB)
    assert one.answer().startswith("granted")
    assert one.ask("ready") == "ok"
    first = emulator.daemon_pid()
    os.kill(first, signal.SIGKILL)
    # The holder itself brings the daemon back; no other command has to.
    assert one.ask(f"burst 0 {FOR_EVER}") == "ok"
    assert emulator.daemon_pid() != first
    lease = emulator.lease("one")
    assert lease["state"] == "busy"
    assert lease["charge_bytes"] == 5 * GIB


@pytest.mark.parametrize("turn", range(5))
def test_a_program_under_run_is_found_again_however_soon_the_daemon_is_killed(emulator, turn):
    program = emulator.spawn_brim("run", "--vram", "1GiB", "--name", "first", "--",
                                  "sh", "-c", "echo runs; cat",
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout.readline() == "runs\n"
    killed = emulator.daemon_pid()
    os.kill(killed, signal.SIGKILL)
    started = emulator.brim("daemon", "start")
    assert started.returncode == 0, started.stderr
    assert emulator.daemon_pid() != killed
    assert emulator.lease("first")["charge_bytes"] == GIB
