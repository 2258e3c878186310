# SPDX-License-Identifier: Apache-2.0
"""What SECURITY.md promises, tried from outside: by another user, by floods, by planted files."""
import array
import http.client
import json
import os
import resource
import socket
import stat
import struct

import pytest

import raw_client as raw
from own_daemon import Daemon

GIB = 1 << 30
NOBODY = 65534

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


def as_nobody(act, meanwhile=lambda: None):
    """What act() returns in a process of another user, which stays until meanwhile() has ended."""
    told, tell = os.pipe()
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(hold)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(tell, json.dumps(act()).encode() + b"\n")
            os.read(held, 1)
            status = 0
        except BaseException as trouble:  # nothing of pytest's may run in this process
            os.write(tell, json.dumps(repr(trouble)).encode() + b"\n")
        finally:
            os._exit(status)
    os.close(tell)
    os.close(held)
    try:
        with os.fdopen(told) as stream:
            text = stream.readline()
        meanwhile()
    finally:
        os.close(hold)
        _, status = os.waitpid(child, 0)
    assert status == 0, text
    return json.loads(text)


def ask_api(path, verb, route, body=None):
    """The status and the text of one request to the API socket."""
    link = http.client.HTTPConnection("brim")
    link.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.sock.settimeout(20)
    link.sock.connect(str(path))
    link.request(verb, route, body=json.dumps(body) if body else None,
                 headers={"Content-Type": "application/json"})
    answer = link.getresponse()
    return answer.status, answer.read().decode()


def open_to_all(short_dir, runtime_dir):
    """As if the other user were in the group that may enter: only the daemon's own checks are left."""
    short_dir.chmod(0o755)
    for path in [runtime_dir, *runtime_dir.parents]:
        if path == short_dir:
            break
        path.chmod(0o755)
    for name in ("lease.sock", "api.sock"):
        (runtime_dir / name).chmod(0o666)


@pytest.fixture
def shared(emulator, short_dir):
    """A brimd of the system scope whose sockets everybody can reach."""
    dirs = [short_dir / "run-brim", short_dir / "lib-brim"]
    daemon = Daemon(emulator, options=("--scope", "system", "--runtime-dir", dirs[0],
                                       "--state-dir", dirs[1]))
    assert daemon.answer == "ready\n"
    daemon.runtime_dir = dirs[0]
    open_to_all(short_dir, dirs[0])
    return daemon


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
