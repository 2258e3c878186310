# SPDX-License-Identifier: Apache-2.0
"""Calls into libbrim on one lease, made safe: the part of a lease that knows about C.

The law of this file: *nobody enters the library with a lease that another thread has freed*. The
library itself allows brim_release() at any time, but only for calls that are already inside. So
every call goes through a gate (a lock), and none of them blocks there: waiting is done outside, on
the lease's descriptor. Only resize() and bind() wait inside, for 3 s at most. The gate knows its
owner, because a signal handler may come in a thread that is inside: it is told so, and does not
wait for itself.

The library runs callbacks inside brim_dispatch(), which means inside the gate. A trampoline opens
the gate while the program's callback runs and closes it after: a callback may do everything, and
one that never returns keeps only the thread that it runs in.

After fork() the child's copy of the gate may be locked by a thread that is not there any more, so
the process id is looked at before the gate.
"""
from __future__ import annotations

import os
import sys
import threading
from ctypes import byref, c_void_p

from . import _library as c
from ._errors import Error, Forked, Refused, StateError, from_code

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

_living: Dict[int, "Calls"] = {}
_next_key = 0


def report_callback_failure(what: str, callback: Any) -> None:
    """An exception in a program's callback has nobody above it: it goes where Python sends such."""
    kind, value, trace = sys.exc_info()
    if sys.unraisablehook is not sys.__unraisablehook__:
        from types import SimpleNamespace
        sys.unraisablehook(SimpleNamespace(exc_type=kind, exc_value=value, exc_traceback=trace,
                                           err_msg=f"Exception ignored in {what}",
                                           object=callback))
        return
    import traceback
    print(f"Exception ignored in {what}: {callback!r}", file=sys.stderr)
    traceback.print_exception(kind, value, trace)


# One trampoline for all leases: a callback of the library's may outlive its Python object.
def _trim(_handle: Any, wanted_bytes: int, key: Optional[int]) -> Any:
    calls = _living.get(key or 0)
    return calls.outside(calls.run_trims, wanted_bytes) if calls else 0


def _stop(_handle: Any, reason: Optional[bytes], key: Optional[int]) -> None:
    calls = _living.get(key or 0)
    if calls:
        calls.outside(calls.run_stops, (reason or b"").decode("utf-8", "replace"))


_on_trim, _on_stop = c.TRIM(_trim), c.STOP(_stop)


