# SPDX-License-Identifier: Apache-2.0
"""What SECURITY.md promises, tried from outside: planted files, odd names, descriptors, a deaf daemon.
Other users are in test_rights.py."""
import array
import json
import os
import re
import signal
import socket
import stat

import pytest

import raw_client as raw
from own_daemon import Daemon
from strangers import ask_api

GIB = 1 << 30


def test_descriptors_that_a_client_sends_are_closed(daemon):
    def count():
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

    client = daemon.client()
    client.acquire(resident=GIB)
    before = count()
    fds = array.array("i", [0] * 8)
    for _ in range(50):
        client.seq += 1
        client.socket.sendmsg([raw.packet(raw.BURST_END, b"", client.seq)],
                              [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        client.receive()
    assert count() == before
    assert client.ask(raw.READY)["type"] == raw.DONE


def test_what_it_writes_is_for_its_user_alone(emulator, short_dir):
    (short_dir / "in.txt").write_text("one line\n")
    done = emulator.brim("batch", "run", "b", "--lines", "in.txt", "--out", "out/${SEGMENT}",
                         "--vram", "1GiB", "--", emulator.build / "tests/e2e/segment_worker", GIB,
                         cwd=short_dir)
    assert done.returncode == 0, done.stderr
    emulator.events.wait(kind="released")
    seen = set()
    for top in (emulator.state_dir, emulator.runtime_dir):
        for path in [top, *top.rglob("*")]:
            info = path.lstat()
            seen.add(path.name)
            assert stat.S_IMODE(info.st_mode) & 0o077 == 0, f"{path}: {info.st_mode:o}"
    assert seen >= {"brimd.sqlite", "events.sqlite", "brimd.log", "batch.db", "batch.log",
                    "worker-1.log", "lease.sock", "api.sock", "brimd.lock"}


def test_arguments_of_programs_are_shown_and_kept_nowhere(emulator):
    secret = "tok-3f9a1c"
    program = emulator.spawn_brim("run", "--vram", "1GiB", "--name", "quiet", "--", "sh", "-c",
                                  "read x", "--token", secret, stdin=-1)
    emulator.events.wait(kind="granted", name="quiet")
    refused = emulator.brim("run", "--vram", "20GiB", "--", "true", f"--password={secret}")
    assert refused.returncode == 123
    shown = [emulator.brim(*words).stdout for words in
             (("ps", "--json"), ("ps",), ("why", "quiet"), ("why",), ("events", "--json"))]
    program.stdin.close()
    assert program.wait(20) in (0, 1)
    emulator.events.wait(kind="released", name="quiet")
    emulator.brim("daemon", "stop")
    kept = [path.read_bytes() for path in emulator.state_dir.rglob("*") if path.is_file()]
    assert all(shown) and kept
    assert secret not in "".join([*shown, refused.stderr])
    assert not any(secret.encode() in data for data in kept)


@pytest.mark.parametrize("name", ["brimd.log", "brimd.lock", "gpu lock"])
def test_a_link_that_somebody_planted_is_not_followed(emulator, short_dir, name):
    victim = short_dir / "victim"
    victim.write_text("as it was")
    if name == "gpu lock":
        uuid = json.loads(emulator.brim("ps", "--json").stdout)["gpus"][0]["uuid"]
        emulator.brim("daemon", "stop")
        planted = short_dir / "locks" / f"brim-{uuid}.lock"
    else:
        planted = (emulator.state_dir if name == "brimd.log" else emulator.runtime_dir) / name
    planted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    planted.symlink_to(victim)
    emulator.brim("run", "--vram", "1GiB", "--max-wait", "0", "--", "true",
                  env={"BRIM_LOCK_DIR": str(short_dir / "locks")})
    assert planted.is_symlink() and victim.read_text() == "as it was"


def test_a_link_where_the_socket_was_is_not_followed_and_not_removed(daemon):
    daemon.kill()
    path = daemon.runtime_dir / "lease.sock"
    path.unlink()
    path.symlink_to("/dev/null")
    second = Daemon(daemon.machine)
    assert second.process.wait(20) == 1 and str(path) in second.answer
    assert path.is_symlink()


EVIL = "\x1b[2J\x1b]0;owned\x07\nkind=granted uid=0\r\x7f\u202eevil"
# What a terminal acts on, and what turns a line's direction; tables may have colours only on one.
HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_what_strangers_write_does_nothing_to_a_terminal_or_a_log(daemon, short_dir):
    machine = daemon.machine
    for name in (EVIL.encode(), b"\xff\xfe", "\u202egnp.exe".encode(), "\x9b31m".encode(), b"a\"b=\\"):
        client = daemon.client()
        client.send(raw.ACQUIRE, claim_of(name))
        client.receive()  # granted, refused, or the end
        client.close()
    assert ask_api(machine.runtime_dir / "api.sock", "POST", "/v1/note", {"text": EVIL})[0] in (200, 400)
    program = short_dir / "na\x1b[31m\nme"
    program.symlink_to("/bin/sleep")
    machine.spawn_brim("run", "--vram", "1GiB", "--", program, "1000")
    machine.events.wait(kind="granted")
    worker = 'printf "\\033[2Jbad\\007\\n" >&2; exit 3'
    (short_dir / "in.txt").write_text("one\n")
    batch = machine.brim("batch", "run", "b", "--lines", "in.txt", "--out", "out/${SEGMENT}", "--vram",
                         "1GiB", "--retries", "0", "--each", "--", "sh", "-c", worker, cwd=short_dir)
    shown = [batch.stdout, batch.stderr]
    for words in (("ps",), ("events",), ("why",), ("batch", "show", "b"), ("batch", "ls"), ("logs", "b")):
        done = machine.brim(*words)
        shown += [done.stdout, done.stderr]
        as_json = machine.brim(*words, "--json").stdout  # for programs: any text, escaped as JSON is
        shown.append(re.sub("[\x7f-\U0010ffff]", "", as_json))
    found = [(HARMFUL.search(text)[0], text) for text in shown if HARMFUL.search(text)]
    assert not found, found
    log = (machine.state_dir / "brimd-test.log").read_text(errors="replace")
    assert not HARMFUL.search(log) and all(line.startswith("<") for line in log.splitlines())


def claim_of(name):
    """A claim whose name is any bytes."""
    return raw.claim(name="", resident=GIB)[:-448] + name.ljust(64, b"\0")[:64] + bytes(384)


def test_descriptors_that_come_to_the_api_socket_are_closed(daemon):
    def count():
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

    daemon.machine.brim("ps")
    before = count()
    for _ in range(20):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.connect(str(daemon.runtime_dir / "api.sock"))
        socket.send_fds(link, [b"GET /v1/why HTTP/1.1\r\nHost: brim\r\nConnection: close\r\n\r\n"], [0] * 8)
        while link.recv(4096):
            pass
        link.close()
    assert count() < before + 8  # the last connection may not be gone yet; 160 descriptors are


def test_there_is_no_door_in_the_network_and_none_without_a_name(daemon):
    links = {os.readlink(f"/proc/{daemon.process.pid}/fd/{fd}")
             for fd in os.listdir(f"/proc/{daemon.process.pid}/fd")}
    ours = {link[len("socket:["):-1] for link in links if link.startswith("socket:[")}
    unix = [line.split() for line in open("/proc/net/unix", encoding="utf-8")]
    paths = {words[7] for words in unix if words[6] in ours and len(words) > 7}
    assert paths == {str(daemon.runtime_dir / name) for name in ("lease.sock", "api.sock")}
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        with open(f"/proc/net/{kind}", encoding="utf-8") as table:
            assert not [line for line in table if ours & set(line.split())]


@pytest.mark.not_sanitized  # it is a matter of time-outs
def test_a_daemon_that_does_not_answer_keeps_nobody_for_ever(daemon):
    machine = daemon.machine
    client = daemon.client()
    client.acquire(name="kept", resident=GIB)
    daemon.process.send_signal(signal.SIGSTOP)
    done = machine.brim("run", "--vram", "1GiB", "--max-wait", "0", "--", "true")
    assert done.returncode == 125 and "brimd did not answer" in done.stderr
    daemon.process.send_signal(signal.SIGCONT)
    assert client.ask(raw.READY)["type"] == raw.DONE
    assert machine.lease("kept")["state"] == "idle"
