"""Inputs that a command passes on: an empty one is refused before anything is sent, and named."""

# Why an empty input is refused here
#
# The h-call would refuse it too, as a wrong length in a register: a fault of the guest. But usually the first
# program of a pipe has failed, or a file was never written. Only the command knows which of the two. An empty
# password means "no password". The h-call would be refused as for a lost password, although no password is
# lost. `swpks lpar raw` sends empty data too.

from __future__ import annotations

from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules.service import COMMAND_INPUT
from swpks.cli.files import STANDARD, read_input

PASSWORD_NEEDED = "a password has at least 1 byte; leave --password-file out if the consumer has none"  # noqa: S105


class EmptyInput(OperatorError):
    """An input has no bytes; `needed` says which bytes, and how they are given."""

    def __init__(self, path: Path | None, needed: str) -> None:
        name = "standard input" if path in STANDARD else str(path)
        super().__init__(COMMAND_INPUT, f"{name} is empty: {needed}", advised=True)


def content_of(path: Path | None, needed: str) -> bytes:
    """Return the bytes of a file, or of standard input; EmptyInput for none, OSError as `read_input`."""
    found = read_input(path)
    if not found:
        raise EmptyInput(path, needed)
    return found
