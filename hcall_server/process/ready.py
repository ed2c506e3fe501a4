"""The descriptor of `--ready-fd`: checked before anything is opened, written when every socket listens."""

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
    """Return a copy of a descriptor that was passed to this process, for `send_line`; close the original.

    The original is left open if it is a standard stream.  OperatorError if it was not passed, or can't be
    written to; nothing is written then.
    """
    # A number that was not passed is free.  The next file that the server opens, such as NVRAM, would get
    # it, and the ready line would go into that file.  So the number is checked before the first open.
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
    """Write a line and close the descriptor; return None, or the reason why no reader took it in time."""
    return give(descriptor, f"{line}\n".encode(), PATIENCE, close=True)


def announce(sentence: str, fields: str, descriptor: int | None, encoding: str) -> None:
    """Write a line for people to standard output, and one for programs to the descriptor of --ready-fd.

    If a line can't be written, that is logged, and the server still serves.
    """
    line = f"{sentence}\n".encode(encoding, "backslashreplace")
    failures = {"standard output": give(_STANDARD_OUTPUT, line, PATIENCE)}
    if descriptor is not None:
        failures["--ready-fd"] = send_line(descriptor, fields)
    for stream, reason in failures.items():
        if reason:
            logs.Log().warning("ready.undelivered", stream=stream, reason=reason)


def _check(number: int) -> None:
    """Refuse a descriptor that was not passed, or can't be written to; OSError if it is closed."""
    # A descriptor that was passed through exec has no FD_CLOEXEC, and Python sets it on each that it opens.
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
    """Raise OSError for a socket without a peer, such as a listening one."""
    # A copy is used, because the end of the block closes it.
    with socket.socket(fileno=os.dup(number)) as copy:
        copy.getpeername()


def _refused(number: int, reason: str) -> OperatorError:
    return OperatorError(rules.READY_DESCRIPTOR, f"descriptor {number}: {reason}")
