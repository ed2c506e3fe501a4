"""The answers of the verbs about named snapshots.  The first request loads this module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hcall_abi.snapshot_bodies import NamedSnapshot, SnapshotComparison, SnapshotLoading, SnapshotSaving
from hcall_abi.snapshot_views import (
    LeftOutView,
    LoadedPartitionView,
    LoadedSnapshotView,
    SavedSnapshotView,
    SnapshotDiffView,
    SnapshotFactsView,
    SnapshotObjectView,
    SnapshotPartitionView,
    SnapshotsView,
    SnapshotView,
)
from hcall_server.keystore.image import object_of
from hcall_server.platform.partition import Partition
from hcall_server.sealing import PartitionRecord
from hcall_server.sealing.snapshots import Passphrase, SnapshotContents
from hcall_server.snapshots.diff import differences
from hcall_server.snapshots.plan import LeftOut
from hcall_server.snapshots.snapshots import Shelf, SnapshotFile, Snapshots

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine


class SnapshotAnswers:
    """The answers for one machine; `shelf` has the files of its snapshots."""

    def __init__(self, machine: Machine, shelf: Shelf) -> None:
        self._snapshots = Snapshots(machine, shelf)
        self._system = machine.system

    def __repr__(self) -> str:
        return f"SnapshotAnswers({self._snapshots!r})"

    async def listed(self) -> SnapshotsView:
        """List the snapshots; none of them is opened."""
        return SnapshotsView(snapshots=[_facts(each) for each in await self._snapshots.all()])

    async def saved(self, body: SnapshotSaving) -> SavedSnapshotView:
        """Save a snapshot."""
        done = await self._snapshots.save(body.name, _passphrase(body), force=body.force)
        return SavedSnapshotView(facts=_facts(done.shown), file=done.file, left_out=_left_out(done.left_out))

    async def loaded(self, body: SnapshotLoading) -> LoadedSnapshotView:
        """Load a snapshot, durably."""
        done = await self._snapshots.load(body.name, _passphrase(body), keep_uuid=body.keep_uuid)
        return LoadedSnapshotView(
            facts=_facts(done.shown),
            loaded=[_loaded(partition, made=made) for partition, made in done.partitions],
            left_out=_left_out(done.plan.left_out),
            untouched=list(done.plan.untouched),
        )

    async def shown(self, body: NamedSnapshot) -> SnapshotView:
        """Show a snapshot.  A portable one without a passphrase shows its clear facts alone."""
        snapshots = self._snapshots
        if body.passphrase is None:
            head = await snapshots.head(body.name)
            if head.header and head.header.portable:
                return SnapshotView(
                    facts=_facts(head), opened=False, system_name="", total_kbytes=0, partitions=[]
                )
        opened, file = await snapshots.opened(body.name, _passphrase(body))
        contents = opened.contents
        return SnapshotView(
            facts=_facts(file),
            opened=True,
            system_name=contents.system_name,
            total_kbytes=contents.total_kbytes,
            partitions=[_partition(each) for each in contents.records],
        )

    async def compared(self, body: SnapshotComparison) -> SnapshotDiffView:
        """Compare a snapshot with another one, or with the present system."""
        snapshots = self._snapshots
        before = await _contents(snapshots, body.name, body)
        if body.other is None:
            self._system.demand_operating()
            after = snapshots.present()[0]
        else:
            after = await _contents(snapshots, body.other, body)
        found = differences(before, after)
        return SnapshotDiffView(
            before=body.name,
            after=body.other or "",
            values=found.values,
            partitions=found.partitions,
            same=found.same,
        )

    async def removed(self, body: NamedSnapshot) -> SnapshotsView:
        """Remove a snapshot, and list the others."""
        await self._snapshots.remove(body.name)
        return await self.listed()


async def _contents(snapshots: Snapshots, name: str, body: SnapshotComparison) -> SnapshotContents:
    """Return the contents of a snapshot.  The passphrase is for portable ones alone."""
    head = await snapshots.head(name)
    portable = head.header is not None and head.header.portable
    return (await snapshots.opened(name, _passphrase(body) if portable else None))[0].contents


def _passphrase(
    body: NamedSnapshot | SnapshotSaving | SnapshotLoading | SnapshotComparison,
) -> Passphrase | None:
    return None if body.passphrase is None else Passphrase(body.passphrase)


def _facts(file: SnapshotFile) -> SnapshotFactsView:
    header = file.header
    if header is None:
        return SnapshotFactsView(
            name=file.name,
            kind="unknown",
            size=file.size,
            time=0,
            partitions=0,
            system_id="",
            firmware_level="",
            problem=file.problem,
        )
    return SnapshotFactsView(
        name=file.name,
        kind="portable" if header.portable else "own",
        size=file.size,
        time=header.time,
        partitions=header.partitions,
        system_id=header.system_id.hex(),
        firmware_level=header.firmware,
    )


def _left_out(found: Iterable[LeftOut]) -> list[LeftOutView]:
    return [LeftOutView(name=each.name, reason=each.reason) for each in found]


def _loaded(partition: Partition, *, made: bool) -> LoadedPartitionView:
    profile = partition.profile
    return LoadedPartitionView(
        name=profile.name,
        uuid=str(profile.uuid),
        ipl_count=profile.ipl_count,
        generation=profile.image_generation,
        restores=profile.restores,
        made=made,
    )


def _partition(record: PartitionRecord) -> SnapshotPartitionView:
    profile, image = record
    objects = map(object_of, image.entries if image else ())
    return SnapshotPartitionView(
        name=profile.name,
        uuid=str(profile.uuid),
        number=profile.number,
        auto_start=profile.auto_start,
        ipl_count=profile.ipl_count,
        generation=profile.image_generation,
        restores=profile.restores,
        attributes=dict(profile.attributes.numbers),
        objects=[
            SnapshotObjectView(
                consumer=each.consumer, label=each.label.hex(), policy=each.policy, size=len(each.data)
            )
            for each in objects
        ],
    )
