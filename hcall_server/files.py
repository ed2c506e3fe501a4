"""Private files that survive a power cut: the only place that writes them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_private(path: Path, content: bytes) -> None:
    """Make or replace the file `path` with mode 0600; durable on return.

    The content goes to a second file, which then takes the name: after a power cut, or an OSError,
    the file is the old one or the new one, whole.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        _write_new(new, content)
        new.replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; OSError when that fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet.  A link that somebody has put in its place is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
