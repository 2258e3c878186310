# SPDX-License-Identifier: Apache-2.0
"""A FAKE torch: only what brim.torch and brim.stage touch. Its pool is that of card.py."""
import card


class Tensor:
    _block = None

    def __init__(self, size):
        try:
            self._block = card.take(size)
        except card.Full as full:
            raise cuda.OutOfMemoryError(str(full)) from None

    def cpu(self):
        if self._block:
            card.give(self._block)
            self._block = None
        return self

    __del__ = cpu


def zeros(count, device=None):
    return Tensor(4 * count)


class cuda:
    class OutOfMemoryError(RuntimeError):
        pass

    is_available = staticmethod(lambda: True)
    is_initialized = staticmethod(card.is_initialized)
    init = staticmethod(card.init)
    device_count = staticmethod(lambda: 1)
    memory_allocated = staticmethod(lambda gpu=0: card.stats["allocated"])
    memory_reserved = staticmethod(lambda gpu=0: card.stats["reserved"])
    memory_stats = staticmethod(lambda gpu=0: {"allocation.all.allocated": card.stats["count"]})
    empty_cache = staticmethod(lambda: card.empty())
