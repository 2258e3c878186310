# SPDX-License-Identifier: Apache-2.0
"""The worker's side of a batch (docs/internals/worker-protocol.md).

    model = load()
    for segment in brim.segments():
        segment.burst("2.1GB")
        model.speak(segment.input, segment.out)

A segment that the loop's body leaves without an answer is done. An exception that leaves the loop
ends the worker as any exception ends a program: the batch tries the segment again, in a fresh
process. `with segment:` inside the loop says "failed" instead and goes on with the next one.
"""
from __future__ import annotations

import os
import threading
from ctypes import byref, c_void_p

from . import _library as c
from ._calls import report_callback_failure
from ._errors import Cancelled, StateError, from_code
from ._size import parse_size

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, List, Optional

    from ._size import Size

_flush_callbacks: List[Callable[[], Any]] = []
_worker: Optional["_Worker"] = None


def _flush(_handle: Any, _user: Any) -> int:
    for callback in list(_flush_callbacks):
        try:
            if callback() is False:
                return -1
        except BaseException:
            report_callback_failure("a callback of brim.on_flush", callback)
            return -1
    return 0


_on_flush = c.FLUSH(_flush)


def on_flush(callback: Callable[[], Any]) -> Callable[[], Any]:
    """Decorator: called between segments when the batch wants the device memory made whole again.
    Move the model to the host, empty the cache, move it back. An exception, or False, means that it
    could not; the worker is then restarted."""
    _flush_callbacks.append(callback)
    if _worker is not None:
        _worker.offer_flush()
    return callback


class Segment:
    """One piece of the batch's input."""

    def __init__(self, worker: "_Worker", found: c.SegmentStruct) -> None:
        self._worker = worker
        #: its place in the input, from 0
        self.index: int = found.index
        #: "000012"
        self.id: str = found.id.decode()
        #: the line, the JSON object as text (see json()), or the file's path
        self.input: str = found.input.decode()
        #: write the result here; the batch puts it in its place
        self.out: str = os.fsdecode(found.out)
        self.is_answered = False

    def json(self) -> Any:
        """The input of a jsonl batch, parsed."""
        import json
        return json.loads(self.input)

    def burst(self, bytes: Optional[Size] = None) -> None:
        """Waits until so many bytes of the claim's burst are granted (None: all of it). They are
        given back at the segment's end."""
        self._worker.burst(0 if bytes is None else parse_size(bytes))

    def done(self) -> None:
        """The result lies complete at `out`. Said by itself at the end of the loop's body."""
        self._answer(self._worker.library.brim_worker_done)

    def failed(self, reason: str) -> None:
        """This segment cannot be done (it is tried again as the batch's `retries` say)."""
        self._answer(self._worker.library.brim_worker_failed,
                     str(reason).replace("\0", " ").encode())

    def _answer(self, function: Callable[..., int], *arguments: Any) -> None:
        if self.is_answered:
            raise StateError(f"segment {self.id} was answered before")
        self.is_answered = True
        self._worker.check(function, *arguments)

    def __enter__(self) -> "Segment":
        return self

    def __exit__(self, kind: Any, error: Any, _trace: Any) -> bool:
        if kind is None:
            if not self.is_answered:
                self.done()
            return False
        if not issubclass(kind, Exception) or issubclass(kind, Cancelled) or self.is_answered:
            return False
        self.failed(f"{kind.__name__}: {error}" if str(error) else kind.__name__)
        return True

    def __repr__(self) -> str:
        return f"<brim.Segment {self.id}>"


class _Worker:
    def __init__(self) -> None:
        self.library = c.load()
        handle = c_void_p()
        code = self.library.brim_worker_open(byref(handle))
        if code < 0:
            raise from_code(code, c.error_text(code),
                            "this program was not started by a batch ($BRIM_FD is not set, or no "
                            "socket); run it with: brim batch run … -- python3 worker.py"
                            if code == -2 else None)
        self.handle: Optional[c_void_p] = handle
        self.gate = threading.Lock()  # between the heartbeat and the end
        self.ended = threading.Event()
        if _flush_callbacks:
            self.offer_flush()

    def check(self, function: Callable[..., int], *arguments: Any) -> int:
        if self.handle is None:
            raise StateError("the batch's segments are over")
        code = function(self.handle, *arguments)
        if code < 0:
            raise from_code(code, c.error_text(code))
        return code

    def offer_flush(self) -> None:
        self.check(self.library.brim_worker_on_flush, _on_flush, None)

    def next(self) -> Optional[Segment]:
        found = c.SegmentStruct()
        if self.check(self.library.brim_worker_next, byref(found)) == 0:
            return None
        return Segment(self, found)

    def burst(self, bytes_: int) -> None:
        code = self.library.brim_worker_burst(self.handle, bytes_)
        if code < 0:
            raise from_code(code, c.error_text(code),
                            "the burst is larger than the claim of this batch allows"
                            if code == -4 else None)

    def beat(self) -> None:
        with self.gate:
            if self.handle is not None:
                self.library.brim_worker_heartbeat(self.handle)

    def start_heart(self) -> None:
        try:
            limit_us = int(os.environ.get("WATCHDOG_USEC", ""))
        except ValueError:
            return
        if limit_us <= 0:
            return
        self.beat()

        def run() -> None:
            while not self.ended.wait(limit_us / 3e6):
                self.beat()

        threading.Thread(target=run, daemon=True, name="brim heartbeat").start()

    def close(self) -> None:
        self.ended.set()
        with self.gate:
            handle, self.handle = self.handle, None
            if handle is not None:
                self.library.brim_worker_close(handle)


def heartbeat() -> None:
    """Tells the batch that this worker lives; only where segments(heartbeat=False) was said."""
    if _worker is not None:
        _worker.beat()


def segments(heartbeat: bool = True) -> Iterator[Segment]:
    """The batch's segments, one after the other, until there are no more. Call it when the model is
    loaded: asking for the first segment tells the batch so.

    Where the batch has a heartbeat limit a thread of its own keeps it, which tells of a process
    that is stopped, deadlocked inside C, or gone. A worker that wants its own loop watched says
    heartbeat=False and calls brim.heartbeat() from it.
    """
    global _worker
    if _worker is not None:
        raise StateError("the batch's segments are taken by another loop of this process")
    worker = _worker = _Worker()
    try:
        if heartbeat:
            worker.start_heart()
        while True:
            segment = worker.next()
            if segment is None:
                return
            yield segment
            if not segment.is_answered:
                segment.done()
    except Cancelled:
        return  # the batch is going, and has taken the segment back
    finally:
        _worker = None
        worker.close()


def _begin_in_child() -> None:
    """The heartbeat's thread is not there any more, and cannot open a gate that it has closed."""
    if _worker is not None:
        _worker.gate = threading.Lock()


os.register_at_fork(after_in_child=_begin_in_child)
