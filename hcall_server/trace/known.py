"""The passwords that one recording has seen: no label of it may have a part of one.  Pure."""

# Why a recording remembers passwords
#
# A frame is recorded when its bytes arrive, before its call has run.  One send may carry a SET_PASSWORD and
# then a label that is that password.  The password is not set yet when both arrive.  A frame may also come
# after the IPL that has ended a password, or over another connection.  So each password counts from its first
# appearance until the end of the recording, whether a call has set it, presented it or got it.
#
# Only the runs of four bytes are kept, because a label is suspect if it has one (`call_fields`).  Their
# number is bounded: a guest may present wrong passwords for ever.  When there is no room for more, every
# label is suspect.  So a guest can take the labels out of a trace, but never put a password into it.

from __future__ import annotations

from hcall_server.hcalls.call_fields import runs_of

ROOM = 1 << 16
"""Runs that are kept at most: more than 2,000 passwords of 32 bytes, in a few MB."""


class KnownPasswords:
    """The passwords of all connections of one recording."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._runs: set[bytes] = set()
        self._sizes: set[int] = set()
        self._full = False

    def __repr__(self) -> str:
        return f"KnownPasswords({len(self._runs)} runs)"

    def add(self, password: bytes) -> None:
        """Remember a password."""
        for run in runs_of(password):
            if len(self._runs) >= self._room and run not in self._runs:
                self._full = True
                return
            self._runs.add(run)
            self._sizes.add(len(run))

    def suspects(self, data: bytes) -> bool:
        """Return whether a label, or a list of them, may have a part of a password."""
        return self._full or any(
            data[at : at + size] in self._runs for size in self._sizes for at in range(len(data) - size + 1)
        )
