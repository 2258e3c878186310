# SPDX-License-Identifier: Apache-2.0
"""libbrim.so.0, by ctypes: where it is found, its structs, its functions.

The structs mirror include/brim/brim.h; tests/python/test_library.py compares every offset with what
a C compiler says. Nothing is loaded before the first call that needs it: `import brim` works on a
machine without the library, and says so only when a lease is asked for.
"""
from __future__ import annotations

import ctypes
import os
from ctypes import (CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_uint32, c_uint64,
                    c_void_p)

from ._errors import NoLibrary

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Iterator, Optional

SONAME = "libbrim.so.0"
VERSION = (0, 1)  # the ABI that these structs are of: major.minor of brim_version()

WAIT_FOREVER = -1
_INFINITE = float("inf")
PRIORITIES = {"normal": 0, "interactive": 1, "background": 2}
QUEUED, LOADING, IDLE, BUSY, REFUSED, LOST = 1, 2, 3, 4, 5, 6
STATE_NAMES = {1: "queued", 2: "loading", 3: "idle", 4: "busy", 5: "refused", 6: "lost"}


class Claim(Structure):
    """struct brim_claim"""
    _fields_ = [
        ("struct_bytes", c_uint32), ("priority", c_uint32), ("name", c_char_p), ("gpu", c_char_p),
        ("resident_bytes", c_uint64), ("burst_bytes", c_uint64), ("load_peak_bytes", c_uint64),
        ("max_wait_ms", c_int64), ("pid", c_uint64), ("flags", c_uint32), ("reserved", c_uint32),
    ]


class Refusal(Structure):
    """struct brim_refusal"""
    _fields_ = [
        ("code", c_int), ("id", c_uint64), ("asked_bytes", c_uint64), ("free_bytes", c_uint64),
        ("capacity_bytes", c_uint64), ("reserve_bytes", c_uint64), ("foreign_bytes", c_uint64),
        ("charged_bytes", c_uint64), ("text", c_char_p),
    ]


class SegmentStruct(Structure):
    """struct brim_segment"""
    _fields_ = [("index", c_uint64), ("id", c_char_p), ("input", c_char_p), ("out", c_char_p)]


TRIM = CFUNCTYPE(c_uint64, c_void_p, c_uint64, c_void_p)
STOP = CFUNCTYPE(None, c_void_p, c_char_p, c_void_p)
FLUSH = CFUNCTYPE(c_int, c_void_p, c_void_p)

# name -> (result, arguments)
_FUNCTIONS = {
    "brim_version": (c_char_p, ()),
    "brim_strerror": (c_char_p, (c_int,)),
    "brim_error_name": (c_char_p, (c_int,)),
    "brim_acquire_start": (c_int, (POINTER(Claim), POINTER(c_void_p))),
    "brim_release": (None, (c_void_p,)),
    "brim_lease_state": (c_int, (c_void_p,)),
    "brim_lease_id": (c_uint64, (c_void_p,)),
    "brim_lease_gpu_uuid": (c_char_p, (c_void_p,)),
    "brim_lease_refusal": (POINTER(Refusal), (c_void_p,)),
    "brim_lease_is_connected": (c_int, (c_void_p,)),
    "brim_lease_fd": (c_int, (c_void_p,)),
    "brim_dispatch": (c_int, (c_void_p,)),
    "brim_ready": (c_int, (c_void_p,)),
    "brim_lease_bind": (c_int, (c_void_p, c_uint64)),
    "brim_burst_start": (c_int, (c_void_p, c_uint64, c_int64)),
    "brim_burst_end": (c_int, (c_void_p,)),
    "brim_idle": (c_int, (c_void_p,)),
    "brim_resize": (c_int, (c_void_p, c_uint64, c_uint64)),
    "brim_on_trim": (None, (c_void_p, TRIM, c_void_p)),
    "brim_on_stop": (None, (c_void_p, STOP, c_void_p)),
    "brim_worker_open": (c_int, (POINTER(c_void_p),)),
    "brim_worker_close": (None, (c_void_p,)),
    "brim_worker_next": (c_int, (c_void_p, POINTER(SegmentStruct))),
    "brim_worker_burst": (c_int, (c_void_p, c_uint64)),
    "brim_worker_done": (c_int, (c_void_p,)),
    "brim_worker_failed": (c_int, (c_void_p, c_char_p)),
    "brim_worker_on_flush": (c_int, (c_void_p, FLUSH, c_void_p)),
    "brim_worker_heartbeat": (c_int, (c_void_p,)),
}

_library: Optional[ctypes.CDLL] = None


def _candidates() -> Iterator[str]:
    """Where it may be, best first. A name without a slash is the dynamic linker's business."""
    named = os.environ.get("BRIM_LIB")
    if named:
        yield named
        return
    here = os.path.dirname(os.path.abspath(__file__))
    yield os.path.join(here, "_bin", SONAME)  # a wheel
    yield os.path.join(here, os.pardir, os.pardir, os.environ.get("BRIM_BUILD", "build"), SONAME)
    yield SONAME


def _open() -> ctypes.CDLL:
    tried = []
    for path in _candidates():
        if os.sep in path and not os.path.exists(path):
            tried.append(f"{os.path.normpath(path)} is not there")
            continue
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            tried.append(str(error))
    raise NoLibrary(f"no {SONAME}: {'; '.join(tried)}. Build it with make, install it with make "
                    "install, or name it with BRIM_LIB=/path/to/libbrim.so.0")


def _declare(library: ctypes.CDLL) -> None:
    for name, (result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise NoLibrary(f"{library._name} has no {name}(): it is not the libbrim that this "
                            "package was made for; install both from the same version") from None
        function.restype, function.argtypes = result, arguments


def load() -> ctypes.CDLL:
    """The library, loaded once; NoLibrary says where it was looked for."""
    global _library
    if _library is None:
        library = _open()
        _declare(library)
        text: str = library.brim_version().decode()
        if tuple(text.split(".")[:2]) != tuple(str(part) for part in VERSION):
            raise NoLibrary(f"{library._name} is version {text}, this package needs "
                            f"{VERSION[0]}.{VERSION[1]}; install both from the same version")
        _library = library
    return _library


def error_text(code: int) -> str:
    text: bytes = load().brim_strerror(code)
    return text.decode()


def wait_ms(max_wait: Optional[float]) -> int:
    if max_wait is None:
        return WAIT_FOREVER
    try:
        if max_wait >= 0:  # not so: NaN
            return WAIT_FOREVER if max_wait == _INFINITE else min(int(max_wait * 1000), 1 << 62)
    except TypeError:
        pass
    raise ValueError(f"max_wait={max_wait!r}: seconds from 0, or None for as long as it takes")


def encode(what: str, text: Optional[str]) -> Optional[bytes]:
    if text is None:
        return None
    data = str(text).encode()
    if not data or b"\0" in data:
        raise ValueError(f"{what}={text!r} is not a {what}")
    return data
