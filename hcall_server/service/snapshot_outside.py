"""Snapshots in files outside of a state: they pass through the folder `snapshots` of the state.

Commands and test fixtures use this module.  No server loads it.
"""

# A request of the control channel has at most 256 KiB, and a snapshot up to 64 MiB.  A larger request would
# make the server hold such a body for each client.  So the client copies the file to the folder
# `snapshots`, under a name that no other snapshot has, and removes the copy after the answer.  Only the
# owner of the state can do that.  A client that is killed leaves its copy: `list` shows it, `rm` removes it.

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hcall_abi.bounds import LARGEST_SNAPSHOT
from hcall_abi.errors import OperatorError
from hcall_abi.rules import snapshot as rules
from hcall_abi.snapshot_bodies import is_snapshot_name
from hcall_server.files import refuse_link, replace_private
from hcall_server.sealing.snapshot_errors import SnapshotError
from hcall_server.sealing.snapshots import read_head
from hcall_server.service.layout import SNAPSHOTS
from hcall_server.service.state_folder import StateFolder, trouble
from hcall_server.snapshots.shelf_files import SnapshotFiles

_LONGEST_STEM = 40
"""Most characters of a file's name in the temporary name."""


@contextmanager
def brought_in(file: Path, state: Path) -> Iterator[str]:
    """Copy a file into the folder of snapshots, and yield its temporary name there.

    OperatorError if the file can't be read, or is no snapshot; also if the state is no state of this user.
    """
    blob = _content(file)
    try:
        header = read_head(blob, len(blob))
    except SnapshotError as error:
        raise OperatorError(error.rule, f"{file} {error.reason}") from None
    shelf, name = _shelf(state), _temporary(file)
    try:
        shelf.write(name, blob, portable=header.portable)
        yield name
    finally:
        _removed(shelf, name)


@contextmanager
def taken_out(file: Path, state: Path, *, force: bool) -> Iterator[str]:
    """Yield a temporary name; after the block, move the snapshot of this name to `file`, with mode 0600.

    OperatorError if the file exists, unless `force` is true.  After an error, an old file is still there.
    """
    shelf, name = _shelf(state), _temporary(file)
    if not force and file.exists():
        message = f"{file} exists: choose another name, or replace it with --force"
        raise OperatorError(rules.SNAPSHOT_NEW, message, advised=True)
    refuse_link(file)
    if not file.absolute().parent.is_dir():
        raise OperatorError(rules.SNAPSHOT_FILE, f"{file.parent} is no folder: make it first")
    try:
        yield name
        _stored(file, shelf.read(name))
    finally:
        _removed(shelf, name)


def _shelf(state: Path) -> SnapshotFiles:
    """Return the snapshots of a state; OperatorError for any other folder, or that of another user."""
    folder = StateFolder(state)
    try:
        folder.find()
    except OSError as error:
        raise trouble(error, state) from None
    finally:
        folder.close()
    return SnapshotFiles(state / SNAPSHOTS)


def _content(file: Path) -> bytes:
    """Return the bytes of a plain file."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            blob = opened.read(LARGEST_SNAPSHOT + 1)
    except OSError as error:
        raise OperatorError(rules.SNAPSHOT_FILE, f"{file}: {error.strerror or error}") from None
    if len(blob) > LARGEST_SNAPSHOT:
        raise OperatorError(rules.SNAPSHOT_SIZE, f"{file} is larger than every snapshot")
    return blob


def _stored(file: Path, blob: bytes) -> None:
    try:
        replace_private(file, blob)
    except OSError as error:
        raise OperatorError(rules.SNAPSHOT_FILE, f"{file}: {error.strerror or error}") from None


def _temporary(file: Path) -> str:
    """Return a new name that shows its origin to a reader of `list`."""
    stem = file.stem[:_LONGEST_STEM]
    return f"{stem if is_snapshot_name(stem) else 'file'}.from-file-{secrets.token_hex(4)}"


def _removed(shelf: SnapshotFiles, name: str) -> None:
    # It was never written, or an erase has destroyed it meanwhile.
    with suppress(OperatorError):
        shelf.remove(name)
