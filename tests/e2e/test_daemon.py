# SPDX-License-Identifier: Apache-2.0
"""brimd itself: grants, ends of holders, bad input, limits, restarts."""
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

import raw_client as raw
from raw_client import RawClient

GIB = 1 << 30
MIB = 1 << 20


class Daemon:
    """A brimd of the test's own, on an emulated machine."""

    def __init__(self, machine, program=None, options=(), env=None):
        self.machine = machine
        ready, their = os.pipe()
        self.process = machine.spawn(program or machine.build / "brimd", "--log-level", "debug",
                                     "--ready-fd", their, *options, env=env,
                                     stderr=(machine.state_dir / "brimd-test.log").open("ab"),
                                     pass_fds=(their,))
        os.close(their)
        with os.fdopen(ready) as stream:
            self.answer = stream.read()
        self.runtime_dir = machine.runtime_dir

    def client(self, **options):
        return RawClient(self.runtime_dir, **options)

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0


@pytest.fixture
def daemon(emulator):
    daemon = Daemon(emulator)
    assert daemon.answer == "ready\n"
    return daemon


def test_what_fits_is_granted_and_what_does_not_is_refused_with_the_holder_named(daemon):
    first, second = daemon.client(), daemon.client()
    granted = first.acquire(name="first", resident=int(8.9 * GIB))
    assert granted["type"] == raw.GRANTED and granted["gpus"].startswith("GPU-")
    refused = second.acquire(name="second", resident=int(8.9 * GIB))
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NO_ROOM
    assert "first" in refused["text"] and "reserve 800 MiB" in refused["text"]
    why = daemon.machine.brim("why", f"r{refused['refusal']}")
    assert "first" in why.stdout


def test_what_can_never_fit_is_refused_at_once_whatever_the_wait(daemon):
    refused = daemon.client().acquire(resident=13 * GIB, wait_ms=raw.FOR_EVER)
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NEVER_FITS


