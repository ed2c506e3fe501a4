"""Descriptors kept for the console: the operator is let in when the guests' connections have all others."""

from __future__ import annotations

import contextlib
import os

SIZE = 2
"""Descriptors: one for the files of the HTTP stack while it is loaded, one for the connection itself."""


class Reserve:
    """Descriptors without a use, to be given up one by one when the process has no others."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self.refill()

    def give_up(self) -> bool:
        """Close one; return whether there was one.  The caller takes its place at once."""
        if not self._held:
            return False
        os.close(self._held.pop())
        return True

    def refill(self) -> None:
        """Take descriptors again, as many as there are."""
        with contextlib.suppress(OSError):
            while len(self._held) < SIZE:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Give up all."""
        while self.give_up():
            pass
