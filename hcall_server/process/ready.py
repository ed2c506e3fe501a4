"""The descriptor of `--ready-fd`: checked at the start, written when every socket listens."""

from __future__ import annotations

import fcntl
import os
import socket
import stat

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_server.machine import logs
from hcall_server.machine.outlet import give

PATIENCE = 1.0
"""Seconds that a start waits for the readers of the ready lines."""

_STANDARD_OUTPUT = 1
_STANDARD = 2
"""The last of the standard streams, which stay open."""

_KINDS = {stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK}


def take_descriptor(number: int) -> int:
    """Return a copy of a passed descriptor, for `send_line`, and close the original.

    A standard stream is not closed.  OperatorError if the descriptor was not passed, or can't be written to.
    """
    # A number that was not passed is free.  The server's next open file, such as NVRAM, would get this
    # number, and the ready line would go into that file.  So the number is checked before the first open.
    try:
        _check(number)
        copy: int = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _STANDARD + 1)
    except (OverflowError, ValueError):  # larger than an int of C, or negative
        raise _refused(number, "no descriptor has this number") from None
    except OSError as error:
        raise _refused(number, error.strerror or str(error)) from None
    if number > _STANDARD:
        os.close(number)
    return copy


def send_line(descriptor: int, line: str) -> str | None:
    """Write a line and close the descriptor.

    Return None, or the reason why no reader has taken the line in time.
    """
    return give(descriptor, f"{line}\n".encode(), PATIENCE, close=True)


def announce(sentence: str, fields: str, descriptor: int | None, encoding: str) -> None:
    """Write a line for people to standard output, and one for programs to the descriptor of --ready-fd.

    If a line can't be written, log that; the server still serves.
    """
    line = f"{sentence}\n".encode(encoding, "backslashreplace")
    failures = {"standard output": give(_STANDARD_OUTPUT, line, PATIENCE)}
    if descriptor is not None:
        failures["--ready-fd"] = send_line(descriptor, fields)
    for stream, reason in failures.items():
        if reason:
            logs.Log().warning("ready.undelivered", stream=stream, reason=reason)


def _check(number: int) -> None:
    """Raise OperatorError if a descriptor was not passed, or can't be written to.

    OSError if it is closed.
    """
    # A descriptor that was passed has no FD_CLOEXEC.  Python sets this flag on each descriptor that it opens
    # itself.
    if fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
        raise _refused(number, "this process opened it itself; it was not passed")
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise _refused(number, "it is not open for writing")
    kind = stat.S_IFMT(os.fstat(number).st_mode)
    if kind not in _KINDS:
        raise _refused(number, "it is no file, pipe, terminal or socket")
    if kind == stat.S_IFSOCK:
        _check_connected(number)


def _check_connected(number: int) -> None:
    """Raise OSError for a socket without a peer, such as a listening socket."""
    # The end of the block closes the socket, so this uses a copy.
    with socket.socket(fileno=os.dup(number)) as copy:
        copy.getpeername()


def _refused(number: int, reason: str) -> OperatorError:
    return OperatorError(rules.READY_DESCRIPTOR, f"descriptor {number}: {reason}")
