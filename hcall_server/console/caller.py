"""The interface by which the console uses a command's files and output (spec/console.md#the-wire)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job


def file_refused(finding: str) -> OperatorError:
    """Return the error about a file that the command can't use.

    `finding` is the text that the command sent, ``PATH: REASON``.
    """
    # The command sends no error number, so this function recognises an existing file by the text.
    if finding.endswith(f": {os.strerror(errno.EEXIST)}"):
        return OperatorError(rules.HMC_FILE, f"{finding}; use --force to replace it", advised=True)
    # The refusal of the SSH door has its own remedy: no path of a client is possible there.
    return OperatorError(rules.HMC_FILE, finding, advised=": at this door, " in finding)


class LineCaller(Protocol):
    """The command that has sent a line.

    The command opens all files, with the rights of its own user.  It refuses each path that is not one of its
    arguments.  If it can't open a file, the functions raise OperatorError (`hmc.file`).
    """

    async def read(self, path: str, limit: int) -> bytes:
        """Return the content of a file, at most `limit` bytes; a longer file is refused."""

    async def write(self, path: str, content: bytes, *, replace: bool) -> None:
        """Write a file with mode 0600; replace an existing file only if `replace` is true."""

    async def test(self, path: str, *, replace: bool) -> None:
        """Raise OperatorError if the command can see already that it can't write a file.

        No file is changed.
        """

    async def say(self, text: str) -> None:
        """Print lines to standard output."""

    async def progress(self, job: Job) -> None:
        """Show the progress of a job: a bar on a terminal, a line in a pipe."""
