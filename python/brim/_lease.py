# SPDX-License-Identifier: Apache-2.0
"""Leases.

    with brim.lease("llm", resident="5.2GiB", burst="2.1GiB") as lease:
        model = load()
        lease.ready()
        for request in requests:
            with lease.burst():
                answer(model, request)

How it waits: the library never blocks here (see _calls.py). A thread that waits polls the lease's
descriptor, so that Ctrl-C works, and makes the library's steps itself. When no thread waits, one
daemon thread for each lease does (_wake.py; it answers trims, and finds a new daemon when the old
one ends). Both may be woken by the same message; whoever takes it writes to the other's pipe. Under
asyncio there is no thread: the event loop watches the descriptor.
"""
from __future__ import annotations

import atexit
import os
import select
import sys
import threading
from ctypes import sizeof

from . import _library as c
from ._burst import Burst
from ._calls import Calls, release_all
from ._errors import Error, Refused, StateError, from_code
from ._size import parse_size
from ._wake import Pipe, Waiting, dispatch

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Union

    from ._size import Size

SIGNAL_MS = 200  # Ctrl-C ends a wait so much later at most
_NO_SUCH_BURST = (1 << 64) - 1
_RELEASED_MEANWHILE = "the lease was released while this call waited"
_held: List["Lease"] = []  # of this process, in the order in which they were acquired


def _nothing() -> None:
    pass


