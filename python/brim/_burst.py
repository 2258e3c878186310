# SPDX-License-Identifier: Apache-2.0
"""A burst as a block, with `with` or `async with`, or around a function; its lease takes it
(_lease.py)."""
from __future__ import annotations

from . import _library as c
from ._size import parse_size

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, TypeVar

    from ._lease import Lease
    from ._size import Size

    _Function = TypeVar("_Function", bound=Callable[..., Any])


class Burst:
    """The extra bytes of one request; made by lease.burst(). May be entered again and again."""

    __slots__ = ("_lease", "_bytes", "_wait_ms")

    def __init__(self, lease: Optional[Lease], bytes: Optional[Size],
                 max_wait: Optional[float]) -> None:
        self._lease = lease
        self._bytes = 0 if bytes is None else parse_size(bytes)
        self._wait_ms = -1 if max_wait is None else c.wait_ms(max_wait)

    @property
    def lease(self) -> Lease:
        """The lease that it is of; for with_burst(): the one acquired last."""
        from ._lease import current
        return self._lease or current()

    def __enter__(self) -> "Burst":
        self.lease._burst_begin(self._bytes, self._wait_ms)
        return self

    def __exit__(self, *_: Any) -> None:
        self.lease._burst_end()

    async def __aenter__(self) -> "Burst":
        await self.lease._burst_begin_async(self._bytes, self._wait_ms)
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.lease._burst_end()

    def _may_retry(self, error: BaseException) -> bool:
        decide = self.lease.on_failure
        return decide is not None and decide(error)

    def __call__(self, function: _Function) -> _Function:
        """As a decorator. A generator's burst lasts from its first item to its end."""
        from ._wrap import wrap
        return wrap(self, function)


def with_burst(bytes: Optional[Size] = None, max_wait: Optional[float] = None) -> Burst:
    """A burst of current(), looked up when it is entered: for decorators in a module that is
    imported before the lease is there."""
    return Burst(None, bytes, max_wait)
