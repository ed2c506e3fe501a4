"""The passphrase of a portable snapshot: from a private file, or from the terminal; never from argv."""

from __future__ import annotations

import getpass
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import snapshot as rules
from swpks.cli.files import STANDARD, read_input
from swpks.cli.refusals import reason_of

_PROMPT = "passphrase of the snapshot: "


def given_passphrase(path: Path | None, portable: Callable[[], bool]) -> str | None:
    """Return the passphrase in a file, or from the terminal; None if neither is there, or for an empty line.

    `portable` says whether a snapshot of the command has a passphrase.  The terminal is asked only then.
    """
    if path is not None:
        return _of_file(path)
    return (_typed(_PROMPT) or None) if _terminal() and portable() else None


def new_passphrase(path: Path | None, *, portable: bool) -> str | None:
    """Return the passphrase of a new snapshot, None for an own one; the terminal is asked twice."""
    if not portable:
        if path is not None:
            message = "an own snapshot has no passphrase: add --portable, or leave --passphrase-file out"
            raise OperatorError(rules.SNAPSHOT_PASSPHRASE, message, advised=True)
        return None
    if path is not None:
        return _of_file(path)
    if not _terminal():
        message = "a portable snapshot needs a passphrase: --passphrase-file F, or a terminal"
        raise OperatorError(rules.SNAPSHOT_PASSPHRASE, message, advised=True)
    first = _typed(_PROMPT)
    if first != _typed("the same again: "):
        raise OperatorError(rules.SNAPSHOT_PASSPHRASE, "the two passphrases differ: nothing was saved")
    return first


def _terminal() -> bool:
    return bool(sys.stdin and sys.stdin.isatty())


def _typed(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise OperatorError(rules.SNAPSHOT_PASSPHRASE, "no passphrase was typed: the input ended") from None


def _of_file(path: Path) -> str:
    """Return the line in a file that only its owner can read; a pipe is permitted."""
    try:
        if path not in STANDARD:
            _check_private(path)
        content = read_input(path)
    except OSError as error:
        raise OperatorError(rules.SNAPSHOT_SECRET, f"{path}: {reason_of(error)}") from None
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or "\n" in text:
        raise OperatorError(rules.SNAPSHOT_SECRET, f"{path} has no single line of UTF-8 text")
    return text


def _check_private(path: Path) -> None:
    found = path.stat()
    if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
        message = f"{path} has mode {stat.S_IMODE(found.st_mode):04o}; chmod 600 {shlex.quote(str(path))}"
        raise OperatorError(rules.SNAPSHOT_SECRET, message, advised=True)
