"""The files of named snapshots: DIR/snapshots/NAME.snapshot and NAME.portable, each 0600."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hcall_abi.bounds import LARGEST_SNAPSHOT, MOST_SNAPSHOTS
from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.near import NEAREST, did_you_mean, near_names
from hcall_abi.rules import snapshot as rules
from hcall_abi.scarcity import scarcity_of
from hcall_abi.snapshot_bodies import is_snapshot_name
from hcall_server.files import destroy, make_folder, refuse_link, replace_private, sync_folder
from hcall_server.process.folder import check_private
from hcall_server.sealing.snapshots import HEAD_SIZE
from hcall_server.snapshots.snapshots import ShelfEntry

OWN_END, PORTABLE_END = ".snapshot", ".portable"
_ENDS = (OWN_END, PORTABLE_END)


class SnapshotFiles:
    """The snapshots in `folder`, which the first save makes.

    Functions block for the disk.  OperatorError for a link, or a folder that others may enter; StorageError
    if the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"SnapshotFiles({str(self.folder)!r})"

    def entries(self) -> list[ShelfEntry]:
        """Return all files with their first bytes, by name."""
        return [self._entry(path) for path in sorted(self._paths())]

    def read(self, name: str) -> bytes:
        """Return the snapshot with a name; OperatorError if there is none, or if its file is too large."""
        path = self._path(name)
        try:
            with os.fdopen(_opened(path), "rb") as file:
                blob = file.read(LARGEST_SNAPSHOT + 1)
        except OSError as error:
            raise self._failed(error, path) from None
        if len(blob) > LARGEST_SNAPSHOT:
            raise OperatorError(rules.SNAPSHOT_SIZE, f"{path} is larger than every snapshot")
        return blob

    def demand_new(self, name: str) -> None:
        """OperatorError if a name is taken, or if there are too many snapshots."""
        taken = [path for path in self._paths() if path.stem == name]
        if taken:
            message = f"{taken[0]} exists: choose another name, or replace it with --force"
            raise OperatorError(rules.SNAPSHOT_NEW, message, advised=True)

    def write(self, name: str, blob: bytes, *, portable: bool) -> str:
        """Store a snapshot durably, in place of one with the same name; return the name of the file.

        After an error the old one is still there.
        """
        paths = self._paths()
        if len({path.stem for path in paths} | {name}) > MOST_SNAPSHOTS:
            message = f"{self.folder} has {len(paths)} snapshots: remove some by `swpks snapshot rm NAME`"
            raise OperatorError(rules.SNAPSHOT_COUNT, message, advised=True)
        end, other = (PORTABLE_END, OWN_END) if portable else (OWN_END, PORTABLE_END)
        path = self.folder / f"{name}{end}"
        try:
            make_folder(self.folder)
            check_private(self.folder)
            refuse_link(path)
            replace_private(path, blob)
            # A snapshot of the other kind had this name.  It goes last: a kill leaves both, and the next save
            # with --force, or `rm`, removes it.
            destroy(self.folder / f"{name}{other}")
        except OSError as error:
            raise self._failed(error, path) from None
        return path.name

    def remove(self, name: str) -> None:
        """Remove a snapshot, and the rest of a save that was killed; OperatorError if there is none."""
        path = self._path(name)
        try:
            for end in _ENDS:
                destroy(self.folder / f"{name}{end}")
                destroy(self.folder / f"{name}{end}.new")
            sync_folder(self.folder)
        except OSError as error:
            raise self._failed(error, path) from None

    def _paths(self) -> list[Path]:
        """Return the paths of all snapshots."""
        try:
            refuse_link(self.folder)
            found = list(self.folder.iterdir())
            check_private(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed(error, self.folder) from None
        return [path for path in found if path.suffix in _ENDS and is_snapshot_name(path.stem)]

    def _path(self, name: str) -> Path:
        """Return the path of an existing snapshot."""
        known = {path.stem: path for path in sorted(self._paths(), reverse=True)}
        if name not in known:
            others = f"; there are {', '.join(sorted(known)[:9])}" if known else "; none was saved yet"
            question = did_you_mean(near_names(name, known, NEAREST))
            more = f": {question}" if question else others
            raise OperatorError(rules.SNAPSHOT_EXISTS, f"no snapshot {name!r}{more}", advised=True)
        return known[name]

    def _entry(self, path: Path) -> ShelfEntry:
        """Return the first bytes of a file, or the reason why it can't be read."""
        try:
            with os.fdopen(_opened(path), "rb") as file:
                return ShelfEntry(path.stem, file.read(HEAD_SIZE), os.fstat(file.fileno()).st_size)
        except OSError as error:
            return ShelfEntry(path.stem, b"", 0, self._failed(error, path).message)

    def _failed(self, error: OSError, path: Path) -> SwpksError:
        """Return the error for an OSError, with a rule."""
        if scarce := scarcity_of(error):
            return scarce
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            return OperatorError(rules.SNAPSHOT_FILE, f"{path} is a link, or no plain file")
        reason = error.strerror or str(error)
        return StorageError(rules.SNAPSHOT_STORED, f"{error.filename or path}: {reason}")


def _opened(path: Path) -> int:
    """Return a descriptor for a plain file; OSError for a link or any other kind.  It never waits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return descriptor
