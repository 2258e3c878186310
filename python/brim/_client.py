# SPDX-License-Identifier: Apache-2.0
"""What brimd tells, as data: brim.ps(), brim.why(), brim.events() (docs/internals/api.md).

HTTP over a unix socket with the standard library alone; libbrim is not needed for it. Where no
daemon runs one is started by the `brim` program.
"""
from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from urllib.parse import quote

from ._errors import Error, NoDaemon

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Optional

_SYSTEM_DIR = "/run/brim"
_PATIENCE_S = 10.0
_START_S = 30.0
_PATH_BYTES = 107  # of a unix socket: sizeof(sun_path) less the end of the string


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: Optional[float]) -> None:
        super().__init__("brimd", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        length = len(os.fsencode(self._path))
        if length > _PATH_BYTES:
            raise NoDaemon(f"{self._path}: the path has {length} bytes, at most {_PATH_BYTES} fit; "
                           "set BRIM_RUNTIME_DIR to a shorter directory")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


def _own_dir() -> str:
    for name, below in (("BRIM_RUNTIME_DIR", ""), ("XDG_RUNTIME_DIR", "brim"),
                        ("HOME", ".local/state/brim/run")):
        if os.environ.get(name):
            return os.path.join(os.environ[name], below) if below else os.environ[name]
    raise NoDaemon("neither BRIM_RUNTIME_DIR, XDG_RUNTIME_DIR nor HOME is set; set "
                   "BRIM_RUNTIME_DIR to a directory of yours")


def find_program(name: str = "brim") -> Optional[str]:
    """The program of this installation: the wheel's, the tree's, or the one in $PATH."""
    here = os.path.dirname(os.path.abspath(__file__))
    tree = os.path.join(here, os.pardir, os.pardir, os.environ.get("BRIM_BUILD", "build"))
    for folder in (os.path.join(here, "_bin"), tree):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return os.path.normpath(path)
    return shutil.which(name)


def _start_daemon() -> None:
    program = find_program()
    if program is None:
        raise NoDaemon("no brimd answers, and there is no `brim` program in $PATH to start one "
                       "with; run: brim daemon start")
    try:
        done = subprocess.run([program, "daemon", "start"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              timeout=_START_S, encoding="utf-8", errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDaemon(f"{program} daemon start: {error}") from None
    if done.returncode != 0:
        raise NoDaemon(done.stderr.strip() or f"{program} daemon start ended with "
                                              f"{done.returncode}")


def _open(target: str, timeout: Optional[float], method: str = "GET",
          body: Optional[str] = None) -> http.client.HTTPResponse:
    """The answer to a request; starts a daemon where none runs."""
    own = os.path.join(_own_dir(), "api.sock")
    for path in (own, os.path.join(_SYSTEM_DIR, "api.sock"), None):
        if path is None:
            _start_daemon()
            path = own
        elif path != own and os.environ.get("BRIM_RUNTIME_DIR"):
            continue
        connection = _Connection(path, timeout)
        try:
            connection.request(method, target, body=body)
            answer = connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            continue
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoDaemon(f"{path}: {error or type(error).__name__}") from None
        if answer.status >= 400:
            text = answer.read().decode("utf-8", "replace")
            connection.close()
            raise Error(_reason(text) or f"{target}: brimd answered with {answer.status}")
        answer.brim_connection = connection  # type: ignore[attr-defined]
        return answer
    raise NoDaemon(f"{own}: no brimd answers, though `brim daemon start` said that it runs")


def _reason(text: str) -> Optional[str]:
    try:
        reason: str = json.loads(text)["error"]
        return reason
    except (ValueError, KeyError, TypeError):
        return None


def request(target: str, method: str = "GET", body: Optional[Dict[str, Any]] = None) -> Any:
    answer = _open(target, _PATIENCE_S, method, None if body is None else json.dumps(body))
    try:
        return json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoDaemon(f"{target}: brimd's answer broke off: {error}") from None
    finally:
        answer.brim_connection.close()  # type: ignore[attr-defined]


def ps() -> Dict[str, Any]:
    """Everything that `brim ps` shows: {"gpus": […], "leases": […], "problem": …, …}. Bytes are ints.
    Starts a daemon where none runs; NoDaemon where none can be started."""
    told: Dict[str, Any] = request("/v1/status")
    return told


def why(what: Optional[str] = None) -> Dict[str, Any]:
    """Why something was refused, waits, or holds memory: a refusal's id ("r12", error.id), a
    lease's id or a name; without it, the newest refusal or who waits now. "text" is for people."""
    told: Dict[str, Any] = request("/v1/why" + ("/" + quote(what, safe="") if what else ""))
    return told


def events(since: int = 0, follow: bool = False) -> Iterator[Dict[str, Any]]:
    """The events after number `since`, oldest first; with follow=True it goes on for ever. Each is
    {"n": number, "at_unix_ms": …, "kind": …, "name": …, "text": …, …}. NoDaemon where brimd goes."""
    answer = _open(f"/v1/events?since={since:d}" + ("&follow=1" if follow else ""),
                   None if follow else _PATIENCE_S)
    return _lines(answer)


def _lines(answer: http.client.HTTPResponse) -> Iterator[Dict[str, Any]]:
    try:
        while True:
            line = answer.readline()
            if not line:
                return
            if line.strip():
                yield json.loads(line)
    except (OSError, http.client.HTTPException) as error:
        raise NoDaemon(f"brimd has gone while its events were read: {error}") from None
    finally:
        answer.brim_connection.close()  # type: ignore[attr-defined]
