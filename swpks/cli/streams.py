"""The standard streams of a command: always open, and never the cause of a traceback.

A command may start while any of them is closed, full or without a reader.  The encoding may lack some
characters of the output.
"""

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
"""Seconds that a command waits until its last line is written."""

UNREAD = 1
"""Exit status of a command whose reader has left."""

_replaced: set[int] = set()


def prepare() -> None:
    """Open the closed standard streams, and make every character printable.

    It is called before anything else is opened.  The next file would otherwise get the free number, and
    everything that is printed would go into that file.  OperatorError if /dev/null can't be opened.
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
    """Write a line to standard error, in `PATIENCE` seconds at most; without a reader there is no line.

    A thread writes it, to the descriptor.  A thread that hangs in the buffer of Python's own stream would
    abort the interpreter at its end.  The server has `give` for this; no other command may load the server.
    """
    if not text.isprintable():
        text = _escaped(text)
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # none, or one in memory as in tests
        print(text, file=sys.stderr)
        return
    line = f"{text}\n".encode(sys.stderr.encoding, "backslashreplace")
    thread = threading.Thread(target=_write, args=(descriptor, line), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread is left, and the line may say just that
        _write(descriptor, line)
        return
    thread.join(PATIENCE)


def say(text: str) -> None:
    """Print a result, at once; ends the command as `output` does."""
    with output():
        print(text, flush=True)


def _escaped(text: str) -> str:
    """Return an error whose control characters are escaped: it may have come from another program."""
    from swpks.hmc.line_client import LAYOUT, escaped

    return escaped(text, LAYOUT)


@contextmanager
def output() -> Iterator[None]:
    """Write to standard output in the block.

    If standard output does not take the bytes, they are dropped and the command ends.  If the reader has
    left, it ends silently with status 1, otherwise with an OperatorError.
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
    """Open /dev/null under a free number; programs that the command starts inherit it."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError as error:
        raise OperatorError(rules.STREAM_CLOSED, f"descriptor {number}: {error.strerror or error}") from None
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)
    _replaced.add(number)


def _write(descriptor: int, line: bytes) -> None:
    with suppress(OSError):
        os.write(descriptor, line)