class Calls:
    """A lease of libbrim's and the gate in front of it."""

    def __init__(self) -> None:
        global _next_key
        _next_key += 1
        self._key = _next_key
        self._library = c.load()
        self._handle: Optional[c_void_p] = None
        self._pid = os.getpid()
        self._gate = threading.RLock()  # never entered twice: see call()
        self._release_later = False
        self.trim_callbacks: List[Callable[[int], Optional[int]]] = []
        self.stop_callbacks: List[Callable[[str], Any]] = []
        self.stop_reason: Optional[str] = None
        self.on_released: Callable[[], None] = lambda: None

    # -- entering

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(handle, *arguments) in the library. Raises where there is no lease any more."""
        if os.getpid() != self._pid:
            raise from_code(-8, "")
        gate = self._gate
        if gate._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks
            raise StateError("a signal handler interrupted a call on this lease; only release() "
                             "can be called there")
        try:
            with gate:
                if self._handle is None:
                    raise StateError("the lease is not held: it was released, or never acquired")
                return function(self._handle, *arguments)
        finally:
            if self._release_later:
                self.release()

    def check(self, function: Callable[..., int], *arguments: Any) -> int:
        """The same for functions that return a code: 0 or above, or an exception."""
        code: int = self.call(function, *arguments)
        if code < 0:
            raise self.error(code)
        return code

    def outside(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a program's callbacks from inside the library, with the gate open."""
        self._gate.release()
        try:
            return function(*arguments)
        finally:
            self._gate.acquire()

    # -- begin and end

    def acquire_start(self, claim: c.Claim) -> None:
        if self._handle is not None:
            raise StateError("the lease is held already")
        handle = c_void_p()
        self._pid = os.getpid()
        code = self._library.brim_acquire_start(byref(claim), byref(handle))
        if code < 0:
            raise from_code(code, c.error_text(code),
                            "the claim is not possible: its sizes add up to nothing or too much, "
                            "or its name or gpu is too long" if code == -2 else None)
        self._handle = handle
        self._release_later = False
        _living[self._key] = self
        self._library.brim_on_stop(handle, _on_stop, self._key)
        if self.trim_callbacks:
            self._library.brim_on_trim(handle, _on_trim, self._key)

    def release(self) -> None:
        """Gives everything back. Any number of times, from anywhere, also in a fork's child."""
        if os.getpid() != self._pid:
            handle, self._handle = self._handle, None
            if handle is not None:
                self._library.brim_release(handle)  # frees the child's copy, says nothing
            return
        if self._gate._is_owned():  # type: ignore[attr-defined]
            self._release_later = True  # a signal handler inside a call: at its end
            return
        with self._gate:
            handle, self._handle = self._handle, None
            self._release_later = False
            if handle is not None:
                self._library.brim_release(handle)
        if handle is not None:
            _living.pop(self._key, None)
            self.on_released()

    # -- what it says

    @property
    def is_open(self) -> bool:
        return self._handle is not None and os.getpid() == self._pid

    def fd(self) -> int:
        return self.check(self._library.brim_lease_fd)

    def dispatch(self) -> None:
        self.check(self._library.brim_dispatch)

    def state(self) -> int:
        state: int = self.call(self._library.brim_lease_state)
        return state

    def refusal(self) -> Optional[Error]:
        """Why the last request was refused; None where none was, or where it still waits."""
        def read(handle: c_void_p) -> Optional[Error]:
            found = self._library.brim_lease_refusal(handle)
            if not found or found.contents.code == 0:
                return None
            said = found.contents
            text = (said.text or b"").decode("utf-8", "replace") or c.error_text(said.code)
            error = from_code(said.code, text)
            if isinstance(error, Refused):
                error.id = f"r{said.id}" if said.id else None
                for name in ("asked", "free", "capacity", "reserve", "foreign", "charged"):
                    setattr(error, name + "_bytes", getattr(said, name + "_bytes"))
            return error
        refusal: Optional[Error] = self.call(read)
        return refusal

    def error(self, code: int) -> Exception:
        """The exception for a code that a call on this lease has returned."""
        if code in (-3, -4, -9, -10, -13, -5):
            try:
                refusal = self.refusal()
            except (StateError, Forked):
                refusal = None
            if refusal is not None and refusal.code == code:
                return refusal
        return from_code(code, c.error_text(code))

    # -- callbacks

    def add_trim(self, callback: Callable[[int], Optional[int]]) -> None:
        self.trim_callbacks.append(callback)
        if self._handle is not None:
            self.call(self._library.brim_on_trim, _on_trim, self._key)

    def run_trims(self, wanted_bytes: int) -> int:
        freed_bytes = 0
        for callback in list(self.trim_callbacks):
            try:
                freed_bytes += max(0, int(callback(wanted_bytes) or 0))
            except BaseException:
                report_callback_failure("a callback of lease.on_trim", callback)
        return freed_bytes

    def run_stops(self, reason: str) -> None:
        self.stop_reason = reason
        for callback in list(self.stop_callbacks):
            try:
                callback(reason)
            except BaseException:
                report_callback_failure("a callback of lease.on_stop", callback)


def _forget_in_child() -> None:
    """The child's copies of the parent's descriptors go; the parent's leases stay the parent's."""
    for calls in list(_living.values()):
        calls.release()
    _living.clear()


def release_all() -> None:
    for calls in list(_living.values()):
        calls.release()


os.register_at_fork(after_in_child=_forget_in_child)
