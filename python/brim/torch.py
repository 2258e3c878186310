# SPDX-License-Identifier: Apache-2.0
"""PyTorch: give back what its caching allocator keeps, without a change to the model's code.

    import brim.torch
    with brim.lease("server", resident="6GiB", burst="4GiB") as lease:
        brim.torch.attach(lease)

torch frees tensors into a pool of its own and keeps that pool from everybody else on the gpu: other
programs, and in this one TensorRT or anything that calls cudaMalloc. attach() makes the pool
answer trims, and starts a janitor that empties it when nobody needs it. The laws of both: never
inside a burst of this process, never while a session is open, never where CUDA has not been
started, and never a synchronisation on a gpu that works.
"""
from __future__ import annotations

import gc
import os
import sys
import threading
import time

from . import _lease, _session
from ._errors import Error
from ._size import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, TypeVar

    from ._lease import Lease
    from ._size import Size

    _T = TypeVar("_T")

IDLE_BYTES = 512 << 20
IDLE_S = 5.0
_RECLAIM_S = 2.0
_janitor: Optional["Janitor"] = None


def _cuda() -> Any:
    """torch.cuda where it has been started; None otherwise. Neither imports torch nor starts it."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _is_busy() -> bool:
    return _session.session_count() > 0 or any(lease.in_burst for lease in list(_lease._held))


def pool_bytes() -> int:
    """What torch has reserved and no tensor uses, over all gpus."""
    cuda = _cuda()
    if cuda is None:
        return 0
    return sum(cuda.memory_reserved(gpu) - cuda.memory_allocated(gpu)
               for gpu in range(cuda.device_count()))


def trim() -> int:
    """Collects garbage and empties torch's pool. The bytes that torch has given to the driver."""
    cuda = _cuda()
    if cuda is None:
        return 0
    def reserved() -> int:
        return sum(cuda.memory_reserved(gpu) for gpu in range(cuda.device_count()))
    before = reserved()
    gc.collect()
    cuda.empty_cache()
    return max(0, before - reserved())


def _trim_unless_busy(_wanted_bytes: int = 0) -> int:
    return 0 if _is_busy() else trim()


def memory() -> List[Dict[str, Optional[int]]]:
    """For each gpu what torch says, and for the process what the driver says:
    [{"gpu", "allocated_bytes", "reserved_bytes", "driver_bytes"}]. driver_bytes counts all gpus and
    the CUDA contexts, as nvidia-smi does; None where the driver does not tell."""
    from ._stage import driver_bytes
    cuda, measured = _cuda(), driver_bytes()
    if cuda is None:
        return []
    return [{"gpu": gpu, "allocated_bytes": cuda.memory_allocated(gpu),
             "reserved_bytes": cuda.memory_reserved(gpu), "driver_bytes": measured}
            for gpu in range(cuda.device_count())]


class Janitor:
    """Trims when the pool has stayed larger than idle_bytes for idle_s without a session, a burst
    or a single allocation in between."""

    def __init__(self, idle_bytes: int = IDLE_BYTES, idle_s: float = IDLE_S) -> None:
        self.idle_bytes, self.idle_s = idle_bytes, idle_s
        self._seen: Any = None
        self._quiet_s = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="brim janitor")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()

    def _run(self) -> None:
        step_s = self.idle_s / 5
        while not self._end.wait(step_s):
            try:
                self.look(step_s)
            except Exception as error:  # a guest's thread: nobody is helped by its traceback
                from ._note import note
                note(f"the janitor of pid {os.getpid()} gave up: {type(error).__name__}: {error}")
                return

    def look(self, passed_s: float) -> int:
        """One look, so many seconds after the last one; the bytes that were given back."""
        cuda = _cuda()
        if cuda is None or _is_busy() or pool_bytes() <= self.idle_bytes:
            self._seen, self._quiet_s = None, 0.0
            return 0
        activity = [cuda.memory_stats(gpu).get("allocation.all.allocated")
                    for gpu in range(cuda.device_count())]
        if activity != self._seen:
            self._seen, self._quiet_s = activity, 0.0
            return 0
        self._quiet_s += passed_s
        if self._quiet_s < self.idle_s:
            return 0
        self._quiet_s = 0.0
        return trim()


