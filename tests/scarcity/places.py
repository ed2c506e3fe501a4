"""Makes every kind of object at a path where a command expects a file."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

HUGE = 1 << 30
PATIENCE = 10.0
"""Seconds after which a command counts as hanging."""


def missing(place: Path) -> Path:
    """Return the path, and make nothing there."""
    return place


def below_a_file(place: Path) -> Path:
    """Make a file, and return a path below it."""
    place.touch()
    return place / "file"


def fifo(place: Path) -> Path:
    """Make a pipe whose other end nobody opens."""
    os.mkfifo(place)
    return place


def lost_link(place: Path) -> Path:
    """Make a link whose target does not exist."""
    place.symlink_to(place.with_name("nowhere"))
    return place


def loop(place: Path) -> Path:
    """Make a link to itself."""
    place.symlink_to(place)
    return place


def folder(place: Path) -> Path:
    """Make a folder with a file in it."""
    place.mkdir()
    (place / "file").touch()
    return place


def endless(place: Path) -> Path:
    """Make a link to a device from which a read never ends."""
    place.symlink_to("/dev/zero")
    return place


def full(place: Path) -> Path:
    """Make a link to a device that is always full."""
    place.symlink_to("/dev/full")
    return place


def empty(place: Path) -> Path:
    """Make an empty file."""
    place.touch()
    return place


def huge(place: Path) -> Path:
    """Make a file of 1 GiB, which takes no space."""
    place.touch()
    os.truncate(place, HUGE)
    return place


def binary(place: Path) -> Path:
    """Make a file of bytes that are no text."""
    place.write_bytes(bytes(range(256)))
    return place


def forbidden(place: Path) -> Path:
    """Make a file that may not be opened. For root, who may open everything, use `made`."""
    place.touch()
    place.chmod(0)
    return place


def too_long(place: Path) -> Path:
    """Make a name that is longer than the file system allows."""
    return place / ("x" * 300)


KINDS: tuple[Callable[[Path], Path], ...] = (
    missing, below_a_file, fifo, lost_link, loop, folder, endless,
    full, empty, huge, binary, forbidden, too_long,
)  # fmt: skip


@contextmanager
def made(kind: Callable[[Path], Path], place: Path) -> Iterator[Path]:
    """Yield a path with this kind of object. With `forbidden`, even root can't open it."""
    path, real = kind(place), os.open

    def guarded(opened: Any, *arguments: Any, **options: Any) -> int:
        if os.fspath(opened) == os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(opened))
        return real(opened, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        # Root may open every file, so the error is simulated.
        if kind is forbidden:
            patched.setattr(os, "open", guarded)
        yield path


@contextmanager
def gone(place: Path) -> Iterator[None]:
    """Run a block in a working directory that has been removed."""
    place.mkdir()
    with contextlib.chdir(place):
        place.rmdir()
        yield


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail if the block takes longer than `PATIENCE`, even if it hangs in a system call.

    If a library repeats an interrupted call, the test cannot fail: then the process ends with a trace.
    """

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError("the command hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    faulthandler.dump_traceback_later(2 * PATIENCE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
