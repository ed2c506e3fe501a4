"""Take a copy of a store: request it, check it, store it, and confirm it to the system (R-44).

`keep_copy` confirms the copy, and is sent last.  By then the copy and its sealed key are durable in the
store.  If an answer is lost, the system asks for the copy again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hcall_abi.control_bodies import KeptCopy
from hcall_abi.control_views import CopyView, PartitionView, SystemView
from hcall_abi.requests import keep_copy, show_copy, show_trusted_key
from hcall_server.console.copies import CopyFacts, arrived, by_store
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import KnownSystem
from hcall_server.sealing.copies import read_copy


class TakenCopy(NamedTuple):
    """A copy that a system has made.

    `kept` is false if the store has enough newer copies, and did not store this one.
    """

    facts: CopyFacts
    blob: bytes
    kept: bool


class Taker:
    """Puts copies into the console's store.

    The store has `keep` copies of each partition.  `date` returns seconds since 1970.
    """

    def __init__(self, store: ConsoleStore, keep: int, date: Callable[[], float]) -> None:
        self._store = store
        self._keep = keep
        self._date = date

    async def take(self, system: KnownSystem, name: str) -> CopyFacts | None:
        """Take the copy of a partition, durably; None if the store has enough newer ones."""
        taken = await self.fetch(system, name)
        return taken.facts if taken.kept else None

    async def fetch(self, system: KnownSystem, name: str) -> TakenCopy:
        """Take the copy of a partition, durably, and return it."""
        view = await system.call(show_copy(name))
        # The key is stored before the copy.  In the other order, a kill could leave a copy without its key.
        if self._store.trusted_key(system.key, view.trusted_key_id) is None:
            await self.take_key(system)
        facts, kept = self.keep(system, name, view)
        if kept:
            named = KeptCopy(
                uuid=facts.uuid, restores=facts.restores, generation=facts.generation, time=facts.time
            )
            await system.call(keep_copy(name, named))
        return TakenCopy(facts, view.copy, kept)

    def keep(self, system: KnownSystem, name: str, view: CopyView) -> tuple[CopyFacts, bool]:
        """Store a copy that a system has made, durably; return its facts, and whether it was stored."""
        facts = arrived(view, name, self._date())
        stores = [each.uuid for each in system.view.partitions] if system.view else []
        kept = self._store.keep_copy(system.key, facts, view.copy, stores, self._keep)
        system.row = system.row._replace(trusted_key_id=facts.trusted_key_id)
        return facts, kept

    async def take_key(self, system: KnownSystem) -> None:
        """Store the sealed trusted system key of a system, if it has one."""
        self._store.keep_shown_key(system.key, await system.call(show_trusted_key()))

    def put_aside(self, system: KnownSystem, view: SystemView) -> None:
        """Put aside the copies of stores that the system has deleted.

        The stores were deleted while this console was away, so no event reported that.  Copies of a
        predecessor are not put aside: a replaced system may restore them.
        """
        present = {each.uuid for each in view.partitions}
        # If the system is empty, it has deleted its stores or lost them.  It is unknown which, so the copies
        # stay.  They do no harm.
        if not present:
            return
        gone = [found[0] for uuid, found in by_store(system.copies).items() if uuid not in present]
        deleted = [each.uuid for each in gone if self._origin(each) == view.system_id]
        if deleted:
            self._store.forget(system.key, deleted)

    def missing(self, system: KnownSystem, view: SystemView) -> list[PartitionView]:
        """Return the partitions whose last confirmed copy is not in this store.

        The system has a record of the last confirmed copy.  The console may lack it if an operator has
        restored an older store of the console, or if the copy belongs to another entry.
        """
        held = {uuid: found[0].rank for uuid, found in by_store(system.copies).items()}
        return [
            each
            for each in view.partitions
            if each.copy and (each.copy.restores, each.copy.generation) > held.get(each.uuid, (-1, 0))
        ]

    def _origin(self, copy: CopyFacts) -> str:
        return read_copy(self._store.blob(copy.number)).system_id.hex()
