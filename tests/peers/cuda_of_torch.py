# SPDX-License-Identifier: Apache-2.0
"""A FAKE torch.cuda for the REAL torch, where there is no gpu: install() puts it in its place.

A tensor "on cuda" is one of the host's whose storage holds a block of card.py's pool: the emulated
card's bytes are taken when torch makes the storage, and go to the pool when torch itself frees it,
through whatever views, modules and tracebacks it lived in. All else is torch's own.
"""
import mmap
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "python/fake"))
import card  # noqa: E402

_on_cuda = set()  # the addresses of such storages
_real = {name: getattr(torch.Tensor, name) for name in ("cpu", "to", "device")}
_zeros = torch.zeros


class _Storage(mmap.mmap):  # the host's pages, none of which is there before it is touched
    def __del__(self):
        _on_cuda.discard(self.address)
        card.give(self.block)


def _empty(like):
    """Zeros on cuda, of this shape and type."""
    size = like.numel() * like.element_size()
    try:
        block = card.take(size)
    except card.Full as full:
        raise torch.cuda.OutOfMemoryError(str(full)) from None
    storage = _Storage(-1, size)
    made = torch.frombuffer(storage, dtype=like.dtype, count=like.numel()).view(like.shape)
    storage.block, storage.address = block, made.data_ptr()
    _on_cuda.add(storage.address)
    return made


def _is_on_cuda(tensor):
    return tensor.untyped_storage().data_ptr() in _on_cuda


def _cuda(tensor, device=None, *_, **__):
    if _is_on_cuda(tensor):
        return tensor
    with torch.no_grad():
        return _empty(tensor).copy_(tensor)


def _cpu(tensor, *_, **__):
    return tensor.clone() if _is_on_cuda(tensor) else tensor


def _to(tensor, *args, **kwargs):
    device = next((a for a in (*args, kwargs.get("device")) if isinstance(a, (str, torch.device))),
                  None)
    if device is None:
        return _real["to"](tensor, *args, **kwargs)
    return _cuda(tensor) if torch.device(device).type == "cuda" else _cpu(tensor)


def zeros(*size, device=None, **kwargs):
    if device is None or torch.device(device).type != "cuda":
        return _zeros(*size, device=device, **kwargs)
    return _empty(torch.empty(*size, device="meta", **kwargs))


def install():
    torch.zeros = zeros
    torch.Tensor.cuda, torch.Tensor.cpu, torch.Tensor.to = _cuda, _cpu, _to
    torch.Tensor.device = property(lambda tensor: torch.device("cuda", 0) if _is_on_cuda(tensor)
                                   else _real["device"].__get__(tensor))
    cuda = torch.cuda
    cuda.is_available, cuda.device_count = lambda: True, lambda: 1
    cuda.is_initialized, cuda.init, cuda.empty_cache = card.is_initialized, card.init, card.empty
    cuda.get_device_properties = lambda gpu: None  # it tells no UUID
    cuda.memory_allocated = lambda gpu=0: card.stats["allocated"]
    cuda.memory_reserved = lambda gpu=0: card.stats["reserved"]
    cuda.memory_stats = lambda gpu=0: {"allocation.all.allocated": card.stats["count"]}
