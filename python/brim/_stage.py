# SPDX-License-Identifier: Apache-2.0
"""Stages: the parts of a pipeline that come one after the other and never need the gpu at once.

    with brim.stage("encoder", resident="24GiB") as s:
        encoder = s.keep(load_encoder())
        latent = encoder(prompt)

The memory is granted before the block runs. In every way out of it what was kept is moved to the
host, dropped, and torch's pool emptied; then the driver is asked whether it is so. What is left
over is told, and is an event of the daemon's: what one stage leaves is the next one's OOM.
"""
from __future__ import annotations

import gc
import os
import sys
import threading
import time

from ._calls import report_callback_failure
from ._errors import Error
from ._lease import Lease
from ._note import note
from ._size import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Tuple, TypeVar, Union

    from ._size import Size

    _T = TypeVar("_T")

FRESH_S = 2.0
RESIDUE_BYTES = 64 << 20  # kernels and workspaces that CUDA loads with the first use and keeps


def fresh_ps() -> Any:
    """brim.ps() on facts that the driver was asked for after this call began. brimd asks it every
    200 ms while there are leases, one question at a time: the first answer that is new may be to an
    older question, the second is not. Where no answer comes, the last one has to do."""
    from ._client import ps
    began, moment = time.monotonic(), threading.Event()
    first_s = None  # when the first new answer came, at the latest
    while True:
        asked_s = time.monotonic()
        told = ps()
        told_s = time.monotonic()
        age_s = max([gpu["facts_age_ms"] for gpu in told["gpus"]], default=0) / 1e3
        if first_s is None and asked_s - age_s > began:
            first_s = told_s - age_s
        elif first_s is not None and asked_s - age_s > first_s + 1e-3:
            return told
        if told_s - began > FRESH_S or told["problem"] or not told["gpus"]:
            return told
        moment.wait(0.02)


def driver_bytes() -> Optional[int]:
    """What the driver shows for this process from now on, by brimd; None where it does not tell."""
    try:
        told = fresh_ps()
    except Error:
        return None
    own = [lease for lease in told["leases"] if lease["pid"] == os.getpid()]
    if not own or not all(gpu["has_process_bytes"] for gpu in told["gpus"]):
        return None
    total_bytes: int = sum(lease["measured_bytes"] for lease in own)
    return total_bytes


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Stage:
    """Made by brim.stage(). `lease` is the lease that the block runs under."""

    def __init__(self, lease: Lease, say: Callable[[str], Any]) -> None:
        self.lease = lease
        self._say = say
        self._kept: List[Tuple[Any, Optional[Callable[[], Any]]]] = []
        self._before: Optional[int] = None
        self._had_context = False  # CUDA's own memory is in _before
        #: after the block: what the driver still shows beyond what was there before it
        self.left_bytes: Optional[int] = None
        self.released_bytes: Optional[int] = None

    def keep(self, thing: _T, release: Optional[Callable[[], Any]] = None) -> _T:
        """Registers a module (or whatever `release` frees) to be given up at the stage's end;
        returns it. The block's own names for it must not be used afterwards."""
        self._kept.append((thing, release))
        return thing

    def __enter__(self) -> "Stage":
        self.lease.acquire()
        return self._begin()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._give_up(error)
        finally:
            self.lease.release()

    async def __aenter__(self) -> "Stage":
        await self.lease.acquire_async()
        await self._in_thread(self._begin)
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        # Here, where the frames of this task run: those that are suspended would be ended by it.
        _clear_frames(error)
        try:
            await self._in_thread(self._give_up, None)
        finally:
            self.lease.release()

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> None:
        """The driver is waited for and models are copied, and the loop has other work meanwhile. A
        cancellation comes out when it is done, not before."""
        import asyncio
        work = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
        cancelled: Optional[BaseException] = None
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError as again:
                cancelled = again
            except Exception:
                pass  # below
        work.result()
        if cancelled is not None:
            self.lease.release()
            raise cancelled

    def _begin(self) -> "Stage":
        try:
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                # A context comes before the measure: it stays as long as the process does.
                from .torch import devices
                for device in devices(self.lease):
                    torch.zeros(1, device=device)
                torch.cuda.empty_cache()
                self._had_context = True
            self._before = driver_bytes()
        except BaseException:
            self.lease.release()
            raise
        return self

    def _give_up(self, error: Optional[BaseException]) -> None:
        began = time.monotonic()
        inside = driver_bytes()
        failures = []
        while self._kept:
            thing, release = self._kept.pop()
            try:
                if release is not None:
                    release()
                elif hasattr(thing, "cpu"):
                    thing.cpu()
                elif hasattr(thing, "to"):  # a pipeline of diffusers
                    thing.to("cpu")
            except Exception as failure:
                failures.append(f"{type(thing).__name__}: {failure}")
            del thing, release
        _clear_frames(error)
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            try:
                torch.cuda.empty_cache()
            except Exception as failure:  # after a failed kernel CUDA answers nothing else
                failures.append(f"torch.cuda.empty_cache: {failure}")
        self._tell(inside, time.monotonic() - began, failures)

    def _tell(self, inside: Optional[int], took_s: float, failures: List[str]) -> None:
        after, name = driver_bytes(), self.lease.name
        if after is None or inside is None or self._before is None:
            text = f"{name}: given up in {took_s:.1f} s; the driver does not say what is left"
        else:
            self.released_bytes = max(0, inside - after)
            self.left_bytes = max(0, after - self._before)
            text = (f"{name}: released {format_size(self.released_bytes)}, "
                    f"{format_size(self.left_bytes)} left, {took_s:.1f} s")
            torch = sys.modules.get("torch")
            if not self._had_context and torch is not None and torch.cuda.is_initialized():
                text += "; the CUDA context is in what is left: import torch before the stage"
        if failures:
            text += "; could not be given up: " + "; ".join(failures)
        try:
            self._say(text)
        except Exception:  # a closed standard error, say: it must not hide the block's own error
            report_callback_failure("the say of brim.stage", self._say)
        if failures or (self.left_bytes or 0) > RESIDUE_BYTES:
            note(f'the stage "{name}" of pid {os.getpid()} left something behind: {text}')


def _clear_frames(error: Optional[BaseException]) -> None:
    """An exception that leaves the block holds the frames whose variables hold the tensors. Those
    that still run keep theirs."""
    import traceback
    seen = set()
    at = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        traceback.clear_frames(at.__traceback__)
        at = at.__cause__ or at.__context__


def stage(name: str, *, resident: Size, burst: Size = 0, priority: str = "normal",
          gpu: Union[str, int, None] = None, max_wait: Optional[float] = None,
          say: Callable[[str], Any] = _say) -> Stage:
    """One stage of a pipeline: `with` or `async with`. The arguments are those of brim.lease();
    `resident` is the most that the stage takes. say(text) gets the one line at its end (default:
    standard error)."""
    return Stage(Lease(name, resident=resident, burst=burst, priority=priority, gpu=gpu,
                       max_wait=max_wait), say)
