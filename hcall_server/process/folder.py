"""The folder of a server process: its access rights, and the lock that keeps a second process out."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server import folders
from hcall_server.files import destroy, make_folder, make_private, refuse_link, sync_folder

STORE_DATABASE = folders.DATABASE
"""The file by which a folder is the store of a management console."""


class LockedFolder:
    """A folder that one process uses at a time; the caller calls `make` first, then `try_lock`.

    An existing folder is recognised by its lock, or by a file with one of the names `also`.  A restored
    backup may have no lock.  A refusal names the folders of the kind `kind` that were probably meant.

    `make` and `try_lock` raise OperatorError if the operator has to change something.  They also raise
    OSError; `trouble` turns it into an error with a rule.
    """

    def __init__(self, folder: Path, *also: str, kind: folders.FolderKind = folders.FolderKind.STATE) -> None:
        self.path = folder.absolute()
        self.lock_path = self.path / "lock"
        self._kind = kind
        self._lock = -1
        self.ours = False
        """Whether this process holds the lock."""
        self.new: frozenset[Path] | None = None
        """The entries that a new folder had before `make`; None for a folder that was not new."""
        self._missing: list[Path] = []
        self._signs = (self.lock_path, *(self.path / name for name in also))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def make(self) -> None:
        """Make the folder, or use an existing one.

        OperatorError if an existing folder has content of other programs.
        """
        refuse_link(self.path)
        self._refuse_file()
        self._refuse_inside(rules.STATE_EMPTY)
        self._missing = [each for each in (self.path, *self.path.parents) if not each.exists()]
        make_folder(self.path)
        refuse_link(self.lock_path)
        if _is_new(self.path):
            self.new = frozenset(self.path.iterdir())
            make_private(self.path)
        elif not self._known():
            raise OperatorError(rules.STATE_EMPTY, f"{self.path} {self._other_things()}")
        check_private(self.path)

    def _known(self) -> bool:
        """Return whether a folder with content is one of this kind."""
        return any(sign.is_file() for sign in self._signs)

    def _refuse_file(self) -> None:
        """Raise OperatorError if the path is a file.

        If nothing exists at the path, the nearest existing path above it is checked instead.
        """
        found = next(each for each in (self.path, *self.path.parents) if each.exists())
        if not found.is_dir():
            question = folders.question_of(self.path, self._kind)
            message = f"{found} is a file, not a folder{question or '; choose a new folder'}"
            rule = rules.STATE_EMPTY if found == self.path else rules.STATE_WRITABLE
            raise OperatorError(rule, message)

    def _refuse_inside(self, rule: Rule) -> None:
        """Raise OperatorError in a state or a store: a part is no state, and `run` is no place for one."""
        if refusal := folders.refusal_inside(self.path, self._kind):
            raise OperatorError(rule, refusal)

    def _other_things(self) -> str:
        """Return the fault of a folder that is neither new nor of the right kind, and the remedy."""
        # A part of a state may hold NVRAM as well.  With a lock, a start would take it for an older layout.
        if self._kind is folders.FolderKind.STATE and folders.has_part_folders(self.path):
            lock = shlex.quote(str(self.lock_path))
            return f"is a state without its file lock; if it is a whole copy of a state: touch {lock}"
        question = folders.question_of(self.path, self._kind)
        return f"holds other things{question or '; choose a new folder'}"

    def try_lock(self) -> str | None:
        """Take the lock and return None; if another process has it, return its id, or "unknown"."""
        # The lock is a flock, and not the existence of a file.  The kernel releases a flock at any end of the
        # process.  So after a kill, no operator has to remove a lock.
        new = not self.lock_path.exists()
        lock = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._lock = lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The other process may have the lock, and not have written its id yet.
            return os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        self.ours = True
        # The id stays in the file after the end of the process, even if this start is refused later.  That
        # does no harm: the id is read only while another process has the flock.  To empty the file at the end
        # would not help, because a killed process can't do it.
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        # The entry of the lock is made durable.  Without a lock, the next start would refuse the folder as a
        # folder of other programs.
        if new:
            sync_folder(self.path)
        return None

    def make_inner(self, name: str) -> Path:
        """Make a private folder in this one, or check the existing one; return its path."""
        inner = self.path / name
        refuse_link(inner)
        make_folder(inner)
        check_private(inner)
        return inner

    def discard(self, entries: Iterable[str]) -> None:
        """Remove these entries after a refused start, if the folder was new.

        Otherwise a file of this start, such as the kind of a TPM, would influence the next start.  The
        folders that `make` has made are removed too.  Other content stays.  If the folder was in use before,
        nothing is removed.
        """
        if self.new is None or not self.ours:
            return
        with suppress(OSError):  # the error to report is the refusal of the start
            for path in {self.path / name for name in entries} - self.new:
                destroy(path)
            for folder in self._missing:
                folder.rmdir()

    def close(self) -> None:
        """Release the lock; a second close does nothing."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def trouble(error: OSError, folder: Path) -> SwpksError:
    """Return the error for an OSError, with a rule.

    The rule says that the device fails, or that the operator has to act.
    """
    message = f"{error.filename or folder}: {error.strerror or error}"
    if error.errno == errno.EIO:
        return StorageError(rules.STATE_DEVICE, f"{message}; see the log of the kernel")
    return OperatorError(rules.STATE_WRITABLE, message)


def check_private(folder: Path) -> None:
    """Raise OperatorError if a folder belongs to another user, or if others may enter it."""
    found = folder.lstat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        message = f"{folder} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}"
        remedy = f"chmod 700 {shlex.quote(str(folder))}"
        if found.st_uid != os.geteuid():
            remedy = "run the command as this user, or choose another folder"
        raise OperatorError(rules.STATE_PRIVATE, f"{message}; {remedy}")


def _is_new(folder: Path) -> bool:
    """Return whether a folder is new: empty, or with nothing but `run`.

    `run` may only have sockets, which a service manager has made.
    """
    names = [path.name for path in folder.iterdir()]
    return not names or (names == ["run"] and all(path.is_socket() for path in (folder / "run").iterdir()))
