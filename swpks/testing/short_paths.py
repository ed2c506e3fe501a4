"""A short path to a folder, for sockets: the path of a Unix socket has at most 107 bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from hcall_abi.mistakes import check_kind

_BEHIND = len("/state/run/.sock") + 31
"""Most bytes of a socket's path after the folder; a name has 31 at most (spec/control.md#names)."""
_PLACES = ("/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - `mkdtemp` makes a private folder there
"""Folders for a short path if TMPDIR is long; the first one that can be written is used."""


@contextmanager
def short_path(folder: Path) -> Iterator[Path]:
    """Yield a path to a folder that leaves room for each socket of a state in the folder.

    If the folder's own path is short enough, it is used.  Otherwise the path is a symbolic link in a private
    folder, which is removed at the end of the block.  The files stay in `folder`, where pytest may remove
    them later.  OSError if no folder for the link can be written.
    """
    check_kind(os.PathLike, "the argument of short_path", folder, "short_path(tmp_path)")
    if len(os.fsencode(folder)) + _BEHIND <= LONGEST_SOCKET_PATH:
        yield folder
        return
    private, process = Path(tempfile.mkdtemp(prefix="swpks-", dir=_place())), os.getpid()
    link = private / "t"
    link.symlink_to(folder.resolve(), target_is_directory=True)
    try:
        yield link
    finally:
        if os.getpid() == process:  # a forked process must not remove the link, which the parent still uses
            link.unlink()
            private.rmdir()


def _place() -> str:
    for place in _PLACES:
        if os.access(place, os.W_OK | os.X_OK):
            return place
    raise OSError(f"none of {', '.join(_PLACES)} can be written: set TMPDIR to a shorter folder")
