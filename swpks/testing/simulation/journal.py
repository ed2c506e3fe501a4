"""The log of all systems in a simulation: a line that reports a bug of the product is a failure."""

# The server logs an unexpected exception of a request, and goes on. If no promise is broken, only the log
# shows the bug.

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from hcall_server.machine import logs

_BUGS = ("exception", '"fault": "internal"')
"""Parts of a line that reports a bug: a traceback, or a rule whose fault is inside the server."""


class _LogReader:
    """A stream that searches each line of the log for a bug."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    def write(self, text: str) -> int:
        """Search a line, and return its length."""
        if any(each in text for each in _BUGS):
            self._report(f"the log of a system reports a bug: {text}")
        return len(text)

    def flush(self) -> None:
        """Do nothing."""

    def isatty(self) -> bool:
        """Return False: no terminal shows the lines."""
        return False


@contextlib.contextmanager
def journal(report: Callable[[str], None]) -> Iterator[None]:
    """Search the errors of the log for the length of a block; call `report` with the text of each bug."""
    logs.configure(level="error", style="json", stream=_LogReader(report))
    try:
        yield
    finally:
        logs.configure(level="warning")
