"""The standard streams of a command: always open, and never the cause of a traceback.

A command may start while any of them is closed, full or without a reader.  The encoding may lack some
characters of the output.
"""

# The standard streams of a command
#
# A command guarantees four things, whatever its standard streams are:
#
#   1. No output goes into a file that the command opens for something else.
#   2. A result that could not be written is never reported as a success.
#   3. A message to standard error costs `PATIENCE` seconds at most.
#   4. The user never sees a traceback because of a stream.
#
# A descriptor that is closed at the start is the reason for 1.  The kernel gives the lowest free number to
# the next file, and that may be a keystore's database.  Then an error message would be written into the
# database.  So `prepare` puts /dev/null there, before the command opens anything.
#
# Guarantee 2 needs a flush while the command still runs (`main._run`).  Python flushes standard output at
# exit, but a failure there is too late: Python prints "Exception ignored" and exits with 120.
#
# Guarantee 3: a full pipe that is not read blocks a write for ever.  A
# non-blocking descriptor is no way out: the flag belongs to the open file, and the terminal or the shell
# shares it. So a thread writes the line, and the command waits for it only so long.  The thread writes to the
# descriptor, and not through `sys.stderr`: the interpreter aborts at its end if a thread holds the lock of
# that buffer.
#
# The text of an error may come from another program, such as a server or a file name.  Control characters in
# it would change the terminal, so `complain` escapes them.

from __future__ import annotations

import fcntl
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules

PATIENCE = 1.0
"""Seconds that a command waits for the write of a line to standard error."""

UNREAD = 1
"""Exit status of a command whose reader has left."""

_replaced: set[int] = set()


def prepare() -> None:
    """Open the closed standard streams, and make every character printable.

    Call it before the command opens a file; see above.  OperatorError if /dev/null cannot be opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if _is_closed(number):
            _replace(number)
        if getattr(sys, name) is None:  # Python has no stream for a descriptor that was closed at its start
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def was_closed(number: int) -> bool:
    """Return whether a standard descriptor was closed when the command began."""
    return number in _replaced


def complain(text: str) -> None:
    """Write a line to standard error, in `PATIENCE` seconds at most; drop it if the stream accepts nothing.

    The server has a function of its own for this.  No other command may load the server.
    """
    if not text.isprintable():
        text = _escaped(text)
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # no stream, or one in memory, as in tests
        print(text, file=sys.stderr)
        return
    line = f"{text}\n".encode(sys.stderr.encoding, "backslashreplace")
    thread = threading.Thread(target=_write, args=(descriptor, line), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread is left, and the line may be about this
        _write(descriptor, line)
        return
    thread.join(PATIENCE)


def say(text: str) -> None:
    """Print a result without delay; if that fails, end the command as `output` does."""
    with output():
        print(text, flush=True)


def _escaped(text: str) -> str:
    """Return an error whose control characters are escaped: it may have come from another program."""
    from swpks.hmc.line_client import LAYOUT, escaped

    return escaped(text, LAYOUT)


@contextmanager
def output() -> Iterator[None]:
    """Handle errors of standard output, to which the block writes.

    If a write fails, the bytes are dropped, and the command ends. If the pipe has no reader any more, the
    status is 1, without a message. Otherwise OperatorError is raised.
    """
    try:
        yield
    except OSError as error:
        drop_unwritten(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(UNREAD) from None
        raise OperatorError(rules.STREAM_OUTPUT, f"standard output: {error.strerror or error}") from None


def drop_unwritten(stream: TextIO) -> None:
    """Drop the unwritten bytes of a stream: Python would retry them at exit, and change the exit status."""
    try:
        stream.flush()
    except OSError:
        # The buffer still has the bytes, and there is no public way to empty it. The descriptor becomes
        # /dev/null here, so the flush at exit succeeds.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _is_closed(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return True
    return False


def _replace(number: int) -> None:
    """Open /dev/null with the number of a closed stream; programs that the command starts inherit it."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError as error:
        raise OperatorError(rules.STREAM_CLOSED, f"descriptor {number}: {error.strerror or error}") from None
    if null != number:
        os.dup2(null, number)
        os.close(null)
    # The new descriptor is inheritable. Otherwise a program that the command starts would have a closed
    # stream again.
    os.set_inheritable(number, True)
    _replaced.add(number)


def _write(descriptor: int, line: bytes) -> None:
    with suppress(OSError):
        os.write(descriptor, line)
