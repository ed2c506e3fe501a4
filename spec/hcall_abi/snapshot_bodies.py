"""The bodies of requests about named snapshots, as in `hcall_abi.control_bodies`."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from hcall_abi.bounds import LONGEST_PASSPHRASE, LONGEST_SNAPSHOT_NAME, SHORTEST_PASSPHRASE
from hcall_abi.control_bodies import Body

# In Python `$` also matches before a newline at the end.  The lookahead refuses that.
SNAPSHOT_NAME_PATTERN = r"^(?![^\n]*\n)[0-9A-Za-z][0-9A-Za-z._-]*$"

SnapshotName = Annotated[
    str,
    msgspec.Meta(
        pattern=SNAPSHOT_NAME_PATTERN, max_length=LONGEST_SNAPSHOT_NAME, description="name of a snapshot"
    ),
]
PassphraseText = Annotated[str, msgspec.Meta(min_length=SHORTEST_PASSPHRASE, max_length=LONGEST_PASSPHRASE)]


def is_snapshot_name(name: str) -> bool:
    """Return whether a snapshot may have this name."""
    return len(name) <= LONGEST_SNAPSHOT_NAME and bool(re.match(SNAPSHOT_NAME_PATTERN, name))


class NamedSnapshot(Body):
    """The snapshot with this name; a portable one is opened with `passphrase`."""

    name: SnapshotName
    passphrase: PassphraseText | None = None

    def __repr__(self) -> str:
        return f"NamedSnapshot({self.name!r})"


class SnapshotSaving(Body):
    """A snapshot to save: with `passphrase` a portable one.  `force` replaces one of the same name."""

    name: SnapshotName
    passphrase: PassphraseText | None = None
    force: bool = False

    def __repr__(self) -> str:
        return f"SnapshotSaving({self.name!r})"


class SnapshotLoading(Body):
    """A snapshot to load; `keep_uuid`: the partitions of a portable one keep their UUIDs."""

    name: SnapshotName
    passphrase: PassphraseText | None = None
    keep_uuid: bool = False

    def __repr__(self) -> str:
        return f"SnapshotLoading({self.name!r})"


class SnapshotComparison(Body):
    """A snapshot to compare with the snapshot `other`, or without `other` with the present system.

    The passphrase is used for each of the two that is portable.
    """

    name: SnapshotName
    passphrase: PassphraseText | None = None
    other: SnapshotName | None = None

    def __repr__(self) -> str:
        return f"SnapshotComparison({self.name!r})"
