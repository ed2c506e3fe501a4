"""Files that a command reads and writes.  No kind of file makes the command hang, or fill its memory.

A pipe is permitted, so a secret can come from another program (`--password-file <(pass show swpks)`).
"""

# Output files of a command
#
# Some calls cannot be repeated: GEN_PASSWORD sets the password that it returns, GEN_KEY makes a key that a
# policy may lock away.  If their result is lost, the consumer is locked out.  So an output file guarantees
# three things:
#
#   1. A call is not made if its result could not be stored.
#   2. A file that exists keeps its contents until the result is there.
#   3. Only the owner can read a result, and it is durable when the command reports success.
#
# For guarantee 1 the file is opened before the call, and `size` bytes are allocated in it (posix_fallocate).
# A test of the free space would not be enough: another program may take the space meanwhile.  The folder is
# synced before the call as well, so its entry cannot be lost later.
#
# The common way is a new file that takes the place of the old one (os.replace).  It was not used: it cuts
# hard links and symbolic links of the user, and it needs a folder that may be written.  It also turns a
# device or a pipe, such as /dev/stdout or >(program), into a plain file.  So the file itself is written, and
# cut to its length afterwards.
#
# Every open has O_NONBLOCK.  A pipe without a reader or writer would block the open for ever, and the command
# could not say why.  The flag is cleared at once, because reads and writes may wait.

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from swpks.cli import streams
from swpks.cli.silence import reading_input

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
        with reading_input():
            return _bounded(sys.stdin.buffer.read(LARGEST_INPUT + 1))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        first = _first_of_pipe(descriptor) if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else b""
        os.set_blocking(descriptor, True)
        with open(descriptor, "rb", closefd=False) as file:
            return _bounded(first + file.read(LARGEST_INPUT + 1))
    finally:
        os.close(descriptor)


@contextmanager
def output(path: Path | None, size: int = 0) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes bytes to a file that only its owner can read, or to standard output.

    The file is opened at once, and gets room for `size` bytes.  The first write replaces old contents;
    without a write they stay.  A new file without a write is removed: it would look like a result.  The bytes
    are durable when the function returns.  Raises OSError if the file cannot be opened, has no room or cannot
    be written.
    """
    if path is None or path in STANDARD:
        if size:
            _try_stdout()
        yield _to_stdout
        return
    new = not os.path.lexists(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    os.set_blocking(descriptor, True)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            with _plain_output(descriptor, path, size, new=new) as write:
                yield write
        else:
            _try(descriptor)
            yield partial(_write_all, descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _plain_output(descriptor: int, path: Path, size: int, *, new: bool) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes to a plain file, after `size` bytes were allocated in the file."""
    before, written = os.fstat(descriptor).st_size, False

    def write(data: bytes) -> None:
        nonlocal written
        written = True
        _write_all(descriptor, data)
        os.truncate(descriptor, len(data))  # before the write, this would free the allocated space
        os.fsync(descriptor)

    # An old file may have a wider mode.  A program that has it open already can still read the file.
    os.fchmod(descriptor, 0o600)
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)
            os.fsync(descriptor)
            _sync_folder(path.absolute().parent)
        yield write
    finally:
        if new and not written:
            path.unlink(missing_ok=True)
        elif size > before and not written:
            os.truncate(descriptor, before)


def _sync_folder(folder: Path) -> None:
    """Make the entry of a new file durable; skip a folder that may be written but not read."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _try_stdout() -> None:
    """Raise OSError if a write to standard output would fail.

    It fails if standard output is closed, or is a pipe without a reader, or a device that is always full.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    with suppress(io.UnsupportedOperation):  # a stream in memory has no descriptor
        _try(sys.stdout.fileno())


def _try(descriptor: int) -> None:
    """Raise OSError if a device is always full, or if no process reads a pipe."""
    os.write(descriptor, b"")
    poll = select.poll()  # the write above does not fail for a pipe without a reader
    poll.register(descriptor, 0)
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _to_stdout(data: bytes) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    with streams.output():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _first_of_pipe(descriptor: int) -> bytes:
    """Return the first bytes of a pipe.

    OSError if the pipe is empty and no process can write to it.
    """
    try:
        first = os.read(descriptor, LARGEST_INPUT)
    except BlockingIOError:
        return b""  # the pipe is empty, but a writer has it open
    if not first:
        raise OSError(errno.EPIPE, "the pipe is empty, and no process writes to it")
    return first


def _bounded(content: bytes) -> bytes:
    if len(content) > LARGEST_INPUT:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_INPUT} bytes")
    return content
