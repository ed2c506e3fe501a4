"""Files that a command reads and writes.  No kind of file makes it hang, or fill its memory.

A pipe is permitted, so a secret can come from another program (`--password-file <(pass show swpks)`).
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LARGEST_INPUT = 16 << 20
"""Bytes of a file that a command reads; no h-call carries as many."""

STANDARD = (None, Path("-"))
"""Stands for standard input or output."""


def read_input(path: Path | None) -> bytes:
    """Return all bytes of a file, of a pipe that has a writer, or of standard input.

    Raises OSError for anything else, and for more than `LARGEST_INPUT` bytes.
    """
    if path in STANDARD:
        if sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        return _bounded(sys.stdin.buffer.read(LARGEST_INPUT + 1))
    # Without O_NONBLOCK, the open of a pipe without a writer would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        first = _first_of_pipe(descriptor) if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else b""
        os.set_blocking(descriptor, True)
        with open(descriptor, "rb", closefd=False) as file:
            return _bounded(first + file.read(LARGEST_INPUT + 1))
    finally:
        os.close(descriptor)


@contextmanager
def output(path: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes bytes to a file only for its owner, or to standard output.

    The file is opened before the h-call, because a result that can't be written would be lost.  An existing
    file is truncated when the bytes come.  Raises OSError if the file cannot be opened or written.
    """
    if path in STANDARD:
        yield _to_stdout
        return
    # Without O_NONBLOCK, the open of a pipe without a reader would wait for ever.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb", buffering=0) as file:  # an error comes here, and not at the close

        def write(data: bytes) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                file.truncate(0)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

        yield write


def _to_stdout(data: bytes) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _first_of_pipe(descriptor: int) -> bytes:
    """Return the first bytes of a pipe; OSError if it is empty and no process can write to it."""
    try:
        first = os.read(descriptor, LARGEST_INPUT)
    except BlockingIOError:
        return b""  # a writer has it open
    if not first:
        raise OSError(errno.EPIPE, "the pipe is empty, and no process writes to it")
    return first


def _bounded(content: bytes) -> bytes:
    if len(content) > LARGEST_INPUT:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_INPUT} bytes")
    return content
