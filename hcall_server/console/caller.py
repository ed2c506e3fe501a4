"""The command at the other end of the wire, as the management console sees it (spec/console.md#the-wire)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job


def file_refused(finding: str) -> OperatorError:
    """Return the refusal of a file; `finding` is the text of a command about it, ``PATH: REASON``."""
    # By its text: the wire has no number of the error, and older commands could not send one.
    if finding.endswith(f": {os.strerror(errno.EEXIST)}"):
        return OperatorError(rules.HMC_FILE, f"{finding}; use --force to replace it", advised=True)
    return OperatorError(rules.HMC_FILE, finding)


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
