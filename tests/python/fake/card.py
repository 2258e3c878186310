# SPDX-License-Identifier: Apache-2.0
"""The pool of the FAKES beside this file: it keeps freed blocks, as torch's caching allocator does,
over the emulated libcuda, so that the driver's numbers are the card's own."""
import ctypes

_libcuda = None
_context = ctypes.c_void_p()
_pool = []  # (address, bytes) that nothing uses
stats = {"allocated": 0, "reserved": 0, "count": 0}


class Full(Exception):
    pass


def _call(name, *arguments):
    if _context:
        _libcuda.cuCtxSetCurrent(_context)  # each thread has its own
    status = getattr(_libcuda, name)(*arguments)
    if status == 2:
        raise Full(f"CUDA out of memory. ({name})")
    assert status == 0, f"{name}: {status}"


def is_initialized():
    return _libcuda is not None


def init():
    global _libcuda
    if _libcuda is None:
        _libcuda = ctypes.CDLL("libcuda.so.1")
        _call("cuInit", 0)
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(_context), 0)


def take(size):
    """A block, (address, bytes): one of the pool's, or a new one."""
    init()
    found = next((block for block in _pool if block[1] >= size), None)
    if found:
        _pool.remove(found)
    else:
        address = ctypes.c_uint64()
        try:
            _call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        except Full:
            empty()  # and once more, as torch does
            _call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        found = (address.value, size)
        stats["reserved"] += size
    stats["allocated"] += found[1]
    stats["count"] += 1
    return found


def give(block):
    """Back to the pool, not to the driver."""
    _pool.append(block)
    stats["allocated"] -= block[1]


def empty():
    while _pool:
        address, size = _pool.pop()
        _call("cuMemFree_v2", ctypes.c_uint64(address))
        stats["reserved"] -= size
