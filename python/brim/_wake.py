# SPDX-License-Identifier: Apache-2.0
"""The thread of a lease, which makes the library's steps while nobody waits, and how it and those
that wait wake each other (see _lease.py)."""
from __future__ import annotations

import os
import select
import time

from ._errors import Error

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any

    from ._calls import Calls
    from ._lease import Lease

HOLD_OFF_S = 0.05  # a trim is answered so much later at most, after a burst


class Waiting:
    """While it lasts, the lease's own thread tells this one of each step that it makes."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def __enter__(self) -> None:
        self._lease._waiter_count += 1

    def __exit__(self, *_: Any) -> None:
        self._lease._waiter_count -= 1
        self._lease._waited_s = time.monotonic()


class Pipe:
    """Wakes a poll. Closed when the last of those that use it has let go of it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def write(self) -> None:
        try:
            os.write(self.writing, b".")
        except BlockingIOError:
            pass  # full: whoever reads is woken anyway

    def drain(self) -> None:
        try:
            os.read(self.reading, 512)
        except BlockingIOError:
            pass

    def __del__(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


def dispatch(lease: Lease, calls: Calls, end: Pipe) -> None:
    """The thread of a lease: makes the library's steps while nobody waits."""
    # The lease's descriptor is closed at the release, so this thread polls a copy.
    try:
        watched = os.dup(calls.fd())
    except (Error, OSError):
        return
    try:
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        poller.register(end.reading, select.POLLIN)
        ending = select.poll()
        ending.register(end.reading, select.POLLIN)
        while calls.is_open:
            # A thread that takes burst after burst makes the steps itself: woken by the same
            # messages, this one would only be in its way.
            if time.monotonic() - lease._waited_s < HOLD_OFF_S:
                ending.poll(HOLD_OFF_S * 1000)
                continue
            poller.poll()
            calls.dispatch()
            lease._tell_waiter()
    except Error:
        pass  # released; or lost, which the program's next call is told
    finally:
        os.close(watched)
