# SPDX-License-Identifier: Apache-2.0
"""A FAKE torch: only what brim.torch and brim.stage touch, over the emulated libcuda. Its pool
keeps freed blocks, as torch's caching allocator does; the driver's numbers are the card's own."""
import ctypes

_libcuda = None
_context = ctypes.c_void_p()
_stats = {"allocated": 0, "reserved": 0, "count": 0}
_pool = []  # (address, bytes) that no tensor uses


def _call(name, *arguments):
    if _context:
        _libcuda.cuCtxSetCurrent(_context)  # each thread has its own
    status = getattr(_libcuda, name)(*arguments)
    if status == 2:
        raise cuda.OutOfMemoryError(f"CUDA out of memory. ({name})")
    assert status == 0, f"{name}: {status}"


def _take(size):
    if not cuda.is_initialized():
        cuda.init()
    found = next((block for block in _pool if block[1] >= size), None)
    if found:
        _pool.remove(found)
    else:
        address = ctypes.c_uint64()
        try:
            _call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        except cuda.OutOfMemoryError:
            cuda.empty_cache()  # and once more, as torch does
            _call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        found = (address.value, size)
        _stats["reserved"] += size
    _stats["allocated"] += found[1]
    _stats["count"] += 1
    return found


class Tensor:
    _block = None

    def __init__(self, size):
        self._block = _take(size)

    def cpu(self):
        if self._block:
            _pool.append(self._block)
            _stats["allocated"] -= self._block[1]
            self._block = None
        return self

    __del__ = cpu


def zeros(count, device=None):
    return Tensor(4 * count)


class cuda:
    class OutOfMemoryError(RuntimeError):
        pass

    is_available = staticmethod(lambda: True)

    @staticmethod
    def is_initialized():
        return _libcuda is not None

    @staticmethod
    def init():
        global _libcuda
        _libcuda = ctypes.CDLL("libcuda.so.1")
        _call("cuInit", 0)
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(_context), 0)

    device_count = staticmethod(lambda: 1)

    @staticmethod
    def memory_allocated(gpu=0):
        return _stats["allocated"]

    @staticmethod
    def memory_reserved(gpu=0):
        return _stats["reserved"]

    @staticmethod
    def memory_stats(gpu=0):
        return {"allocation.all.allocated": _stats["count"]}

    @staticmethod
    def empty_cache():
        while _pool:
            address, size = _pool.pop()
            _call("cuMemFree_v2", ctypes.c_uint64(address))
            _stats["reserved"] -= size