def _forget_in_child() -> None:
    """fork() copies no thread."""
    global _janitor
    _janitor = None


os.register_at_fork(after_in_child=_forget_in_child)


def start_janitor(idle_bytes: Size = IDLE_BYTES, idle_s: float = IDLE_S) -> Janitor:
    """The process's one janitor; started at the first call."""
    global _janitor
    if _janitor is None:
        _janitor = Janitor(parse_size(idle_bytes), idle_s)
        _session.on_idle(_trim_unless_busy)
        _janitor.start()
    return _janitor


def devices(lease: Lease) -> List[str]:
    """The gpus that this lease was granted, as torch names them: ["cuda:1"]. torch counts those of
    CUDA_VISIBLE_DEVICES; where it tells no UUIDs (before 2.4), or knows none of the lease's,
    ["cuda"]. Starts CUDA."""
    cuda = sys.modules["torch"].cuda
    granted, found = lease.gpu.split(","), []
    for gpu in range(cuda.device_count()):
        try:
            uuid = str(cuda.get_device_properties(gpu).uuid)
        except AttributeError:
            break
        if uuid in granted or f"GPU-{uuid}" in granted:
            found.append(f"cuda:{gpu}")
    return found or ["cuda"]


def attach(lease: Lease, janitor: bool = True, idle_bytes: Size = IDLE_BYTES,
           idle_s: float = IDLE_S) -> None:
    """Lets torch's pool answer the lease's trims, starts the janitor, and lets functions under
    `@lease.burst()` try once more after torch.cuda.OutOfMemoryError."""
    lease.on_trim(_trim_unless_busy)
    lease.on_failure = retry_after
    if janitor:
        start_janitor(idle_bytes, idle_s)


def flush(*modules: Any) -> None:
    """Lets a batch's flush move these modules to the host, empty the pool, and move them back to
    the gpu where they were."""
    from ._worker import on_flush

    @on_flush
    def move() -> None:
        devices = [next(module.parameters()).device for module in modules]
        for module in modules:
            module.cpu()
        trim()
        for module, device in zip(modules, devices):
            module.to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is torch.cuda.OutOfMemoryError; imports no torch."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    kind = getattr(cuda, "OutOfMemoryError", None)
    return kind is not None and isinstance(error, kind)


def retry_after(error: BaseException) -> bool:
    """Whether it makes sense to try again: the error was torch's, and memory was made free for it:
    our own pool first, then those of the gpu's idle holders, which brimd asks."""
    if not is_out_of_memory(error):
        return False
    # The failed call's frames hold its tensors.
    error.__traceback__ = None
    trim()
    try:
        _ask_neighbours()
    except Error:
        pass  # without a daemon our own pool is all that there is
    return True


def retry(function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """function(*args, **kwargs), and once more where torch was out of memory. For use inside a
    `with lease.burst():`; `@lease.burst()` does it by itself after attach()."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if not retry_after(error):
            raise
    # Outside of `except`, or the first error would keep the failed call's tensors alive.
    return function(*args, **kwargs)


def _ask_neighbours() -> None:
    """Asks the idle holders on our gpus to trim; waits a moment until the driver shows it."""
    from ._client import request
    from ._stage import fresh_ps
    own = os.getpid()
    told = fresh_ps()
    gpus = {gpu for lease in told["leases"] if lease["pid"] == own for gpu in lease["gpus"]}
    idle = {lease["name"] for lease in told["leases"]
            if lease["pid"] != own and lease["state"] == "idle" and gpus & set(lease["gpus"])}
    if not idle:
        return
    def used() -> int:
        return sum(gpu["used_bytes"] for gpu in fresh_ps()["gpus"] if gpu["index"] in gpus)
    before = used()
    for name in idle:
        try:
            request("/v1/trim", "POST", {"name": name})
        except Error:
            pass  # it has just ended
    began = time.monotonic()
    while used() >= before and time.monotonic() - began < _RECLAIM_S:
        pass  # each look waits for a fresh sample
