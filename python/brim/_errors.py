# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as exceptions. str() is always a whole sentence for a person.

    Error
    +-- Refused             there is no room: the numbers are attributes
    |   +-- NeverFits       and there never will be on this machine
    +-- NoLibrary           libbrim.so.0 is not there, or is another version
    +-- NoDaemon            brimd cannot be reached or started
    +-- Denied              brimd does not allow this: the process is another user's …
    +-- Lost                the lease was taken away
    +-- StateError          not now: a nested burst, a burst of a released lease …
    +-- Forked              the lease is the parent process's
    +-- Cancelled           released by another thread while this one waited
    +-- Invalid             an argument makes no sense (also a ValueError)
"""
from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes longer than all of brim
if TYPE_CHECKING:
    from typing import Any, Optional, Tuple


class Error(Exception):
    """Anything that Brim could not do. `code` is BRIM_ERR_* of brim.h, 0 where it has none."""

    code: int = 0


class Refused(Error):
    """No room. What was asked and what there was, in bytes, on the gpu that was looked at."""

    def __init__(self, text: str, code: int = -4, id: Optional[str] = None, asked_bytes: int = 0,
                 free_bytes: int = 0, capacity_bytes: int = 0, reserve_bytes: int = 0,
                 foreign_bytes: int = 0, charged_bytes: int = 0) -> None:
        super().__init__(text)
        self.code = code
        #: for `brim why ID` and brim.why(ID); None where it was not recorded
        self.id = id
        self.asked_bytes = asked_bytes
        self.free_bytes = free_bytes
        self.capacity_bytes = capacity_bytes
        self.reserve_bytes = reserve_bytes
        self.foreign_bytes = foreign_bytes
        self.charged_bytes = charged_bytes

    # An exception with arguments travels between processes only with this.
    def __reduce__(self) -> Tuple[Any, ...]:
        return (type(self), (self.args[0], self.code, self.id, self.asked_bytes, self.free_bytes,
                             self.capacity_bytes, self.reserve_bytes, self.foreign_bytes,
                             self.charged_bytes))


class NeverFits(Refused):
    """The claim is larger than any gpu here can ever give."""


class NoLibrary(Error):
    """libbrim.so.0 is not there, cannot be loaded, or speaks another version."""


class NoDaemon(Error):
    """brimd cannot be reached or started."""


class Denied(Error):
    """brimd does not allow this to this user."""


class Lost(Error):
    """The lease was taken away."""


class StateError(Error):
    """The lease is not in a state that allows this."""


class Forked(Error):
    """The lease belongs to the parent process."""


class Cancelled(Error):
    """The lease was released, or the segment taken back, while this call waited."""


class Invalid(Error, ValueError):
    """An argument that makes no sense."""


NEVER_FITS, NO_ROOM, STATE, LOST, CANCELLED, INVALID = -3, -4, -7, -15, -14, -2
_BY_CODE = {
    -2: Invalid, -3: NeverFits, -4: Refused, -5: NoDaemon, -6: NoLibrary, -7: StateError,
    -8: Forked, -9: Denied, -10: Refused, -13: Refused, -14: Cancelled, -15: Lost,
}
_TEXTS = {
    -8: "this lease belongs to the parent process; take one of your own after fork()",
}


def from_code(code: int, library_text: str, text: Optional[str] = None) -> Error:
    """The exception for a code of libbrim's; `text` where there is more to say."""
    kind = _BY_CODE.get(code, Error)
    error: Error = kind(text or _TEXTS.get(code) or library_text)
    error.code = code
    return error
