# SPDX-License-Identifier: Apache-2.0
"""A remark of a guest's for the daemon's event log: never raises, prints, or waits long."""
from __future__ import annotations


def note(text: str) -> bool:
    """Whether brimd has it. Starts no daemon: where none runs there is nobody to tell."""
    try:
        import os

        from ._client import _own_dir, request
        if not os.path.exists(os.path.join(_own_dir(), "api.sock")):
            return False
        request("/v1/note", "POST", {"text": text[:400]})
        return True
    except Exception:
        return False
