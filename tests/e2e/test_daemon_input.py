# SPDX-License-Identifier: Apache-2.0
"""brimd against bad input: frames, clients, paths, options, and ten thousand of them."""
import contextlib
import random
import resource
import socket
import struct

import pytest

import raw_client as raw
from own_daemon import Daemon

GIB = 1 << 30
MIB = 1 << 20


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


def test_when_descriptors_run_out_the_next_one_is_told_and_holders_go_on(emulator):
    daemon = Daemon(emulator, before=("prlimit", "--nofile=160:160"))
    holder = daemon.client()
    assert holder.acquire(name="holder", resident=GIB)["type"] == raw.GRANTED
    others = [daemon.client(is_greeted=False) for _ in range(200)]
    refused = others[-1].receive()
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.LIMIT
    assert "LimitNOFILE" in refused["text"]
    assert holder.ask(raw.READY)["type"] == raw.DONE
    for other in others:
        other.close()
    while daemon.machine.brim("ps").returncode != 0:
        pass
    while (client := daemon.client(is_greeted=False)).ask(
            raw.HELLO, struct.pack("<II64s", 1, 0, b"later"))["type"] != raw.WELCOME:
        client.close()


def test_a_client_whose_last_answer_is_one_too_many_is_dropped(daemon):
    holder = daemon.client()
    holder.acquire(name="holder", resident=9 * GIB)
    ask = raw.claim(name="deaf", resident=9 * GIB, wait_ms=raw.FOR_EVER)
    for count in range(20, 90):
        deaf = daemon.client()
        with contextlib.suppress(ConnectionError):  # dropped before it has said all
            for _ in range(count):
                deaf.send(raw.READY)
            deaf.send(raw.ACQUIRE, ask)
        holder.ask(raw.READY)
        deaf.close()
    while daemon.machine.lease("deaf"):
        pass
