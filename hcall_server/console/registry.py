"""The register of a running console: its entries, durable, and the custody that its systems have shown.

registry = Registry(store, systems)
registry.enter(entry, "opened")
name = registry.elsewhere(system, uuid)
"""

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

    In the entries that it returns, each system has its present id: a system that was replaced takes the place
    of its predecessor.
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
        """Return the entry of a partition, None for one that never took part in a migration."""
        entry = self._entries.get(uuid)
        return entry and self._present(entry)

    def enter(self, entry: Entry, point: failpoints.ConsolePoint | None = None) -> None:
        """Store an entry, durably; `point` is the fail-point behind it."""
        if entry != self._entries.get(entry.uuid):
            self._store.enter(entry)
            self._entries[entry.uuid] = entry
        if point:
            failpoints.reached(point)

    def release_owner(self, system: KnownSystem, uuid: str) -> None:
        """Note that the owner of a partition has deleted it: nobody owns it."""
        entry = self.of(uuid)
        if entry and entry.owner == system.system_id:
            self.enter(entry._replace(owner=""))

    def give(self, system: KnownSystem, uuid: str) -> bool:
        """Note that an operator restores a partition at a system; return whether it had no owner before.

        An owner that was removed from the console does not count.
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
        """Return the system with this id, or the one that has taken its place; None for a foreign one."""
        for each in self._systems():
            if system_id == each.system_id:
                return each
        return next((each for each in self._systems() if system_id in each.former_ids), None)

    def name_of(self, system_id: str) -> str:
        """Return the name of a system for people."""
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
        """Return in words where a partition with a name is, "" if no system shows it."""
        return found_at(self._systems(), name)

    # Custody as the systems show it

    def facts(self, uuid: str) -> Facts:
        """Return the last shown custody of a partition on each system, by the present id of the system."""
        return {
            system.system_id: _with_peer(fact, self._id)
            for system in self._systems()
            for fact in shown(system)
            if fact.uuid == uuid
        }

    def facts_of(self, system: KnownSystem) -> list[CustodyView]:
        """Return the custody that a system has shown."""
        return [_with_peer(fact, self._id) for fact in shown(system)]

    def heard(self) -> set[str]:
        """Return the ids of the systems that have shown themselves since the console started."""
        return {each.system_id for each in self._systems() if each.view}

    def away(self) -> set[str]:
        """Return the ids of the systems that are not connected."""
        return {each.system_id for each in self._systems() if not each.connected}

    def next_epoch(self, uuid: str) -> int:
        """Return the number of a new attempt of a partition."""
        return next_epoch(self.of(uuid), self.facts(uuid).values())

    # Who may have a store

    def elsewhere(self, system: KnownSystem, uuid: str) -> str:
        """Return the name of the other system that owns a partition, "" if this one may have it."""
        entry = self.of(uuid)
        if entry is None or entry.owner in ("", system.system_id):
            return ""
        return self.name_of(entry.owner)

    def claimed(self, system: KnownSystem, uuid: str) -> str:
        """Return the name of another system that shows a store of a partition without an owner, "" for none.

        The register knows the owner of a partition that has moved.  Of another one the views decide, and the
        copies of systems that are away.
        """
        entry = self.of(uuid)
        if entry and (entry.moved or self.owner_of(entry)):
            return ""
        others = (each for each in self._systems() if each is not system)
        return next((each.name for each in others if uuid in each.stores), "")

    def outside(self, system: KnownSystem) -> dict[str, str]:
        """Return the partitions that a system may not get back, each with the name of the other system."""
        found = {each.uuid: self.elsewhere(system, each.uuid) for each in self.entries}
        for entry in self.entries:
            if self.unfinished(system, entry.uuid):
                found[entry.uuid] = self.name_of(entry.target)
        return {uuid: place for uuid, place in found.items() if place}

    def is_here(self, system: KnownSystem, uuid: str) -> bool:
        """Whether the register says that a system owns a partition, and that no attempt may move it."""
        entry = self.of(uuid)
        return entry is not None and entry.owner == system.system_id and not self.unfinished(system, uuid)

    def unfinished(self, system: KnownSystem, uuid: str) -> Entry | None:
        """Return the entry of a partition whose attempt from this system may still move it."""
        entry = self.of(uuid)
        if entry is None or entry.over or entry.decision is Decision.DONE:
            return None
        return entry if system.system_id in (entry.source, entry.target) else None


def shown(system: KnownSystem) -> list[CustodyView]:
    """Return the custody in the last view of a system, as it was shown."""
    return system.view.custody if system.view else []


def _with_peer(fact: CustodyView, present: Callable[[str], str]) -> CustodyView:
    return msgspec.structs.replace(fact, peer_id=present(fact.peer_id)) if fact.peer_id else fact
