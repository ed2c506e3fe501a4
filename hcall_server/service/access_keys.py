"""Access keys: how clients of a partition prove themselves over TCP (spec/service.md#state)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import storage as rules
from hcall_server.files import replace_private
from hcall_server.keystore.store import Entropy
from hcall_server.platform.partition import Partition


class AccessKeys:
    """The access keys of all partitions: files NAME.key in a private folder, 32 bytes in hex each.

    A key is read, or made, once: no OPEN of a stranger touches a file.
    """

    def __init__(self, folder: Path, entropy: Entropy) -> None:
        self._folder = folder
        self._entropy = entropy
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"AccessKeys({sorted(self._keys)})"

    def __call__(self, partition: Partition) -> bytes:
        """Return a partition's key, a new one where there is none.

        The stand-in of an unreadable partition has an empty key, with which nothing is proven.
        Raises OperatorError when the file is not private or does not hold a key, StorageError when a
        new one can't be written.
        """
        if partition.name_unknown:
            return b""
        name = partition.name
        if name not in self._keys:
            self._keys[name] = self._read(name) or self._made(name)
        return self._keys[name]

    def _read(self, name: str) -> bytes | None:
        """Return the key in a file, None where there is no file."""
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OperatorError(rules.ACCESS_KEY_FILE, f"{path}: {error.strerror}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OperatorError(rules.ACCESS_KEY_FILE, f"{path} is no plain file")
            if found.st_mode & 0o077:
                raise OperatorError(rules.ACCESS_KEY_MODE, f"{path} is readable by others")
            text = os.read(descriptor, 2 * ACCESS_KEY_SIZE + 2).strip()
        finally:
            os.close(descriptor)
        try:
            key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != ACCESS_KEY_SIZE:
            raise OperatorError(rules.ACCESS_KEY_CONTENT, f"{path} holds no access key")
        return key

    def _made(self, name: str) -> bytes:
        """Make a key and store it: all or nothing, durable, readable by the owner alone."""
        key = self._entropy(ACCESS_KEY_SIZE)
        try:
            replace_private(self._path(name), key.hex().encode() + b"\n")
        except OSError as error:
            message = f"the access key of {name} can't be written: {error.strerror}"
            raise StorageError(rules.ACCESS_KEY_STORED, message) from None
        return key

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.key"
