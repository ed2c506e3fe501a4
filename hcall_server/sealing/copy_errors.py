"""The reasons to refuse a console copy: one exception for each (spec/sealed.md#order-of-checks-of-a-copy).

None of them holds a key, a salt, plaintext or ciphertext.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from hcall_abi.errors import OperatorError
from hcall_abi.rules import backup as rules
from hcall_abi.rules.rule import Rule


class CopyError(OperatorError):
    """A console copy, which an operator has chosen, was refused.

    `reason` is the finding as a phrase.  `uuid` is the partition in its header, None if the header could not
    be read.
    """

    broken: ClassVar[Rule]

    def __init__(self, reason: str, uuid: UUID | None = None, *, subject: str = "the console copy") -> None:
        of = f" of partition {uuid}" if uuid else ""
        super().__init__(self.broken, f"{subject}{of} {reason}")
        self.reason = reason
        self.uuid = uuid


class NotCopyError(CopyError):
    """The bytes are no console copy, or the header of the copy is damaged."""

    broken = rules.COPY_HEADER


class CopyLevelError(CopyError):
    """The copy has another level: damaged, or written by a newer release."""

    broken = rules.COPY_LEVEL


class CopyLengthError(CopyError):
    """The copy is truncated or has bytes left over."""

    broken = rules.COPY_LENGTH


class OtherKeyError(CopyError):
    """The copy was made under another trusted system key.  Nothing was decrypted."""

    broken = rules.COPY_KEY

    def __init__(self, made_under: bytes, present: bytes, uuid: UUID) -> None:
        keys = f"made under the trusted system key {made_under.hex()}, and this system has {present.hex()}"
        super().__init__(f"was {keys}; set the key that made it", uuid)
        self.made_under = made_under
        self.present = present


class CopyNotAuthenticError(CopyError):
    """The copy does not authenticate: it was damaged or changed."""

    broken = rules.COPY_AUTHENTIC


class CopyUnreadableError(CopyError):
    """The copy is authentic, but its contents can't be read: a newer or a faulty release wrote it."""

    broken = rules.COPY_CONTENTS
