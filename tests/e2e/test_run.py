# SPDX-License-Identifier: Apache-2.0
"""brim run: a program under a lease, on an emulated card of 12 282 MiB with a reserve of 800 MiB."""
import os
import select
import signal
from subprocess import PIPE

EXAMPLE = "tests/api/libbrim_example"


def hold(emulator, name, vram, *options):
    """A program that holds a lease until its input ends."""
    process = emulator.spawn_brim("run", "--name", name, "--vram", vram, *options, "--", "cat",
                                  stdin=PIPE, stdout=PIPE, stderr=PIPE)
    emulator.events.wait(kind="granted", name=name)
    return process


def kill_daemon(emulator):
    pid = emulator.daemon_pid()
    ended = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)
    return pid


def test_a_claim_larger_than_the_card_ends_at_once_with_123(emulated):
    done = emulated("brim", "run", "--vram", "13GiB", "--", "true")
    assert done.returncode == 123
    assert "13.00 GiB" in done.stderr
    assert "brim run: " in done.stderr


def test_no_room_ends_with_124_and_names_the_holder(emulated):
    done = emulated("brim", "run", "--name", "first", "--vram", "8.9GiB", "--",
                    "brim", "run", "--max-wait", "0", "--vram", "8.9GiB", "--", "true")
    assert done.returncode == 124
    assert "first" in done.stderr
    assert "free" in done.stderr
    assert "800 MiB" in done.stderr


def test_the_status_is_the_commands_own(emulated):
    assert emulated("brim", "run", "--vram", "1GiB", "--", "sh", "-c", "exit 7").returncode == 7
    done = emulated("brim", "run", "--vram", "1GiB", "--", "sh", "-c", "kill -TERM $$")
    assert done.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_the_command_gets_the_gpu_and_the_lease(emulated):
    done = emulated("brim", "run", "--vram", "1GiB", "--", "sh", "-c",
                    "echo $CUDA_VISIBLE_DEVICES $BRIM_LEASE")
    assert done.returncode == 0, done.stderr
    uuid, lease = done.stdout.split()
    assert uuid.startswith("GPU-")
    assert lease[0] == "l" and lease[1:].isdigit()


def test_own_failures_end_with_125_to_127(emulated):
    for arguments, status, words in (
            ((), 125, "COMMAND"),
            (("--", "true"), 125, "--vram"),
            (("--vram", "5", "--", "true"), 125, "5GiB"),
            (("--vram", "1GiB", "--bust", "1GiB", "--", "true"), 125, "--burst"),
            (("--vram", "1GiB", "--gpu", "7", "--", "true"), 125, "7"),
            (("--vram", "1GiB", "--", "/"), 126, "/"),
            (("--vram", "1GiB", "--", "no-such-command"), 127, "no-such-command")):
        done = emulated("brim", "run", *arguments)
        assert done.returncode == status, (arguments, done.stderr)
        assert words in done.stderr


def test_without_a_driver_it_says_how_to_try(bare):
    done = bare.brim("run", "--vram", "1GiB", "--", "true")
    assert done.returncode == 125
    assert "brim emulate" in done.stderr


def test_who_waits_is_granted_when_the_holder_is_killed(emulator):
    first = hold(emulator, "first", "8GiB")
    second = emulator.spawn_brim("run", "--name", "second", "--vram", "8GiB", "--", "echo", "ran",
                                 stdout=PIPE, stderr=PIPE)
    emulator.events.wait(kind="queued", name="second")
    os.kill(first.pid, signal.SIGKILL)
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert out == "ran\n"


def test_a_wait_ends_after_max_wait(emulator):
    hold(emulator, "first", "8GiB")
    done = emulator.brim("run", "--max-wait", "100ms", "--vram", "8GiB", "--", "true")
    assert done.returncode == 124
    assert "first" in done.stderr


def test_a_burst_of_a_program_that_cannot_tell_is_held_for_life(emulator):
    hold(emulator, "first", "4GiB", "--burst", "2GiB")
    lease = emulator.lease("first")
    assert lease["charge_bytes"] == 6 << 30
    assert lease["state"] == "busy"


def test_several_gpus_all_or_none(start_emulator):
    emulator = start_emulator(gpu=("rtx4070ti", "rtx4070ti"))
    done = emulator.brim("run", "--gpu", "0,1", "--vram", "8GiB", "--", "sh", "-c",
                         "echo $CUDA_VISIBLE_DEVICES")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().split(",")) == 2


def test_a_running_program_is_adopted_until_it_ends(emulator):
    program = emulator.spawn("cat", stdin=PIPE)
    done = emulator.brim("run", "--pid", program.pid, "--name", "stray", "--vram", "3GiB")
    assert done.returncode == 0, done.stderr
    assert str(program.pid) in done.stdout
    assert emulator.lease("stray")["pid"] == program.pid
    assert emulator.lease("stray")["charge_bytes"] == 3 << 30
    program.stdin.close()
    program.wait(60)
    emulator.events.wait(kind="drained", name="stray")
    assert emulator.lease("stray") is None


def test_a_process_that_is_not_there_cannot_be_adopted(emulator):
    program = emulator.spawn("true")
    program.wait(60)
    done = emulator.brim("run", "--pid", program.pid, "--vram", "3GiB")
    assert done.returncode == 125
    assert str(program.pid) in done.stderr


def test_programs_go_on_while_the_daemon_is_away(emulator):
    first = hold(emulator, "first", "8GiB")
    kill_daemon(emulator)
    # The next command starts another daemon, which finds the holder by its process.
    done = emulator.brim("run", "--max-wait", "0", "--vram", "8GiB", "--", "true")
    assert done.returncode == 124
    assert "first" in done.stderr
    out, _ = first.communicate("still here", timeout=60)
    assert first.returncode == 0 and out == "still here"


def test_the_daemon_is_started_stopped_and_looked_at(emulated):
    done = emulated("sh", "-c", "brim daemon status; brim daemon start && brim daemon status "
                                "&& brim daemon stop && brim daemon status")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("no daemon runs")
    assert lines[1].startswith("brimd ")
    assert "has ended" in done.stdout
    assert lines[-1].startswith("no daemon runs")


def test_many_that_start_at_once_start_one_daemon(emulator):
    programs = [emulator.spawn_brim("run", "--vram", "100MiB", "--", "true", stderr=PIPE)
                for _ in range(12)]
    for program in programs:
        _, errors = program.communicate(timeout=60)
        assert program.returncode == 0, errors
    started = emulator.brim("events", "--json").stdout.count('"daemon_started"')
    assert started == 1


def test_the_example_of_the_manual_runs(emulated, build_dir):
    done = emulated(build_dir / EXAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_lease_outlives_the_daemon_and_is_taken_up_again(emulator, build_dir):
    client = emulator.spawn(build_dir / "tests/e2e/lease_client", "kept", 4 << 30, 1 << 30, 60000,
                            stdin=PIPE, stdout=PIPE)
    assert client.stdout.readline().startswith("granted")
    client.stdin.write("ready\n")
    client.stdin.flush()
    assert client.stdout.readline() == "ok\n"
    pid = kill_daemon(emulator)
    client.stdin.write("burst 0 30000\n")
    client.stdin.flush()
    assert client.stdout.readline() == "ok\n"
    assert emulator.daemon_pid() != pid
    assert emulator.lease("kept")["charge_bytes"] == 5 << 30
