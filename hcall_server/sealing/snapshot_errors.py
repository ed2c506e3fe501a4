"""The reasons to refuse a snapshot: one exception for each (spec/snapshots.md#order-of-checks).

None of them holds a key, a passphrase, a salt, plaintext or ciphertext.
"""

from __future__ import annotations

from typing import ClassVar

from hcall_abi.errors import OperatorError
from hcall_abi.rules import snapshot as rules
from hcall_abi.rules.rule import Rule


class SnapshotError(OperatorError):
    """A snapshot, which an operator has chosen, was refused.  `reason` is the finding as a phrase."""

    broken: ClassVar[Rule]

    def __init__(self, reason: str) -> None:
        super().__init__(self.broken, f"the snapshot {reason}")
        self.reason = reason


class NotSnapshotError(SnapshotError):
    """The bytes are no snapshot, or the header of the snapshot is damaged."""

    broken = rules.SNAPSHOT_HEADER


class SnapshotLevelError(SnapshotError):
    """The snapshot has another level: damaged, or written by a newer release."""

    broken = rules.SNAPSHOT_LEVEL


class SnapshotLengthError(SnapshotError):
    """The snapshot is truncated or has bytes left over."""

    broken = rules.SNAPSHOT_LENGTH


class SnapshotParametersError(SnapshotError):
    """The snapshot names other parameters of scrypt.  They are refused, because they set time and memory."""

    broken = rules.SNAPSHOT_PARAMETERS


class OtherSystemError(SnapshotError):
    """Another system made the snapshot, or its root key is destroyed.  Nothing was decrypted."""

    broken = rules.SNAPSHOT_SYSTEM


class SnapshotPassphraseError(SnapshotError):
    """A portable snapshot without a passphrase, or an own one with one."""

    broken = rules.SNAPSHOT_PASSPHRASE


class SnapshotNotAuthenticError(SnapshotError):
    """The snapshot does not authenticate."""

    broken = rules.SNAPSHOT_AUTHENTIC


class SnapshotUnreadableError(SnapshotError):
    """The snapshot is authentic, but its contents can't be read: a newer or a faulty release wrote it."""

    broken = rules.SNAPSHOT_CONTENTS
