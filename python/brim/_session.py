# SPDX-License-Identifier: Apache-2.0
"""Sessions: from a client's first request to its last. Between sessions a server is idle, and what
its allocator keeps for later is memory that others could use. Janitors (brim.torch) hang on it."""
from __future__ import annotations

import os
import threading

from ._calls import report_callback_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List

_lock = threading.Lock()
_count = 0
_on_idle: List[Callable[[], Any]] = []


class session:
    """`with brim.session():` around one client's visit; `async with` too. When the last one ends,
    after the block's frame has let go of its tensors, the janitor trims once."""

    def __enter__(self) -> "session":
        global _count
        with _lock:
            _count += 1
        return self

    def __exit__(self, *_: Any) -> None:
        global _count
        with _lock:
            is_last = _count == 1
            _count = max(0, _count - 1)  # a forked child may leave its parent's block
        if is_last:
            for callback in list(_on_idle):
                try:
                    callback()
                except Exception:
                    # The block's own exception, if any, must be the one that leaves it.
                    report_callback_failure("what follows the last brim.session()", callback)

    async def __aenter__(self) -> "session":
        return self.__enter__()

    async def __aexit__(self, *_: Any) -> None:
        self.__exit__()


def session_count() -> int:
    return _count


def on_idle(callback: Callable[[], Any]) -> None:
    """callback() when the last session ends."""
    if callback not in _on_idle:
        _on_idle.append(callback)


def _begin_in_child() -> None:
    """The sessions of a forked process's parent are the parent's, and so is the lock's owner."""
    global _lock, _count
    _lock, _count = threading.Lock(), 0


os.register_at_fork(after_in_child=_begin_in_child)
