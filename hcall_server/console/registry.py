"""The register of a running console: durable entries, and the custody that systems have shown.

registry = Registry(store, systems)
registry.enter(entry, "opened")
name = registry.elsewhere(system, uuid)
"""

# Entries, and the facts of views
#
# `entries` decides, and this module has the present values: the stored entries, and the custody in the last
# view of each system.  It must guarantee:
#
#   1. An entry is in the store before it is in memory.  So no request to a system follows from an entry that
#      a crash could undo.  If the store can't be written, memory has the old entry.
#   2. The register returns entries and facts with present ids only.  A system that was replaced has another
#      id, and takes the place of its predecessor (`KnownSystem.former_ids`).  The register maps ids when it
#      reads them, so a replacement rewrites no entry.
#
# There are three different questions about a store:
#
#   elsewhere   Is another system the owner?  The register answers that.
#   claimed     Does another system show a store, if the partition has no owner in the register?  The views
#               answer that.  If a system is away or not Operating, its copies count too: it may come back
#               with the stores of these copies.
#   unfinished  May the system still lose or get the partition by an open attempt?
#
# Before a restore by an operator, the register makes the system the owner (`give`).  Otherwise another order
# could restore the same copy elsewhere before the answer arrives.  If the answer is lost, the owner stays,
# because the store may be there.  If the system refuses, the owner is removed (`release_owner`).

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from hcall_abi.control_views import CustodyView
from hcall_server import failpoints
from hcall_server.console.entries import Entry, Facts, next_epoch
from hcall_server.console.naming import Names
from hcall_server.console.whereabouts import found_at
from hcall_server.platform.custody import Decision

if TYPE_CHECKING:
    from hcall_server.console.store import ConsoleStore
    from hcall_server.console.systems import KnownSystem


