# SPDX-License-Identifier: Apache-2.0
"""What tests of the daemon's guard share: being another user, and having another's pid."""
import ctypes
import http.client
import json
import os
import signal
import socket

import pytest

from own_daemon import Daemon

NOBODY = 65534
SYS_CLONE3 = 435

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


@pytest.fixture(name="shared")
def make_shared(emulator, short_dir):
    """A brimd of the system scope whose sockets everybody can reach."""
    dirs = [short_dir / "run-brim", short_dir / "lib-brim"]
    daemon = Daemon(emulator, options=("--scope", "system", "--runtime-dir", dirs[0],
                                       "--state-dir", dirs[1]))
    assert daemon.answer == "ready\n"
    daemon.runtime_dir = dirs[0]
    open_to_all(short_dir, dirs[0])
    return daemon


def clone_as(pid):
    """A process with this pid, which must be free: it sleeps. As root only (clone3, set_tid)."""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = (ctypes.c_int32 * 1)(pid)
    arguments = (ctypes.c_uint64 * 11)(0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    child = libc.syscall(SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if child == 0:
        os.execvp("sleep", ["sleep", "1000"])
    if child != pid:
        pytest.skip(f"a pid cannot be chosen here: {os.strerror(ctypes.get_errno())}")
    return child


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