class Lease:
    """GPU memory that is asked for before it is taken. Made by brim.lease(); see there.

    Every method may be called by any thread, in callbacks too, and none waits for long but
    acquire() and the entering of a burst(). Each raises StateError where the lease is not held (any
    more), Forked in a fork's child, Lost where the daemon has taken it away; release() never does.
    """

    def __init__(self, name: Optional[str] = None, *, resident: Size, burst: Size = 0,
                 load_peak: Size = 0, priority: str = "normal",
                 gpu: Union[str, int, None] = None, max_wait: Optional[float] = None) -> None:
        if priority not in c.PRIORITIES:
            raise ValueError(f"priority={priority!r} is none of {', '.join(c.PRIORITIES)}")
        self.name = name or os.path.basename(sys.argv[0] or "") or "python"
        self._resident_bytes = parse_size(resident)
        self._burst_bytes = parse_size(burst)
        self._load_peak_bytes = parse_size(load_peak)
        self._priority = priority
        self._gpu = None if gpu is None else str(gpu)
        self._wait_ms = c.wait_ms(max_wait)
        c.encode("name", self.name), c.encode("gpu", self._gpu)
        self._calls: Optional[Calls] = None
        self._trims: List[Callable[[int], Optional[int]]] = []
        self._stops: List[Callable[[str], Any]] = []
        self._wake: Optional[Pipe] = None  # wakes the thread that waits
        self._end: Optional[Pipe] = None  # ends the lease's own thread
        self._waiter_count = 0
        self._waited_s = 0.0  # when a wait was over last
        self._poller: Any = None  # of the wake and the lease's descriptor; taken while it is used
        self._loop: Any = None
        self._futures: List[Any] = []  # asyncio: (is_over, future)
        #: OutOfMemory helpers and janitors ask it: is a burst in progress in this process?
        self.in_burst = False
        #: on_failure(error): whether a function under @lease.burst() is to be tried once more
        self.on_failure: Optional[Callable[[BaseException], bool]] = None

    # -- acquire and release

    def _claim(self) -> c.Claim:
        claim = c.Claim()
        claim.struct_bytes = sizeof(c.Claim)
        claim.priority = c.PRIORITIES[self._priority]
        claim.name = c.encode("name", self.name)
        claim.gpu = c.encode("gpu", self._gpu)
        claim.resident_bytes = self._resident_bytes
        claim.burst_bytes = self._burst_bytes
        claim.load_peak_bytes = self._load_peak_bytes
        claim.max_wait_ms = self._wait_ms
        return claim

    def _start(self) -> Calls:
        if self._calls is not None and self._calls.is_open:
            raise StateError(f'the lease "{self.name}" is held already')
        calls = Calls()
        calls.trim_callbacks, calls.stop_callbacks = self._trims, self._stops
        calls.acquire_start(self._claim())
        wake, end = Pipe(), Pipe()
        calls.on_released = lambda: self._on_released(calls, wake, end)
        self._wake, self._end, self._poller = wake, end, None
        self._calls, self.in_burst = calls, False
        return calls

    def _is_acquired(self) -> bool:
        """Or an exception that says why it will not be."""
        calls = self._open_calls()
        state = calls.state()
        if state == c.QUEUED:
            return False
        if state in (c.REFUSED, c.LOST):
            raise calls.refusal() or from_code(-15, c.error_text(-15))
        return True

    def acquire(self) -> "Lease":
        """Waits until it is granted, at most max_wait; `with` does it."""
        calls = self._start()
        try:
            with Waiting(self):
                self._wait(self._is_acquired)
        except BaseException:
            self.release()
            raise
        self._on_acquired()
        end = self._end
        if end is not None:  # None: another thread has released it already
            threading.Thread(target=dispatch, args=(self, calls, end), daemon=True,
                             name=f"brim {self.name}").start()
        return self

    async def acquire_async(self) -> "Lease":
        """The same for asyncio; `async with` does it."""
        import asyncio
        calls = self._start()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(calls.fd(), self._on_readable)
        try:
            await self._wait_async(self._is_acquired)
        except BaseException:
            self.release()
            raise
        self._on_acquired()
        return self

    def _on_acquired(self) -> None:
        _held.append(self)

    def release(self) -> None:
        """Gives everything back, ends a burst, and wakes who waits with Cancelled. A second time does
        nothing; a signal handler may call it."""
        calls = self._calls
        if calls is None:
            return
        if self._loop is not None and calls.is_open and not self._loop.is_closed():
            self._loop.remove_reader(calls.fd())
        calls.release()

    def _on_released(self, calls: Calls, wake: Pipe, end: Pipe) -> None:
        wake.write()
        end.write()
        # Whoever waits holds its pipe itself. Without this they would wait for the collector.
        calls.on_released = _nothing
        if self._calls is not calls:
            return  # acquired again meanwhile, by another thread
        self.in_burst = False
        if self in _held:
            _held.remove(self)
        self._wake = self._end = self._poller = None
        loop, self._loop = self._loop, None
        if loop is not None and self._futures and not loop.is_closed():
            loop.call_soon_threadsafe(self._settle)  # whoever releases may be another thread

    def __enter__(self) -> "Lease":
        return self.acquire()

    def __exit__(self, *_: Any) -> None:
        self.release()

    async def __aenter__(self) -> "Lease":
        return await self.acquire_async()

    async def __aexit__(self, *_: Any) -> None:
        self.release()

    # -- what the program tells

    def ready(self) -> None:
        """The model is loaded: from now on the resident bytes are charged, not the load peak."""
        calls = self._open_calls()
        calls.check(calls._library.brim_ready)

    def burst(self, bytes: Optional[Size] = None,
              max_wait: Optional[float] = None) -> "Burst":
        """The extra bytes of one request: `with`, `async with`, or a decorator.

        bytes: at most the claim's burst (None: all of it); max_wait: seconds, None for as long as
        it takes. The first burst also says ready() where the program did not. Entering raises
        Refused where there was no room in time, StateError where this lease is in a burst already.
        """
        return Burst(self, bytes, max_wait)

    def idle(self) -> None:
        """Nothing is in progress here: ends a burst, if any, and allows a trim."""
        calls = self._open_calls()
        calls.check(calls._library.brim_idle)
        self.in_burst = False

    def resize(self, resident: Optional[Size] = None, burst: Optional[Size] = None) -> None:
        """Changes the claim; None leaves a part as it is. Less is always granted; more may be
        Refused, does not wait, and then nothing changes."""
        calls = self._open_calls()
        resident_bytes = self._resident_bytes if resident is None else parse_size(resident)
        burst_bytes = self._burst_bytes if burst is None else parse_size(burst)
        calls.check(calls._library.brim_resize, resident_bytes, burst_bytes)
        self._resident_bytes, self._burst_bytes = resident_bytes, burst_bytes
        self._tell_waiter()

    def bind(self, pid: int) -> None:
        """The bytes are used by this process and its children, not by this program."""
        calls = self._open_calls()
        calls.check(calls._library.brim_lease_bind, pid)
        self._tell_waiter()

    def on_trim(self, callback: Callable[[int], Optional[int]]) -> Callable[[int], Optional[int]]:
        """callback(wanted_bytes) frees what it can and returns how many bytes. Never called during
        a burst; in the lease's own thread, under asyncio in the loop's. Also a decorator."""
        if self._calls is not None and self._calls.is_open:
            self._calls.add_trim(callback)
        else:
            self._trims.append(callback)
        return callback

    def on_stop(self, callback: Callable[[str], Any]) -> Callable[[str], Any]:
        """callback(reason): finish what is at hand, then release. See also stop_reason."""
        self._stops.append(callback)
        if self.stop_reason is not None:
            callback(self.stop_reason)
        return callback

    # -- what it is

    @property
    def id(self) -> Optional[str]:
        """"l7", as brim ps shows it; None while it is not granted."""
        number = self._ask("brim_lease_id")
        return f"l{number}" if number else None

    @property
    def gpu(self) -> str:
        """The granted gpu's UUID, several with commas; "" while it is not granted."""
        return (self._ask("brim_lease_gpu_uuid") or b"").decode()

    @property
    def state(self) -> str:
        """"queued", "loading", "idle", "busy", "lost", or "released"."""
        return c.STATE_NAMES.get(self._ask("brim_lease_state"), "released")

    @property
    def is_connected(self) -> bool:
        """False while the daemon is away; what was granted stays granted."""
        return bool(self._ask("brim_lease_is_connected"))

    @property
    def stop_reason(self) -> Optional[str]:
        """Why the daemon wants this lease to end at its next boundary; None: it does not."""
        return self._calls.stop_reason if self._calls else None

    def _ask(self, function: str) -> Any:
        calls = self._calls
        if calls is None or not calls.is_open:
            return None
        try:
            return calls.call(getattr(calls._library, function))
        except StateError:
            return None

    def _open_calls(self) -> Calls:
        if self._calls is None:
            raise StateError(f'the lease "{self.name}" is not acquired; use: with brim.lease(…)')
        return self._calls

    def __repr__(self) -> str:
        return f"<brim.Lease {self.name!r} {self.state}>"

    # -- bursts

    def _burst_start(self, bytes_: int, wait_ms: int) -> bool:
        """True: granted already."""
        calls = self._open_calls()
        library = calls._library
        code: int = calls.call(library.brim_burst_start, bytes_, wait_ms)
        if code == -7 and calls.state() == c.LOADING:
            self.ready()
            code = calls.call(library.brim_burst_start, bytes_, wait_ms)
        if code == -7 and calls.is_open:
            raise StateError(f'a burst of "{self.name}" is in progress: bursts do not nest; ask '
                             "for the larger one at the outer place, or take a second lease")
        if code == -2:
            raise from_code(-2, "", f"a burst of {bytes_} bytes is more than the claim's "
                                    f"{self._burst_bytes}; lease.resize(burst=…) changes the claim")
        if code < 0:
            raise calls.error(code)
        return code == 0

    def _is_bursting(self) -> bool:
        calls = self._open_calls()
        state = calls.state()
        if state == c.BUSY:
            return True
        if state == c.LOST:
            raise from_code(-15, c.error_text(-15))
        # A burst that nobody can take: STATE while one waits, else INVALID, and nothing changes.
        if calls.call(calls._library.brim_burst_start, _NO_SUCH_BURST, 0) == -7:
            return calls.state() == c.BUSY
        raise calls.refusal() or from_code(-14, "the burst was ended by another thread while this "
                                                "one waited for it")

    def _burst_begin(self, bytes_: int, wait_ms: int) -> None:
        with Waiting(self):
            if not self._burst_start(bytes_, wait_ms):
                try:
                    self._wait(self._is_bursting, is_new=True)
                except Refused:
                    raise
                except BaseException:
                    self._burst_cancel()
                    raise
        self.in_burst = True

    async def _burst_begin_async(self, bytes_: int, wait_ms: int) -> None:
        if not self._burst_start(bytes_, wait_ms):
            try:
                await self._wait_async(self._is_bursting)
            except Refused:
                raise
            except BaseException:
                self._burst_cancel()
                raise
        self.in_burst = True

    def _burst_cancel(self) -> None:
        try:
            calls = self._open_calls()
            calls.call(calls._library.brim_burst_end)
        except Error:
            pass  # released or lost meanwhile: there is nothing left to give back

    def _burst_end(self) -> None:
        self.in_burst = False
        self._burst_cancel()

    # -- waiting

    def _tell_waiter(self) -> None:
        wake = self._wake
        if self._waiter_count and wake:
            wake.write()

    def _wait(self, is_over: Callable[[], bool], is_new: bool = False) -> None:
        """Until is_over() is true or raises; makes the library's steps meanwhile. is_new: what it
        waits for was asked for after the waiting began, so that no answer can have passed by."""
        if self._loop is not None:
            raise StateError("this lease is asyncio's: write `async with` here")
        calls, wake = self._open_calls(), self._wake
        if wake is None:
            raise from_code(-14, _RELEASED_MEANWHILE)
        poller, self._poller = self._poller, None
        if poller is None:
            poller = select.poll()
            poller.register(calls.fd(), select.POLLIN)
            poller.register(wake.reading, select.POLLIN)
        # A signal that comes just before the poll, or to another thread, does not interrupt it; its
        # handler runs in the main thread, after the poll.
        is_main = threading.current_thread() is threading.main_thread()
        try:
            while is_new or not is_over():
                is_new = False
                for fd, _ in poller.poll(SIGNAL_MS if is_main else None):
                    if fd == wake.reading:
                        wake.drain()
                calls.dispatch()
        except StateError:
            if calls.is_open:
                raise
            raise from_code(-14, _RELEASED_MEANWHILE) from None
        if self._wake is wake:
            self._poller = poller

    def _on_readable(self) -> None:
        try:
            self._open_calls().dispatch()
        except Error:
            pass  # the waiters' own questions find out why
        self._settle()

    def _settle(self) -> None:
        for entry in list(self._futures):
            is_over, future = entry
            if future.done():
                continue
            try:
                if is_over():
                    future.set_result(None)
            except StateError:
                future.set_exception(from_code(-14, "the lease was released while this waited"))
            except Exception as error:
                future.set_exception(error)

    async def _wait_async(self, is_over: Callable[[], bool]) -> None:
        import asyncio
        if self._loop is not asyncio.get_running_loop():
            raise StateError("this lease was not acquired in this event loop")
        if is_over():
            return
        entry = (is_over, self._loop.create_future())
        self._futures.append(entry)
        try:
            await entry[1]
        finally:
            self._futures.remove(entry)


