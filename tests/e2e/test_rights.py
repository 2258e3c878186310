# SPDX-License-Identifier: Apache-2.0
"""Who may what: SECURITY.md's table and quotas, tried by another user and with another's pid."""
import json
import os
import re
import resource
import signal
import socket
import struct

import pytest

import raw_client as raw
from conftest import TREE
from own_daemon import Daemon
from strangers import as_nobody, ask_api, clone_as, end, make_shared, only_root, open_to_all

__all__ = ["make_shared"]  # a fixture: "shared"
GIB = 1 << 30


@only_root
def test_another_user_is_kept_out_by_the_directory_and_by_the_daemon(daemon, short_dir):
    runtime_dir = daemon.runtime_dir
    short_dir.chmod(0o755)

    def knock():
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            link.connect(str(runtime_dir / "lease.sock"))
        except PermissionError:
            return "no entry"
        return "came in"

    def ask():
        return raw.RawClient(runtime_dir, is_greeted=False).receive()

    assert as_nobody(knock) == "no entry"
    open_to_all(short_dir, runtime_dir)
    refused = as_nobody(ask)
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.DENIED
    assert as_nobody(lambda: ask_api(runtime_dir / "api.sock", "GET", "/v1/status"))[0] == 403
    assert daemon.client().acquire(resident=GIB)["type"] == raw.GRANTED


@only_root
def test_no_verb_of_another_user_reaches_what_is_ours(shared):
    program = shared.machine.spawn("sleep", "1000")
    ours = shared.client()
    lease = ours.acquire(name="ours", resident=GIB)
    gpus, pid = lease["gpus"], program.pid

    def try_all():
        told = {}
        client = shared.client()
        for name, flags in (("held", raw.HELD_BY_PROCESS), ("adopted", raw.ADOPT)):
            told[name] = client.acquire(resident=GIB, flags=flags, pid=pid).get("code")
        told["own"] = client.acquire(name="theirs", resident=GIB)["type"]
        told["bound"] = client.ask(raw.BIND, struct.pack("<IIQ", pid, 0, 0)).get("code")
        again = shared.client().ask(
            raw.REATTACH, struct.pack("<QIIQ", lease["lease"], raw.BUSY, 0, 0)
            + raw.claim(name="ours", resident=GIB, gpu=gpus))
        told["taken_over"] = again.get("lease")
        api = shared.runtime_dir / "api.sock"
        for verb in ("stop", "trim"):
            told[verb] = ask_api(api, "POST", f"/v1/{verb}", {"id": f"l{lease['lease']}"})[0]
        told["shutdown"] = ask_api(api, "POST", "/v1/shutdown", {})[0]
        told["status"] = ask_api(api, "GET", "/v1/status")[0]
        return told

    told = as_nobody(try_all)
    assert told.pop("taken_over") != lease["lease"]
    assert told == {"held": raw.DENIED, "adopted": raw.DENIED, "own": raw.GRANTED,
                    "bound": raw.DENIED, "stop": 403, "trim": 403, "shutdown": 403, "status": 200}
    assert program.poll() is None
    assert ours.ask(raw.READY)["type"] == raw.DONE


@only_root
def test_a_user_that_floods_leaves_room_for_the_others(shared):
    most = 4096
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * most:
        pytest.skip("a hard limit of descriptors too low for a flood")

    links = []

    def flood():
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        hello = raw.packet(raw.HELLO, struct.pack("<II64s", 1, 0, b"flood"))
        for _ in range(most + 1):
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            link.settimeout(20)
            link.connect(str(shared.runtime_dir / "lease.sock"))
            link.send(hello)
            links.append(link)
        answers = [struct.unpack_from(raw.HEAD, link.recv(4096))[2] for link in links]
        return [answers.count(raw.WELCOME), answers.count(raw.REFUSED)]

    def others_are_served():
        assert shared.client().acquire(resident=GIB)["type"] == raw.GRANTED

    assert as_nobody(flood, others_are_served) == [most, 1]


