# SPDX-License-Identifier: Apache-2.0
"""Brim: ask for GPU memory before you take it.

    import brim

    with brim.lease("llm", resident="5.2GiB", burst="2.1GiB", max_wait=600) as lease:
        model = load()
        lease.ready()
        for request in requests:
            with lease.burst():
                answer(model, request)

A program that holds GPU memory
    lease(name, resident=…, burst=…)   what it asks for: `with` or `async with`; see help(brim.Lease)
    current(), with_burst()            the lease acquired last, and its burst as a decorator
    session()                          a client's visit; between visits unused memory is given back
    stage(name, resident=…)            one part of a pipeline, gone from the gpu at its end
    brim.torch.attach(lease)           PyTorch's pool answers the daemon; see help(brim.torch)
A worker of a batch
    segments(), on_flush(), heartbeat()
What brimd knows, as data
    ps(), why(), events()

Sizes are what nvidia-smi shows, CUDA's context included: "5.2GiB", "12GB", or an int of bytes. Times
are seconds. Leases may be used by several threads; a fork's child has none of its parent's. What
goes wrong is an Error, whose text is for people; Refused carries the numbers, too.

docs/python.md has the rest.
"""
from __future__ import annotations

from ._burst import Burst, with_burst
from ._errors import (Cancelled, Denied, Error, Forked, Invalid, Lost, NeverFits, NoDaemon,
                      NoLibrary, Refused, StateError)
from ._lease import Lease, current, lease
from ._size import format_size, parse_size
from ._worker import Segment, heartbeat, on_flush, segments

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from ._client import events, ps, why
    from ._session import session
    from ._stage import stage

__version__ = "0.1.0"
__all__ = [
    "Burst", "Cancelled", "Denied", "Error", "Forked", "Invalid", "Lease", "Lost", "NeverFits", "NoDaemon",
    "NoLibrary", "Refused", "Segment", "StateError", "current", "events", "format_size",
    "heartbeat", "lease", "on_flush", "parse_size", "ps", "segments", "session", "stage", "why",
    "with_burst",
]

# Imported when they are asked for: http.client alone takes longer to import than all of the rest.
_LATER = {"events": "_client", "ps": "_client", "why": "_client", "session": "_session",
          "stage": "_stage"}


if not TYPE_CHECKING:  # a checker that saw it would take any name for one of ours
    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module
        value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
