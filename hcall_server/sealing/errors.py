"""Why a sealed blob was refused: one exception for each reason, each naming the record it was about.

All are storage faults.  None of them holds a key, a salt, plaintext or ciphertext.
"""

from __future__ import annotations

from hcall_abi.errors import StorageError
from hcall_server.sealing.formats import SealedKind

_PAGE = "spec/sealed.md"


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

    def __init__(self, reason: str, *, rule: str, heading: str) -> None:
        super().__init__(reason, rule=rule, section=f"{_PAGE}#{heading}")
        self.heading = heading


class SealingError(StorageError):
    """A sealed blob was refused.

    `kind` and `partition` are those that were asked for, `reason` is the finding as a phrase.
    """

    rule_broken = "a sealed blob opens only whole, unchanged and in its own place"
    heading = "order-of-checks"

    def __init__(self, kind: int, partition: int, reason: str) -> None:
        super().__init__(
            f"{record_name(kind, partition)}: {reason}",
            rule=self.rule_broken,
            section=f"{_PAGE}#{self.heading}",
        )
        self.kind = kind
        self.partition = partition
        self.reason = reason


class NotSealedError(SealingError):
    """The bytes are not a sealed blob at all, or the fixed part of its header is damaged."""

    rule_broken = "a sealed blob begins with its magic, and its reserved bytes are zero"


class UnknownLevelError(SealingError):
    """The blob has a format level that this release does not know: damaged, or written by a newer one."""

    rule_broken = "the format level of a sealed blob is one that this release knows"


class SealedLengthError(SealingError):
    """The blob is truncated or has bytes left over."""

    rule_broken = "a sealed blob has the length that its header states"


class WrongKindError(SealingError):
    """The blob says that it holds something else."""

    rule_broken = "a record holds a blob of its own kind"


class NotAuthenticError(SealingError):
    """The blob does not authenticate: damaged, or sealed for another partition, system or key."""

    rule_broken = "a sealed blob authenticates under the key of its partition and system"


class SwappedError(NotAuthenticError):
    """The blob is sound but belongs to another partition, whose number is `owner`."""

    rule_broken = "a sealed blob opens for the partition that it was sealed for alone"

    def __init__(self, kind: int, partition: int, owner: int) -> None:
        super().__init__(kind, partition, f"swapped: this is {record_name(kind, owner)}")
        self.owner = owner


class UndecodableError(SealingError):
    """The blob is authentic, but what it holds can't be read: written by a newer or a faulty release."""

    rule_broken = "an authentic blob holds a plaintext of a known level and layout"

    def __init__(self, kind: int, partition: int, cause: PlaintextError) -> None:
        self.heading = cause.heading
        super().__init__(kind, partition, f"authentic but unreadable: {cause.message}")