def test_a_waiter_gets_its_turn_in_order_when_the_holder_is_killed(daemon):
    holder = daemon.machine.spawn(daemon.machine.build / "tests/e2e/lease_client", "holder",
                                  9 * GIB, 0, 0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline().startswith("granted")
    first, second = daemon.client(), daemon.client()
    assert first.acquire(name="w1", resident=8 * GIB, wait_ms=60000)["type"] == raw.QUEUED
    queued = second.acquire(name="w2", resident=8 * GIB, wait_ms=60000)
    assert queued["type"] == raw.QUEUED and queued["position"] == 1
    killed_at = time.monotonic()
    holder.kill()
    assert first.wait(raw.GRANTED)["charge"] == 8 * GIB
    assert time.monotonic() - killed_at < 2
    first.close()
    second.wait(raw.GRANTED)


def test_bursts_that_do_not_fit_together_are_taken_one_after_the_other(daemon):
    holders = [daemon.client(), daemon.client()]
    for number, holder in enumerate(holders):
        assert holder.acquire(name=f"h{number}", resident=4 * GIB,
                              burst=int(2.1 * GIB))["type"] == raw.GRANTED
        assert holder.ask(raw.READY)["type"] == raw.DONE
    assert holders[0].burst()["type"] == raw.BURST_GRANTED
    assert holders[1].burst(wait_ms=raw.FOR_EVER)["type"] == raw.QUEUED
    assert holders[0].ask(raw.BURST_END)["type"] == raw.DONE
    assert holders[1].wait(raw.BURST_GRANTED)["bytes"] == int(2.1 * GIB)
    third = daemon.client().acquire(name="third", resident=5200000000, burst=2100000000)
    assert third["type"] == raw.REFUSED and "burst" in third["text"]


def test_a_waiting_burst_can_be_cancelled(daemon):
    holders = [daemon.client(), daemon.client()]
    for holder in holders:
        holder.acquire(resident=4 * GIB, burst=int(2.1 * GIB))
        holder.ask(raw.READY)
    holders[0].burst()
    seq = holders[1].send(raw.BURST_BEGIN, struct.pack("<QQ", 0, raw.FOR_EVER))
    holders[1].wait(raw.QUEUED, seq)
    end = holders[1].send(raw.BURST_END)
    assert holders[1].wait(raw.REFUSED)["seq"] == seq
    assert holders[1].receive() == {"type": raw.DONE, "seq": end}


@pytest.mark.parametrize("frame", [
    pytest.param(b"x", id="short"),
    pytest.param(b"\0" * 16, id="zeros"),
    pytest.param(b"B" * 100000, id="long"),
    pytest.param(raw.packet(raw.ACQUIRE, b"\xff" * 496), id="no_text_end"),
    pytest.param(raw.packet(999), id="unknown_type"),
    pytest.param(raw.packet(raw.GRANTED, bytes(408)), id="of_a_daemon"),
    pytest.param(raw.packet(raw.ACQUIRE, raw.claim(name="\x1b[31m")), id="control_character"),
])
def test_a_bad_frame_ends_its_own_connection_and_no_other(daemon, frame):
    good, bad = daemon.client(), daemon.client()
    good.acquire(name="good", resident=GIB)
    bad.socket.send(frame)
    assert bad.is_closed()
    assert good.ask(raw.READY)["type"] == raw.DONE


def test_random_frames_do_no_harm(daemon):
    good = daemon.client()
    good.acquire(name="good", resident=GIB)
    dice = random.Random(7)
    for _ in range(300):
        bad = daemon.client(is_greeted=dice.random() < 0.5)
        kind = dice.choice([raw.HELLO, raw.ACQUIRE, raw.REATTACH, raw.BIND, raw.BURST_BEGIN])
        frame = bytearray(raw.packet(kind, dice.randbytes(dice.choice([8, 16, 72, 496, 520]))))
        if dice.random() < 0.3:
            frame = frame[:dice.randrange(1, len(frame))]
        bad.socket.send(frame)
        bad.close()
    assert good.ask(raw.READY)["type"] == raw.DONE


def test_requests_out_of_order_are_refused_and_do_no_harm(daemon):
    client = daemon.client()
    for kind in (raw.READY, raw.BURST_END, raw.IDLE):
        assert client.ask(kind)["code"] == raw.STATE
    assert client.acquire(resident=GIB)["type"] == raw.GRANTED
    assert client.acquire(resident=GIB)["code"] == raw.STATE
    assert client.ask(raw.BURST_END)["code"] == raw.STATE
    assert client.ask(raw.RESIZE, struct.pack("<QQ", 2 * GIB, 0))["type"] == raw.DONE
    assert client.ask(raw.RESIZE, struct.pack("<QQ", 20 * GIB, 0))["type"] == raw.REFUSED
    assert client.ask(raw.RELEASE)["type"] == raw.DONE
    # The connection stays: another lease may follow, also after one that was refused.
    assert client.acquire(resident=20 * GIB)["type"] == raw.REFUSED
    assert client.acquire(resident=GIB)["type"] == raw.GRANTED


def test_a_client_that_never_reads_is_dropped(daemon):
    client = daemon.client()
    client.acquire(name="deaf", resident=GIB)
    daemon.machine.events.wait(kind="granted", name="deaf")
    client.socket.settimeout(None)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            client.send(raw.BURST_END)
    daemon.machine.events.wait(kind="released", name="deaf")


def test_who_says_nothing_is_let_go(daemon):
    silent = daemon.client(is_greeted=False)
    assert silent.is_closed()


def test_another_version_is_told_both_versions_and_the_way_out(daemon):
    client = daemon.client(is_greeted=False)
    client.socket.send(raw.packet(raw.HELLO, struct.pack("<II64s", 1, 0, b"new"), version=9))
    refused = client.receive()
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.VERSION_REFUSED
    assert "version 1" in refused["text"] and "brim daemon stop" in refused["text"]
    assert client.is_closed()


def test_a_second_daemon_says_who_is_there_and_ends(daemon):
    second = Daemon(daemon.machine)
    assert second.process.wait(20) == 1
    assert f"pid {daemon.process.pid}" in second.answer
    assert daemon.client().acquire(resident=GIB)["type"] == raw.GRANTED


def test_a_socket_path_that_is_taken_is_an_error_that_names_it(emulator):
    taken = emulator.runtime_dir / "lease.sock"
    emulator.runtime_dir.mkdir(mode=0o700, exist_ok=True)
    taken.write_text("not a socket")
    daemon = Daemon(emulator)
    assert daemon.process.wait(20) == 1
    assert str(taken) in daemon.answer and "not a socket" in daemon.answer
    assert taken.read_text() == "not a socket"


def test_a_socket_that_a_dead_daemon_left_is_replaced(daemon):
    daemon.kill()
    assert (daemon.runtime_dir / "lease.sock").exists()
    assert Daemon(daemon.machine).answer == "ready\n"
    assert daemon.client().acquire(resident=GIB)["type"] == raw.GRANTED


def test_a_path_too_long_for_a_socket_is_an_error_that_says_so(emulator, short_dir):
    long_dir = short_dir / ("d" * 120)
    daemon = Daemon(emulator, options=("--runtime-dir", long_dir))
    assert daemon.process.wait(20) == 1
    assert "BRIM_RUNTIME_DIR" in daemon.answer


def test_a_directory_that_is_open_to_others_is_refused(emulator, short_dir):
    shared = short_dir / "shared"
    shared.mkdir(mode=0o755)
    daemon = Daemon(emulator, options=("--runtime-dir", shared))
    assert daemon.process.wait(20) == 1
    assert "chmod 700" in daemon.answer


def test_sigterm_ends_it_cleanly_and_programs_go_on(daemon):
    client = daemon.client()
    client.acquire(resident=GIB)
    daemon.stop()
    assert not (daemon.runtime_dir / "lease.sock").exists()
    assert not (daemon.runtime_dir / "api.sock").exists()


def test_a_lease_held_by_its_process_outlives_the_connection_and_the_daemon(daemon):
    program = daemon.machine.spawn("sleep", "1000")
    client = daemon.client()
    granted = client.acquire(name="kept", resident=3 * GIB, flags=raw.HELD_BY_PROCESS,
                             pid=program.pid)
    client.close()
    assert daemon.machine.lease("kept")["charge_bytes"] == 3 * GIB
    for end in (daemon.stop, daemon.kill):
        end()
        daemon = Daemon(daemon.machine)
        lease = daemon.machine.lease("kept")
        assert lease["id"] == f"l{granted['lease']}" and lease["charge_bytes"] == 3 * GIB
    program.kill()
    program.wait(20)
    daemon.machine.events.wait(kind="released", name="kept")


def test_a_holder_that_comes_back_has_its_lease_and_its_state(daemon):
    client = daemon.client()
    granted = client.acquire(name="back", resident=3 * GIB, burst=GIB)
    client.ask(raw.READY)
    client.burst()
    daemon.stop()
    again = Daemon(daemon.machine)
    restored = again.machine.lease("back")
    assert restored["state"] == "busy" and not restored["connected"]
    client = again.client()
    answer = client.ask(raw.REATTACH,
                        struct.pack("<QIIQ", granted["lease"], raw.BUSY, 0, GIB)
                        + raw.claim(name="back", resident=3 * GIB, burst=GIB,
                                    gpu=granted["gpus"]))
    assert answer["type"] == raw.GRANTED and answer["lease"] == granted["lease"]
    assert again.machine.lease("back")["connected"]
    assert client.ask(raw.BURST_END)["type"] == raw.DONE
    client.close()
    again.machine.events.wait(kind="released", name="back")


def test_a_holder_that_the_journal_does_not_know_is_believed(daemon):
    client = daemon.client()
    granted = client.acquire(name="lost", resident=3 * GIB)
    daemon.kill()
    for path in daemon.machine.state_dir.glob("brimd.sqlite*"):
        path.unlink()
    again = Daemon(daemon.machine)
    client = again.client()
    answer = client.ask(raw.REATTACH,
                        struct.pack("<QIIQ", granted["lease"], raw.STATE_IDLE, 0, 0)
                        + raw.claim(name="lost", resident=3 * GIB, gpu=granted["gpus"]))
    assert answer["type"] == raw.GRANTED and answer["charge"] == 3 * GIB
    assert again.machine.lease("lost")["state"] == "idle"


def test_ids_go_on_after_a_restart(daemon):
    first = daemon.client().acquire(resident=GIB)
    daemon.stop()
    second = Daemon(daemon.machine).client().acquire(resident=GIB)
    assert second["lease"] > first["lease"]


def test_a_refusal_can_be_explained_after_a_restart(daemon):
    refused = daemon.client().acquire(name="greedy", resident=20 * GIB)
    daemon.stop()
    Daemon(daemon.machine)
    why = daemon.machine.brim("why", f"r{refused['refusal']}")
    assert why.returncode == 0 and "greedy" in why.stdout and "20.0" in why.stdout


def test_a_broken_journal_is_moved_aside(daemon):
    daemon.kill()
    for path in daemon.machine.state_dir.glob("brimd.sqlite*"):
        path.unlink()
    journal = daemon.machine.state_dir / "brimd.sqlite"
    journal.write_bytes(b"this is no database at all" * 100)
    again = Daemon(daemon.machine)
    assert again.answer == "ready\n"
    assert (daemon.machine.state_dir / "brimd.sqlite.broken").exists()
    assert again.client().acquire(resident=GIB)["type"] == raw.GRANTED


def test_one_gpu_has_one_arbiter_and_the_other_daemon_says_who(daemon, short_dir):
    other_dirs = [short_dir / "r2", short_dir / "s2"]
    other = Daemon(daemon.machine, options=("--runtime-dir", other_dirs[0],
                                            "--state-dir", other_dirs[1]))
    assert other.answer == "ready\n"
    other.runtime_dir = other_dirs[0]
    refused = other.client().acquire(resident=GIB)
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NO_GPU
    assert f"pid {daemon.process.pid}" in refused["text"]
    done = daemon.machine.brim("ps", "--json", env={"BRIM_RUNTIME_DIR": str(other_dirs[0])})
    assert f"pid {daemon.process.pid}" in done.stdout
    daemon.stop()
    while other.client().acquire(resident=GIB)["type"] != raw.GRANTED:
        pass  # it tries again every few seconds


def fake_helper(machine, directory, script):
    """A directory with brimd and a brim-helper of our own beside it."""
    directory.mkdir()
    shutil.copy2(machine.build / "brimd", directory / "brimd")
    helper = directory / "brim-helper"
    helper.write_text(script)
    helper.chmod(0o755)
    return directory / "brimd"


def test_a_helper_that_hangs_is_killed_and_nothing_is_granted(emulator, short_dir):
    brimd = fake_helper(emulator, short_dir / "bin",
                        "#!/bin/sh\necho $$ >> $BRIM_STATE_DIR/helpers\nexec sleep 1000\n")
    daemon = Daemon(emulator, program=brimd)
    assert daemon.answer == "ready\n"
    refused = daemon.client().acquire(resident=GIB)
    assert refused["type"] == raw.REFUSED
    assert "brim-helper" in refused["text"]
    assert "brim-helper" in emulator.ps()["problem"]
    daemon.stop()
    for pid in (emulator.state_dir / "helpers").read_text().split():
        assert not os.path.exists(f"/proc/{pid}/exe")


def test_a_helper_that_dies_comes_back_and_so_do_the_facts(daemon):
    client = daemon.client()
    client.acquire(name="holder", resident=GIB)
    children = f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children"
    helper = int(open(children, encoding="ascii").read().split()[0])
    os.kill(helper, signal.SIGKILL)
    daemon.machine.events.wait(kind="facts_failed")
    daemon.machine.events.wait(kind="facts_back")
    assert daemon.client().acquire(name="later", resident=GIB)["type"] == raw.GRANTED


def test_a_running_program_can_be_adopted(daemon):
    program = daemon.machine.spawn("sleep", "1000")
    client = daemon.client()
    granted = client.acquire(name="adopted", resident=11 * GIB,
                             flags=raw.ADOPT | raw.HELD_BY_PROCESS, pid=program.pid)
    assert granted["type"] == raw.GRANTED
    client.close()
    assert daemon.machine.lease("adopted")["pid"] == program.pid
    program.kill()
    program.wait(20)
    daemon.machine.events.wait(kind="released", name="adopted")


def test_stop_ends_a_program_that_does_not_listen(daemon):
    program = daemon.machine.spawn("sleep", "1000")
    client = daemon.client()
    client.acquire(name="deaf", resident=GIB, flags=raw.HELD_BY_PROCESS, pid=program.pid)
    assert daemon.machine.brim("stop", "deaf").returncode == 0
    assert program.wait(20) == -signal.SIGTERM


def test_stop_asks_a_program_that_listens(daemon):
    client = daemon.client()
    client.acquire(name="listens", resident=GIB)
    assert daemon.machine.brim("stop", "listens").returncode == 0
    assert "brim stop" in client.wait(raw.STOP)["text"]


def test_a_process_of_nobody_cannot_be_named(daemon):
    ended = daemon.machine.spawn("true")
    ended.wait(20)
    refused = daemon.client().acquire(resident=GIB, flags=raw.ADOPT, pid=ended.pid)
    assert refused["type"] == raw.REFUSED and str(ended.pid) in refused["text"]


def test_ten_thousand_connections_are_served(daemon, is_sanitized):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10000, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if is_sanitized:
        count = min(count, 2000)
    hello = raw.packet(raw.HELLO, struct.pack("<II64s", 1, 0, b"many"))
    links = []
    for _ in range(count):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.settimeout(20)
        link.connect(str(daemon.runtime_dir / "lease.sock"))
        link.send(hello)
        links.append(link)
    for link in links:
        assert len(link.recv(4096)) == 32
    ask = raw.packet(raw.ACQUIRE, raw.claim(resident=MIB))
    for link in links[:1000]:
        link.send(ask)
        assert struct.unpack_from(raw.HEAD, link.recv(4096))[2] == raw.GRANTED
    for link in links:
        link.close()
    assert daemon.client().acquire(resident=11 * GIB, wait_ms=20000)["type"] in (raw.GRANTED,
                                                                                raw.QUEUED)


def hog(machine, *before, size="5GB"):
    """A program that holds device memory, perhaps under another one; waits until it has it."""
    program = machine.spawn(*before, machine.build / "tests" / "hog", "--bytes", size,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout.readline().startswith("holding")
    return program


def test_a_program_without_a_lease_is_foreign_by_its_name(daemon):
    program = hog(daemon.machine)
    gpu = daemon.machine.ps()["gpus"][0]
    foreign = gpu["foreign"]
    assert [(one["pid"], one["name"]) for one in foreign] == [(program.pid, "hog")]
    assert gpu["foreign_bytes"] == foreign[0]["bytes"] >= 5 * 10**9
    refused = daemon.client().acquire(resident=8 * GIB)
    assert refused["type"] == raw.REFUSED and "foreign" in refused["text"]
    program.kill()
    assert daemon.client().acquire(resident=8 * GIB, wait_ms=20000)["type"] in (raw.GRANTED,
                                                                               raw.QUEUED)


def test_foreign_memory_that_comes_back_lets_a_waiter_in(daemon):
    program = hog(daemon.machine)
    client = daemon.client()
    assert client.acquire(resident=8 * GIB, wait_ms=60000)["type"] == raw.QUEUED
    program.kill()
    assert client.wait(raw.GRANTED)["charge"] == 8 * GIB


def wait_for_measure(machine, name, least):
    """Facts come five times a second; each look is one step."""
    deadline = time.monotonic() + 20
    while True:
        lease = machine.lease(name)
        if lease and lease["measured_bytes"] >= least:
            return lease
        assert time.monotonic() < deadline, lease


@pytest.mark.parametrize("command", [
    pytest.param([], id="itself"),
    pytest.param(["sh", "-c", '"$@"; true', "sh"], id="child"),
    pytest.param(["sh", "-c", '(exec 3<&0; setsid sh -c \'"$@" <&3; exit 0\' sh "$@" &) '
                              '; exec sleep 1000', "sh"], id="left_its_parents"),
])
def test_the_bytes_of_a_program_under_a_lease_are_its_own(daemon, command):
    hog(daemon.machine, daemon.machine.build / "brim", "run", "--vram", "6GiB", "--name", "own",
        "--", *command)
    lease = wait_for_measure(daemon.machine, "own", 5 * 10**9)
    assert lease["overdraft_bytes"] == 0
    gpu = daemon.machine.ps()["gpus"][0]
    assert gpu["foreign"] == [] and gpu["foreign_bytes"] == 0


def test_more_than_was_asked_for_is_an_overdraft_and_an_event(daemon):
    events = daemon.machine.events
    hog(daemon.machine, daemon.machine.build / "brim", "run", "--vram", "3GiB", "--name", "over",
        "--")
    event = events.wait(kind="overdraft", name="over")
    assert event["bytes"] > 10**9
    assert wait_for_measure(daemon.machine, "over", 5 * 10**9)["charge_bytes"] >= 5 * 10**9


def test_bytes_bound_to_a_worker_follow_it(daemon):
    client = daemon.client()
    client.acquire(name="batch", resident=6 * GIB)
    worker = hog(daemon.machine)
    assert client.ask(raw.BIND, struct.pack("<IIQ", worker.pid, 0, 0))["type"] == raw.DONE
    wait_for_measure(daemon.machine, "batch", 5 * 10**9)
    assert daemon.machine.ps()["gpus"][0]["foreign_bytes"] == 0


def test_a_helper_that_stops_answering_is_replaced(daemon):
    client = daemon.client()
    client.acquire(name="holder", resident=GIB)
    events = daemon.machine.events
    children = f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children"
    helper = int(open(children, encoding="ascii").read().split()[0])
    os.kill(helper, signal.SIGSTOP)
    failed = events.wait(kind="facts_failed")
    assert "2 s" in failed["text"]
    events.wait(kind="facts_back")
    assert not os.path.exists(f"/proc/{helper}/exe")


def test_the_system_scope_has_a_socket_for_its_group(emulator, short_dir):
    dirs = [short_dir / "run-brim", short_dir / "lib-brim"]
    daemon = Daemon(emulator, options=("--scope", "system", "--runtime-dir", dirs[0],
                                       "--state-dir", dirs[1]))
    assert daemon.answer == "ready\n"
    assert dirs[0].stat().st_mode & 0o777 == 0o750
    assert (dirs[0] / "lease.sock").stat().st_mode & 0o777 == 0o660
    assert (dirs[1] / "brimd.sqlite").stat().st_mode & 0o777 == 0o600
    daemon.runtime_dir = dirs[0]
    assert daemon.client().acquire(resident=GIB)["type"] == raw.GRANTED


@pytest.mark.parametrize("arguments, said", [
    (["--scope", "everybody"], "user or system"),
    (["--reserve", "800"], "what?"),
    (["--runtime-dir", "here"], "absolute"),
    (["--log-level", "loud"], "debug"),
    (["now"], "no arguments"),
    (["--ready-fd", "77"], "descriptor"),
])
def test_a_wrong_option_is_said_with_the_way_out(emulator, arguments, said):
    done = emulator.run(emulator.build / "brimd", *arguments)
    assert done.returncode == 2 and said in done.stderr


def test_the_reserve_is_as_large_as_was_said(emulator):
    daemon = Daemon(emulator, options=("--reserve", "2GiB"))
    assert emulator.ps()["gpus"][0]["reserve_bytes"] == 2 * GIB
    assert daemon.client().acquire(resident=int(10.5 * GIB))["code"] == raw.NEVER_FITS
