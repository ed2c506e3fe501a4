"""The bodies of answers about named snapshots, as in `hcall_abi.control_views`.

No body holds a key, a passphrase or object data.  Labels are in hexadecimal digits.
"""

from __future__ import annotations

from typing import Literal

from hcall_abi.control_views import View

SnapshotKind = Literal["own", "portable", "unknown"]
ChangeName = Literal["added", "removed", "changed"]
SnapshotValue = str | int | bool


class SnapshotFactsView(View):
    """The clear facts of a snapshot: `size` in bytes, `time` in seconds since 1970 (UTC).

    They are claims of the file, until the snapshot was opened.  If the file is no readable snapshot,
    `problem` is the reason, and the other facts are empty.
    """

    name: str
    kind: SnapshotKind
    size: int
    time: int
    partitions: int
    system_id: str
    firmware_level: str
    problem: str | None = None


class SnapshotsView(View):
    """The snapshots in the folder of the state, by name."""

    snapshots: list[SnapshotFactsView]


class SnapshotObjectView(View):
    """An object in a snapshot, without its data: label in hex, policy word, bytes of data."""

    consumer: int
    label: str
    policy: int
    size: int


class SnapshotPartitionView(View):
    """A partition in a snapshot, with the counters of that time; `attributes` are those of the console."""

    name: str
    uuid: str
    number: int
    auto_start: bool
    ipl_count: int
    generation: int
    restores: int
    attributes: dict[str, int]
    objects: list[SnapshotObjectView]


class SnapshotView(View):
    """A snapshot and its contents.

    `opened` is false for a portable snapshot without its passphrase: then its facts are not checked, and
    its contents are unknown.
    """

    facts: SnapshotFactsView
    opened: bool
    system_name: str
    total_kbytes: int
    partitions: list[SnapshotPartitionView]


class LeftOutView(View):
    """A partition that was not saved or not loaded, and the reason."""

    name: str
    reason: str


class SavedSnapshotView(View):
    """A saved snapshot; `file` is its name in the folder `snapshots` of the state."""

    facts: SnapshotFactsView
    file: str
    left_out: list[LeftOutView]


class LoadedPartitionView(View):
    """A partition after its load, powered off, with its new counters; `made`: it did not exist before."""

    name: str
    uuid: str
    ipl_count: int
    generation: int
    restores: int
    made: bool


class LoadedSnapshotView(View):
    """A load that is durable.

    `left_out` are partitions of the snapshot that this system does not own.  `untouched` are partitions of
    the system that the snapshot does not have.
    """

    facts: SnapshotFactsView
    loaded: list[LoadedPartitionView]
    left_out: list[LeftOutView]
    untouched: list[str]


class ChangedValueView(View):
    """A setting whose value differs."""

    name: str
    before: SnapshotValue
    after: SnapshotValue


class ChangedObjectView(View):
    """An object that differs: label in hex; `before` and `after` are bytes of data, null for no object.

    `changed` with equal sizes means other data or another policy.
    """

    consumer: int
    label: str
    change: ChangeName
    before: int | None
    after: int | None


class ChangedPartitionView(View):
    """A partition that differs."""

    name: str
    uuid: str
    change: ChangeName
    values: list[ChangedValueView]
    objects: list[ChangedObjectView]


class SnapshotDiffView(View):
    """The differences from `before` to `after`, names of snapshots; "" is the present system.

    `same` are the names of partitions without a difference.  Counters are not compared.
    """

    before: str
    after: str
    values: list[ChangedValueView]
    partitions: list[ChangedPartitionView]
    same: list[str]
