"""The reasons to refuse a sealed blob: one exception for each, which names the record.

All are storage faults.  None of them holds a key, a salt, plaintext or ciphertext.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from uuid import UUID

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.sealing.kinds import SealedKind

Owner = UUID | int
"""The owner of a record: a partition's UUID, or at sealed level 1 its number; 0 is the system itself."""

_OWN_RECORDS: Mapping[int, str] = {
    SealedKind.TRUSTED_KEY: "the trusted system key",
    SealedKind.CONSOLE: "the console record",
    SealedKind.CUSTODY: "the custody record",
}
"""Records of the system itself that belong to no partition at any level."""


def record_name(kind: int, owner: Owner) -> str:
    """Return the name of a record in messages: ``the image of partition 4``, ``the system record``."""
    match kind:
        case SealedKind.PARTITION:
            return f"the record of partition {owner}"
        case SealedKind.PARTITION_IMAGE:
            return f"the image of partition {owner}"
        case SealedKind.PARTITION_PROFILE:
            return f"the profile of partition {owner}"
        case SealedKind.SYSTEM_RECORD:
            return "the system record" if int(owner) == 0 else f"a system record of partition {owner}"
    return _OWN_RECORDS.get(kind, f"a record of unknown kind {kind}")


class PlaintextError(StorageError):
    """The plaintext of a record does not have the layout that its level promises."""


class SealingError(StorageError):
    """A sealed blob was refused.

    `kind` and `owner` are those that the caller asked for; `reason` is the finding as a phrase.
    """

    broken: ClassVar[Rule]

    def __init__(self, kind: int, owner: Owner, reason: str, rule: Rule | None = None) -> None:
        super().__init__(rule or self.broken, f"{record_name(kind, owner)}: {reason}")
        self.kind = kind
        self.owner = owner
        self.reason = reason


class NotSealedError(SealingError):
    """The bytes are no sealed blob, or the fixed part of the header is damaged."""

    broken = rules.SEALED_MAGIC


class UnknownLevelError(SealingError):
    """The blob has another format level: damaged, of an older release, or written by a newer one."""

    broken = rules.SEALED_LEVEL


class SealedLengthError(SealingError):
    """The blob is truncated or has bytes left over."""

    broken = rules.SEALED_LENGTH


class WrongKindError(SealingError):
    """The header of the blob has another kind."""

    broken = rules.SEALED_KIND


class NotAuthenticError(SealingError):
    """The blob does not authenticate: damaged, or sealed for another partition, system or key."""

    broken = rules.SEALED_AUTHENTIC


class SwappedError(NotAuthenticError):
    """The blob is sound but belongs to another partition, `real_owner`."""

    broken = rules.SEALED_OWNER

    def __init__(self, kind: int, owner: Owner, real_owner: Owner) -> None:
        super().__init__(kind, owner, f"swapped: this is {record_name(kind, real_owner)}")
        self.real_owner = real_owner


class UndecodableError(SealingError):
    """The blob is authentic, but its plaintext can't be read: a newer or a faulty release wrote it."""

    def __init__(self, kind: int, owner: Owner, cause: PlaintextError) -> None:
        super().__init__(kind, owner, f"authentic but unreadable: {cause.message}", cause.rule)
