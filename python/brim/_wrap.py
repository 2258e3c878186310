# SPDX-License-Identifier: Apache-2.0
"""`@lease.burst()`: a function, whatever its kind, with a burst around all of its work.

The work of a coroutine or a generator (a server that streams its answer) is done after the call
has returned, so the burst goes with the work and not with the call. A generator is not tried again
after a failure: what it has yielded cannot be taken back.
"""
from __future__ import annotations

import inspect
from functools import partial, wraps

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    from ._burst import Burst

    _Function = TypeVar("_Function", bound=Callable[..., Any])


def _may_retry(burst: Burst, error: BaseException) -> bool:
    decide = burst.lease.on_failure
    return decide is not None and decide(error)


def _plain(burst: Burst, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with burst:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if not _may_retry(burst, error):
                    raise
            # Not inside `except`: the error's frames would keep their tensors alive.
            return function(*args, **kwargs)
    return call


def _coroutine(burst: Burst, function: Any) -> Any:
    import asyncio

    async def call(*args: Any, **kwargs: Any) -> Any:
        async with burst:
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                # In a thread: the neighbours are asked, and the loop has other work meanwhile.
                loop = asyncio.get_running_loop()
                if not await loop.run_in_executor(None, _may_retry, burst, error):
                    raise
            return await function(*args, **kwargs)
    return call


def _generator(burst: Burst, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with burst:
            return (yield from function(*args, **kwargs))
    return call


def _async_generator(burst: Burst, function: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        async with burst:
            items = function(*args, **kwargs)
            try:
                async for item in items:
                    yield item
            finally:
                await items.aclose()
    return call


_KINDS = ((inspect.isasyncgenfunction, _async_generator), (inspect.iscoroutinefunction, _coroutine),
          (inspect.isgeneratorfunction, _generator))


def wrap(burst: Burst, function: _Function) -> _Function:
    """The same function under the burst. Also partials, bound methods, and objects that are called
    (a torch module)."""
    worker: Any = function
    while isinstance(worker, partial):
        worker = worker.func
    if not inspect.isroutine(worker) and not inspect.isclass(worker):
        worker = getattr(type(worker), "__call__", worker)  # noqa: B004
    kind = next((make for is_it, make in _KINDS if is_it(worker)), _plain)
    return wraps(function)(kind(burst, function))  # type: ignore[return-value]
