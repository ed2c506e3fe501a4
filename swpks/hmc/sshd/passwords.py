"""The passwords of the door: their file, and the check of one."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import door as rules
from swpks.hmc.sshd.shell import is_login

TRIES = 6
"""Wrong passwords after which a connection ends."""
DELAY = 1.0
"""Seconds before the answer to a wrong password."""
_LARGEST = 1 << 16
"""Bytes of a password file."""


class DoorPasswords:
    """The passwords by login name; no text form shows them."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = {name: each.encode() for name, each in passwords.items()}
        # An unknown name is compared too.  Otherwise the time of the answer would show which names exist.
        self._nothing = os.urandom(32)

    def __repr__(self) -> str:
        return f"DoorPasswords(of {len(self._passwords)} names)"

    def accept(self, name: str, password: str) -> bool:
        """Return whether the password is that of the name, in a time that does not depend on it."""
        given = password.encode("utf-8", "surrogatepass")
        expected = self._passwords.get(name)
        same = hmac.compare_digest(given, self._nothing if expected is None else expected)
        return same and expected is not None


def read(path: Path) -> DoorPasswords:
    """Return the passwords of a file; OperatorError if another user may read it, or a line is malformed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check(path, os.fstat(descriptor))
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from None
    return DoorPasswords(parse(content, path))


def parse(content: bytes, path: Path) -> dict[str, str]:
    """Return the passwords in a text: lines `USER:PASSWORD`, empty ones, and comments that begin with `#`.

    OperatorError for any other line; the message has its number, and none of its text.
    """
    if len(content) > _LARGEST:
        raise _refused(path, f"it has more than {_LARGEST} bytes")
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise _refused(path, "it is not UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, password = line.removesuffix("\r").partition(":")
        if not is_login(name) or not password:
            raise _refused(path, f"line {number} is not USER:PASSWORD")
        if name in found:
            raise _refused(path, f"line {number} names a user again")
        found[name] = password
    if not found:
        raise _refused(path, "it has no line USER:PASSWORD")
    return found


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _refused(path, "it is no regular file")
    if found.st_uid not in (os.geteuid(), 0):
        raise _refused(path, f"it belongs to user {found.st_uid}; it has to be a file of yours")
    if stat.S_IMODE(found.st_mode) & 0o177:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise _refused(path, f"it has mode {mode}, and must have 0600: chmod 600 it")


def _refused(path: Path, reason: str) -> OperatorError:
    return OperatorError(rules.DOOR_PASSWORDS, f"password file {path}: {reason}", advised=True)