def connection_of_a_dead_process(runtime_dir):
    """A connection that was handed on by the one who made it, and that one's pid."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(str(runtime_dir / "lease.sock"))
        socket.send_fds(theirs, [b"x"], [link.fileno()])
        os._exit(0)
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(child, 0)
    ours.close()
    theirs.close()
    link = socket.socket(fileno=fds[0])
    link.settimeout(20)
    return link, child


@only_root
def test_a_connection_is_not_taken_for_that_of_whoever_has_the_pid_now(daemon):
    link, pid = connection_of_a_dead_process(daemon.runtime_dir)
    stranger = clone_as(pid)
    try:
        link.send(raw.packet(raw.HELLO, struct.pack("<II64s", 1, 0, b"heir")))
        assert link.recv(4096) == b""
    finally:
        end(stranger)
        link.close()


@only_root
def test_a_lease_is_not_restored_for_whoever_has_the_pid_now(daemon):
    machine = daemon.machine
    program = os.fork()
    if program == 0:
        os.execvp("sleep", ["sleep", "1000"])
    daemon.client().acquire(name="old", resident=GIB, flags=raw.HELD_BY_PROCESS, pid=program)
    daemon.stop()
    end(program)
    stranger = clone_as(program)
    try:
        Daemon(machine)
        assert machine.lease("old") is None
        assert machine.brim("stop", "old").returncode == 1
        assert os.waitpid(stranger, os.WNOHANG) == (0, 0)
    finally:
        end(stranger)


def test_a_child_that_talks_along_is_its_parent(daemon):
    """Both have the connection; the lease is the process's that connected, and ends with it."""
    told, tell = os.pipe()
    gate, open_gate = os.pipe()
    parent = os.fork()
    if parent == 0:
        client = daemon.client()
        lease = client.acquire(name="family", resident=GIB, burst=GIB)
        if os.fork() == 0:
            os.close(open_gate)
            states = [client.ask(raw.READY)["type"], client.burst()["type"]]
            os.read(gate, 1)  # its parent is gone
            closed = client.is_closed()
            os.write(tell, json.dumps([lease["lease"], *states, closed]).encode() + b"\n")
        else:
            os.read(gate, 1)
        os._exit(0)
    daemon.machine.events.wait(kind="granted", name="family")
    while daemon.machine.lease("family")["state"] != "busy":
        pass
    os.close(tell)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    daemon.machine.events.wait(kind="released", name="family")
    os.close(gate)
    os.close(open_gate)
    with os.fdopen(told) as stream:
        answer = json.loads(stream.readline())
    assert answer[1:] == [raw.DONE, raw.BURST_GRANTED, True]


@only_root
@pytest.mark.not_sanitized  # a flood is a matter of time
def test_a_user_that_hoards_leases_leaves_room_for_the_others(shared):
    """Those that live with their process outlive their connection, and so the limit of those."""
    most = 4096

    def hoard():
        sizes = []
        while len(sizes) <= most:
            client = shared.client()
            answer = client.acquire(name="small", resident=1 << 20, flags=raw.HELD_BY_PROCESS,
                                    pid=os.getpid())
            sizes.append(answer["type"])
            if answer["type"] == raw.REFUSED:
                sizes.append(answer["code"])
                break
            client.close()
        return [sizes.count(raw.GRANTED), sizes[-1]]

    def others_are_served():
        assert shared.client().acquire(resident=GIB)["type"] == raw.GRANTED

    assert as_nobody(hoard, others_are_served) == [most, raw.LIMIT]


@only_root
def test_a_user_cannot_have_all_the_streams(shared):
    path = shared.runtime_dir / "api.sock"

    def follow_all():
        links, answers = [], []
        for _ in range(17):
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            link.settimeout(20)
            link.connect(str(path))
            link.send(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: brim\r\n\r\n")
            answers.append(link.recv(4096).split()[1].decode())
            links.append(link)
        return answers

    answers = as_nobody(follow_all)
    assert answers == ["200"] * 16 + ["429"]
    assert ask_api(path, "GET", "/v1/status")[0] == 200


VERBS = [("GET", "/v1/status", 200), ("GET", "/v1/why", 200), ("GET", "/v1/fit?resident=1", 200),
         ("GET", "/v1/events", 200), ("GET", "/v1/steps", 200), ("POST", "/v1/stop", 403),
         ("POST", "/v1/trim", 403), ("POST", "/v1/note", 200), ("POST", "/v1/shutdown", 403)]


def test_every_verb_of_the_api_is_in_the_table_of_who_may_what():
    source = (TREE / "src" / "api" / "request.c").read_text()
    table = (TREE / "SECURITY.md").read_text()
    routes = re.findall(r'\{ "(GET|POST)", "(/v1/\w+)"', source)
    assert {(verb, path) for verb, path in routes} == {(verb, route.partition("?")[0])
                                                       for verb, route, _ in VERBS}
    assert all(f"`{verb} {path}`" in table for verb, path in routes)


@only_root
def test_a_verb_of_another_user_gets_what_the_table_says(shared, daemon, short_dir):
    ours = shared.client()
    ours.acquire(name="ours", resident=GIB)
    open_to_all(short_dir, daemon.runtime_dir)

    def status(path, verb, route):
        body = json.dumps({"text": "x"} if route.endswith("note") else {"name": "ours"})
        body = body if verb == "POST" and not route.endswith("shutdown") else ""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(20)
            link.connect(str(path))
            link.sendall(f"{verb} {route} HTTP/1.1\r\nHost: brim\r\nContent-Type: application/json\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            return int(link.recv(4096).split()[1])

    def try_all():
        return [[status(directory / "api.sock", verb, route) for verb, route, _ in VERBS]
                for directory in (shared.runtime_dir, daemon.runtime_dir)]

    assert as_nobody(try_all) == [[code for _, _, code in VERBS], [403] * len(VERBS)]
    assert ours.ask(raw.READY)["type"] == raw.DONE