def lease(name: Optional[str] = None, *, resident: Size, burst: Size = 0, load_peak: Size = 0,
          priority: str = "normal", gpu: Union[str, int, None] = None,
          max_wait: Optional[float] = None) -> Lease:
    """A lease on GPU memory; `with` or `async with` acquires it and gives it back.

    name       shown by brim ps; default: the program's
    resident   what the program holds all the time once it is loaded, CUDA's context included
    burst      the most that one request takes beyond it
    load_peak  the most while it loads, where that is more than resident
    priority   "interactive", "normal" or "background"
    gpu        an index or a UUID, several with commas; default: where it fits best
    max_wait   seconds to wait for room; 0: not at all, None: for as long as it takes

    Sizes are bytes as nvidia-smi shows them: a text with a unit ("5.2GiB") or an int. Raises
    Refused with the whole reason where there is no room in that time, NeverFits where there never
    will be, NoDaemon or NoLibrary where Brim itself is missing.
    """
    return Lease(name, resident=resident, burst=burst, load_peak=load_peak, priority=priority,
                 gpu=gpu, max_wait=max_wait)


def current() -> Lease:
    """The lease that this process acquired last and still holds."""
    if not _held:
        raise StateError("this process holds no lease; use: with brim.lease(…)")
    return _held[-1]


os.register_at_fork(after_in_child=_held.clear)
atexit.register(release_all)
