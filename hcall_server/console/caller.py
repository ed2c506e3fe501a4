"""The command at the other end of the wire, as the management console sees it (spec/console.md#the-wire)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job


class LineCaller(Protocol):
    """The command that has sent a line.

    The command opens all files: with the rights of its own user, and only if the path is one of its own
    arguments.  OperatorError with rule `hmc.file` if it can't.
    """

    async def read(self, path: str, limit: int) -> bytes:
        """Return the content of a file, at most `limit` bytes; a longer file is refused."""

    async def write(self, path: str, content: bytes, *, replace: bool) -> None:
        """Write a file, with mode 0600; an existing one only if `replace`."""

    async def test(self, path: str, *, replace: bool) -> None:
        """OperatorError if a file can't be written, as far as that is known before; nothing is changed."""

    async def say(self, text: str) -> None:
        """Print lines to standard output."""

    async def progress(self, job: Job) -> None:
        """Show the progress of a job: a bar on a terminal, a line in a pipe."""
