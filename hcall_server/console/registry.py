"""The register of a running console: its entries, durable, and the custody that its systems have shown.

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
#      a crash could take back.  If the store can't be written, memory has the old entry.
#   2. Each id in an entry or a fact that is returned is the present one.  A system that was replaced has
#      another id, and takes the place of its predecessor (`KnownSystem.former_ids`).  Ids are mapped when
#      they are read, so a replacement rewrites no entry.
#
# Three questions about a store are different ones:
#
#   elsewhere   By the register: another system is the owner.
#   claimed     By the views, for a partition without an entry or an owner: another system shows a store of
#               it. A system that is away, or is not Operating, also counts by its copies, because it may come
#               back with the stores of these copies.
#   unfinished  By an open attempt: the system may still lose the partition, or get it.
#
# A restore by an operator makes its system the owner before the system gets the copy (`give`).  An answer may
# be lost, and the store may be there all the same.  If the owner was entered after the answer, another order
# could restore the same copy elsewhere in between.  A refusal takes the owner back (`release_owner`).

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

    Each system in a returned entry has its present id: a successor takes the place of its predecessor.
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
        """Store that a system does not own a partition any more; the entry stays without an owner."""
        entry = self.of(uuid)
        if entry and entry.owner == system.system_id:
            self.enter(entry._replace(owner=""))

    def give(self, system: KnownSystem, uuid: str) -> bool:
        """Store that a system owns a partition, before an operator's restore.

        Return False, and store nothing, if it has an owner.  An owner that was removed from the console does
        not count.
        """
        entry = self.of(uuid) or Entry(uuid, "")
        if self.owner_of(entry):
            return False
        self.enter(entry._replace(owner=system.system_id))
        return True

    def owner_of(self, entry: Entry) -> KnownSystem | None:
        """Return the owner of a partition, None if there is none, or if the console does not know it."""
        return self.system(entry.owner) if entry.owner else None

    # Systems

    def system(self, system_id: str) -> KnownSystem | None:
        """Return the system with this id, or its successor; None if the console has neither."""
        # Present ids come first: a former id of another system must not hide the system that has this id now.
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
        """Return the custody of a partition in the last view of each system, by the system's present id."""
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
        """Return the name of the owner if another system owns the partition, otherwise ""."""
        entry = self.of(uuid)
        if entry is None or entry.owner in ("", system.system_id):
            return ""
        return self.name_of(entry.owner)

    def claimed(self, system: KnownSystem, uuid: str) -> str:
        """Return the name of another system that shows a store of a partition without an owner, "" for none.

        For a partition that has moved, the register decides.  For all other partitions the views decide, and
        the copies of systems that are away.
        """
        entry = self.of(uuid)
        if entry and (entry.moved or self.owner_of(entry)):
            return ""
        others = (each for each in self._systems() if each is not system)
        return next((each.name for each in others if uuid in each.stores), "")

    def outside(self, system: KnownSystem) -> dict[str, str]:
        """Return the partitions that a system may not get back.

        Each has the name of the system that owns the partition, or that an attempt may move it to.
        """
        found = {each.uuid: self.elsewhere(system, each.uuid) for each in self.entries}
        for entry in self.entries:
            if self.unfinished(system, entry.uuid):
                found[entry.uuid] = self.name_of(entry.target)
        return {uuid: place for uuid, place in found.items() if place}

    def is_here(self, system: KnownSystem, uuid: str) -> bool:
        """Return whether a system owns a partition by the register, and no attempt may move it."""
        entry = self.of(uuid)
        return entry is not None and entry.owner == system.system_id and not self.unfinished(system, uuid)

    def unfinished(self, system: KnownSystem, uuid: str) -> Entry | None:
        """Return the entry if an attempt from or to this system may still move the partition, else None."""
        entry = self.of(uuid)
        if entry is None or entry.over or entry.decision is Decision.DONE:
            return None
        return entry if system.system_id in (entry.source, entry.target) else None


def shown(system: KnownSystem) -> list[CustodyView]:
    """Return the custody in the last view of a system, with the ids that it has shown."""
    return system.view.custody if system.view else []


def _with_peer(fact: CustodyView, present: Callable[[str], str]) -> CustodyView:
    return msgspec.structs.replace(fact, peer_id=present(fact.peer_id)) if fact.peer_id else fact
