"""The log of all systems during a simulation: a line about a bug of the product is a failure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from hcall_server.machine import logs

_BUGS = ("exception", '"fault": "internal"')
"""Text of a line that reports a bug: a trace, or a rule about the inside of the server."""


class _LogReader:
    """A stream that reads the lines of the log."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def write(self, text: str) -> int:
        """Take a line."""
        if any(each in text for each in _BUGS):
            self._tell(f"the log of a system tells of a bug: {text}")
        return len(text)

    def flush(self) -> None:
        """Do nothing."""

    def isatty(self) -> bool:
        """Nobody looks at the lines."""
        return False


@contextlib.contextmanager
def journal(tell: Callable[[str], None]) -> Iterator[None]:
    """Read the errors of the log for a block; `tell` hears of each bug."""
    logs.configure(level="error", style="json", stream=_LogReader(tell))
    try:
        yield
    finally:
        logs.configure(level="warning")
