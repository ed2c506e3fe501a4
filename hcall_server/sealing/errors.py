"""Why a sealed blob was refused: one exception for each reason, each naming the record it was about.

All are storage faults.  None of them holds a key, a salt, plaintext or ciphertext.
"""

from __future__ import annotations

from typing import ClassVar

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.sealing.formats import SealedKind


def record_name(kind: int, partition: int) -> str:
    """Return what people call a record: ``the image of partition 4``, ``the system record``."""
    match kind:
        case SealedKind.PARTITION_IMAGE:
            return f"the image of partition {partition}"
        case SealedKind.PARTITION_PROFILE:
            return f"the profile of partition {partition}"
        case SealedKind.SYSTEM_RECORD:
            return "the system record" if partition == 0 else f"a system record of partition {partition}"
    return f"a record of unknown kind {kind}"


class PlaintextError(StorageError):
    """The plaintext of a record does not have the layout that its level promises."""


class SealingError(StorageError):
    """A sealed blob was refused.

    `kind` and `partition` are those that were asked for, `reason` is the finding as a phrase.
    """

    broken: ClassVar[Rule]

    def __init__(self, kind: int, partition: int, reason: str, rule: Rule | None = None) -> None:
        super().__init__(rule or self.broken, f"{record_name(kind, partition)}: {reason}")
        self.kind = kind
        self.partition = partition
        self.reason = reason


class NotSealedError(SealingError):
    """The bytes are not a sealed blob at all, or the fixed part of its header is damaged."""

    broken = rules.SEALED_MAGIC


class UnknownLevelError(SealingError):
    """The blob has a format level that this release does not know: damaged, or written by a newer one."""

    broken = rules.SEALED_LEVEL


class SealedLengthError(SealingError):
    """The blob is truncated or has bytes left over."""

    broken = rules.SEALED_LENGTH


class WrongKindError(SealingError):
    """The blob says that it holds something else."""

    broken = rules.SEALED_KIND


class NotAuthenticError(SealingError):
    """The blob does not authenticate: damaged, or sealed for another partition, system or key."""

    broken = rules.SEALED_AUTHENTIC


class SwappedError(NotAuthenticError):
    """The blob is sound but belongs to another partition, whose number is `owner`."""

    broken = rules.SEALED_OWNER

    def __init__(self, kind: int, partition: int, owner: int) -> None:
        super().__init__(kind, partition, f"swapped: this is {record_name(kind, owner)}")
        self.owner = owner


class UndecodableError(SealingError):
    """The blob is authentic, but what it holds can't be read: written by a newer or a faulty release."""

    def __init__(self, kind: int, partition: int, cause: PlaintextError) -> None:
        super().__init__(kind, partition, f"authentic but unreadable: {cause.message}", cause.rule)
