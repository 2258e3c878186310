# SPDX-License-Identifier: Apache-2.0
"""Sizes: "5.2GiB" (binary), "12GB" (decimal), "800m" (Docker) or a whole number of bytes.

The same rules and the same sentences as the C side's base/size.c. A text without a unit is an
error, because nobody remembers which one was meant.
"""
from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Union

    Size = Union[int, str]


KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_UNITS = {
    "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1 << 40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "k": KIB, "m": MIB, "g": GIB,
}
_DIGITS = "0123456789"
_MOST = (1 << 64) - 1


def _take_digits(text: str, at: int) -> int:
    while at < len(text) and text[at] in _DIGITS:
        at += 1
    return at


def parse_size(size: Size) -> int:
    """Bytes, fractions rounded down. ValueError says what is wrong and how to write it."""
    if hasattr(size, "__index__") and not isinstance(size, bool):  # numpy's integers, too
        size = size.__index__()
        if not 0 <= size <= _MOST:
            raise ValueError(f"{size} bytes: a size is from 0 to 2^64 - 1")
        return size
    if not isinstance(size, str):
        raise TypeError(f"a size is a text like '5.2GiB' or a whole number of bytes, not {size!r}")
    end = _take_digits(size, 0)
    if end == 0:
        raise ValueError(f"'{size}' is not a size (write it like 5.2GiB or 800MiB)")
    number, scale, rest = int(size[:end][:40]), 1, size[end:]
    if rest.startswith("."):
        fraction_end = _take_digits(rest, 1)
        decimals = rest[1:fraction_end]
        number, scale = int((size[:end] + decimals)[:40]), 10 ** len(decimals[:40])
        rest = rest[fraction_end:]
    if number > _MOST or scale > 10**9:
        raise ValueError(f"'{size}' has too many digits")
    if not rest:
        raise ValueError(f"{size} what? write {size}GiB or {size}GB")
    if rest not in _UNITS:
        raise ValueError(f"'{size}' has no known unit (GiB, MiB, GB, MB)")
    bytes_ = number * _UNITS[rest] // scale
    if bytes_ > _MOST:
        raise ValueError(f"'{size}' is too large")
    return bytes_


def format_size(bytes_: int) -> str:
    """For a person: "8.90 GiB", "800 MiB", "12 KiB", "0"."""
    if bytes_ == 0:
        return "0"
    if bytes_ < KIB:
        return f"{bytes_} B"
    if bytes_ < MIB:
        return f"{(bytes_ + KIB // 2) // KIB} KiB"
    if bytes_ < GIB:
        return f"{(bytes_ + MIB // 2) // MIB} MiB"
    return f"{bytes_ / GIB:.2f} GiB"