class Registry:
    """The register; `systems` returns all systems of the console.

    A returned entry has present ids: a system that was replaced has the id of its successor.
    """

    def __init__(self, store: ConsoleStore, systems: Callable[[], Iterable[KnownSystem]]) -> None:
        self._store = store
        self._systems = systems
        self._entries = {each.uuid: each for each in store.register()}
        self.names = Names(systems, self._entries.values)

    def __repr__(self) -> str:
        return f"Registry({len(self._entries)} partitions)"

    @property
    def entries(self) -> list[Entry]:
        """All entries, in the order of the names."""
        return sorted(map(self._present, self._entries.values()), key=lambda each: (each.name, each.uuid))

    def of(self, uuid: str) -> Entry | None:
        """Return the entry of a partition, None if the partition never took part in a migration."""
        entry = self._entries.get(uuid)
        return entry and self._present(entry)

    def enter(self, entry: Entry, point: failpoints.ConsolePoint | None = None) -> None:
        """Store an entry, durably; `point` names the fail-point that follows."""
        if entry != self._entries.get(entry.uuid):
            self._store.enter(entry)
            self._entries[entry.uuid] = entry
        if point:
            failpoints.reached(point)

    def release_owner(self, system: KnownSystem, uuid: str) -> None:
        """Remove a system as the owner of a partition; the entry stays, without an owner."""
        entry = self.of(uuid)
        if entry and entry.owner == system.system_id:
            self.enter(entry._replace(owner=""))

    def give(self, system: KnownSystem, uuid: str) -> bool:
        """Store that a system owns a partition, before an operator's restore.

        If the partition has an owner, store nothing and return False.  An owner that was removed from the
        console does not count.
        """
        entry = self.of(uuid) or Entry(uuid, "")
        if self.owner_of(entry):
            return False
        self.enter(entry._replace(owner=system.system_id))
        return True

    def owner_of(self, entry: Entry) -> KnownSystem | None:
        """Return the owner of a partition; None if there is none, or if it was removed from the console."""
        return self.system(entry.owner) if entry.owner else None

    # Systems

    def system(self, system_id: str) -> KnownSystem | None:
        """Return the system with this id, or the system that has replaced it; None for an unknown id."""
        # Present ids are compared first.  The present id of one system may be a former id of another entry.
        for each in self._systems():
            if system_id == each.system_id:
                return each
        return next((each for each in self._systems() if system_id in each.former_ids), None)

    def name_of(self, system_id: str) -> str:
        """Return the name of a system; for an unknown system, a phrase with its id."""
        system = self.system(system_id)
        return system.name if system else system_id and f"an unknown system ({system_id})"

    def _present(self, entry: Entry) -> Entry:
        source, target, owner = (self._id(each) for each in (entry.source, entry.target, entry.owner))
        others = tuple(self._id(each) for each in entry.others)
        return entry._replace(source=source, target=target, owner=owner, others=others)

    def _id(self, system_id: str) -> str:
        system = self.system(system_id) if system_id else None
        return system.system_id if system else system_id

    def found_at(self, name: str) -> str:
        """Return a phrase with the systems that have a partition with this name, "" for none."""
        return found_at(self._systems(), name)

    # Custody as the systems show it

    def facts(self, uuid: str) -> Facts:
        """Return the custody that each system shows for a partition, by the id of the system.

        It comes from the last views, and all ids are present ones.
        """
        return {
            system.system_id: _with_peer(fact, self._id)
            for system in self._systems()
            for fact in shown(system)
            if fact.uuid == uuid
        }

    def facts_of(self, system: KnownSystem) -> list[CustodyView]:
        """Return all custody in the last view of a system."""
        return [_with_peer(fact, self._id) for fact in shown(system)]

    def heard(self) -> set[str]:
        """Return the ids of the systems that have a view since the console started."""
        return {each.system_id for each in self._systems() if each.view}

    def away(self) -> set[str]:
        """Return the ids of the systems that are not connected."""
        return {each.system_id for each in self._systems() if not each.connected}

    def next_epoch(self, uuid: str) -> int:
        """Return the number of a new attempt to move a partition."""
        return next_epoch(self.of(uuid), self.facts(uuid).values())

    # Who may have a store

    def elsewhere(self, system: KnownSystem, uuid: str) -> str:
        """Return the name of the owner if another system owns the partition, else ""."""
        entry = self.of(uuid)
        if entry is None or entry.owner in ("", system.system_id):
            return ""
        return self.name_of(entry.owner)

    def claimed(self, system: KnownSystem, uuid: str) -> str:
        """Return the name of another system than `system` that may have a store of the partition `uuid`.

        The result is "" if there is no such system.  It is also "" if the register knows an owner or a move
        of the partition, because the register decides in these cases.  A connected system has the stores that
        its view shows.  A system that is away may also have the stores of its copies on this console.
        """
        entry = self.of(uuid)
        if entry and (entry.moved or self.owner_of(entry)):
            return ""
        others = (each for each in self._systems() if each is not system)
        return next((each.name for each in others if uuid in each.stores), "")

    def outside(self, system: KnownSystem) -> dict[str, str]:
        """Return the partitions that must not be restored at a system, by UUID.

        Each has the name of the system that owns the partition, or may get it by an open attempt.
        """
        found = {each.uuid: self.elsewhere(system, each.uuid) for each in self.entries}
        for entry in self.entries:
            if self.unfinished(system, entry.uuid):
                found[entry.uuid] = self.name_of(entry.target)
        return {uuid: place for uuid, place in found.items() if place}

    def is_here(self, system: KnownSystem, uuid: str) -> bool:
        """Return whether the register names a system as the owner, and no attempt may move the partition."""
        entry = self.of(uuid)
        return entry is not None and entry.owner == system.system_id and not self.unfinished(system, uuid)

    def unfinished(self, system: KnownSystem, uuid: str) -> Entry | None:
        """Return the entry if an attempt from or to this system may still move the partition.

        Otherwise None.
        """
        entry = self.of(uuid)
        if entry is None or entry.over or entry.decision is Decision.DONE:
            return None
        return entry if system.system_id in (entry.source, entry.target) else None


def shown(system: KnownSystem) -> list[CustodyView]:
    """Return the custody in the last view of a system.

    Its ids are not mapped: they may be former ones.
    """
    return system.view.custody if system.view else []


def _with_peer(fact: CustodyView, present: Callable[[str], str]) -> CustodyView:
    return msgspec.structs.replace(fact, peer_id=present(fact.peer_id)) if fact.peer_id else fact
