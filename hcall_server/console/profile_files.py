"""The console's own folder of profile backups: STORE/profiles/SERIAL/NAME (spec/console.md#profile-backups).

It replaces /var/hsc/profiles of the real console.  A bare name in a line is a file here.  A name with a
slash is a file of the command, and this module never sees it.
"""

from __future__ import annotations

from pathlib import Path

from hcall_abi.console import is_partition_name
from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import hmc as rules
from hcall_server.console.profile_format import MAX_PROFILE
from hcall_server.files import make_folder, refuse_link, replace_private, sync_folder

_XML = b"<?xml"
"""The begin of a file of `mkprofdata`."""


class ProfileFiles:
    """Profile backups in files below a folder, or in memory if the folder is None.

    In the methods, `serial` is the serial number of a system.  OperatorError for a name that is a path, is
    missing or is taken; StorageError if the folder fails.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[tuple[str, str], bytes] = {}

    def __repr__(self) -> str:
        return f"ProfileFiles({self._folder})"

    def names(self, serial: str) -> list[str]:
        """Return the names of all files of a system, sorted: profile backups and XML."""
        if self._folder is None:
            return sorted(name for each, name in self._memory if each == serial)
        folder = self._folder / serial
        refuse_link(self._folder)
        refuse_link(folder)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def backups(self, serial: str) -> list[str]:
        """Return the names of the profile backups of a system, sorted; files of XML are left out."""
        return [name for name in self.names(serial) if not self._is_xml(serial, name)]

    def place(self, serial: str, name: str) -> str:
        """Return the path of a file; only its name if the files are in memory."""
        return name if self._folder is None else str(self._folder / serial / name)

    def _is_xml(self, serial: str, name: str) -> bool:
        try:
            return self.read(serial, name).startswith(_XML)
        except SwpksError:
            # An unreadable file counts as a backup.  So it is listed, and the operator can remove it.
            return False

    def read(self, serial: str, name: str) -> bytes:
        """Return the content of a backup."""
        self._demand(serial, name)
        if self._folder is None:
            return self._memory[serial, name]
        path = self._folder / serial / name
        refuse_link(path)
        # A pipe is refused here, because opening it would wait for its writer.
        if not path.is_file():
            raise OperatorError(rules.HMC_PROFILE_FILE, f"{path} is no file")
        try:
            with path.open("rb") as file:
                # If the file is too long, one byte above the limit is enough to see that.
                return file.read(MAX_PROFILE + 1)
        except OSError as error:
            raise _failed(path, error) from None

    def test(self, serial: str, name: str, *, replace: bool) -> None:
        """Raise OperatorError if a backup can't be written under this name.

        The name is malformed, or it exists already and `replace` is false.
        """
        _demand_bare(serial, name)
        if not replace and name in self.names(serial):
            message = f"the profile backup {name} exists: use --force to replace it"
            raise OperatorError(rules.HMC_PROFILE_NAME, message, advised=True)

    def write(self, serial: str, name: str, content: bytes, *, replace: bool) -> None:
        """Store a backup durably; replace an existing backup only if `replace` is true."""
        self.test(serial, name, replace=replace)
        if self._folder is None:
            self._memory[serial, name] = content
            return
        path = self._folder / serial / name
        for folder in (self._folder, path.parent):
            refuse_link(folder)
        try:
            make_folder(self._folder)
            make_folder(path.parent)
            replace_private(path, content)
        except OSError as error:
            raise _failed(path, error) from None

    def remove(self, serial: str, name: str) -> None:
        """Remove a backup durably."""
        self._demand(serial, name)
        if self._folder is None:
            del self._memory[serial, name]
            return
        path = self._folder / serial / name
        try:
            path.unlink()
            sync_folder(path.parent)
        except OSError as error:
            raise _failed(path, error) from None

    def _demand(self, serial: str, name: str) -> None:
        _demand_bare(serial, name)
        if name not in self.names(serial):
            known = ", ".join(self.backups(serial)) or "none"
            message = f"there is no profile backup {name!r} of {serial}; there are: {known}"
            raise OperatorError(rules.HMC_PROFILE_NAME, message, advised=True)


def _demand_bare(*names: str) -> None:
    for name in names:
        if not is_partition_name(name):
            message = f"{name[:40]!r} is no bare name: use letters, digits, dots and dashes"
            raise OperatorError(rules.HMC_PROFILE_NAME, message, advised=True)


def _failed(path: Path, error: OSError) -> StorageError:
    return StorageError(rules.HMC_STORE_WRITTEN, f"{path}: {error.strerror or error}; nothing was changed")
