"""The durable custody of each system, and checks of every view and every word against it.

The search of custody (tests/platform) assumes that a system stores a state before it sends the state.  This
module checks that for each view that is sent, and for each word that arrives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from hcall_abi.control_views import SystemView
from hcall_server.nvram.names import CUSTODY, parse_partition, partition_name
from hcall_server.platform.custody import OWNING, Custody, Word

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from swpks.testing.simulation.trace import Trace


class StoredState(NamedTuple):
    """The custody of a partition in a record of NVRAM; NONE if the system has no such record."""

    custody: Custody = Custody.NONE
    epoch: int = 0
    generation: int = 0

    def __str__(self) -> str:
        return f"{self.custody.name}({self.epoch})"


class HeardWord(NamedTuple):
    """A word about custody that has reached a system."""

    uuid: UUID
    on: Word
    epoch: int
    generation: int = 0


SAID_IN: Mapping[Word, frozenset[Custody]] = {
    Word.FINAL: frozenset({Custody.FROZEN}),
    Word.PREPARED: frozenset({Custody.PREPARED}),
    Word.ACTIVATE: frozenset({Custody.RELEASED}),
    Word.ACTIVE: OWNING,
    Word.ABORTED: OWNING,
}
"""For each word between systems, the records in which a system may say it."""
_LATER = frozenset({Word.ACTIVE, Word.ABORTED})
"""Words that a system may also say after it has stored a later attempt."""


class DurableRecords:
    """The custody in the NVRAM of each system, now and at every earlier time."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._now: dict[str, dict[UUID, StoredState]] = defaultdict(dict)
        self._ever: dict[UUID, dict[tuple[str, Custody, int], int]] = defaultdict(dict)
        """The largest durable generation of each record that a system has ever had."""
        self._sealed: dict[str, dict[UUID, tuple[str, StoredState]]] = {}
        self._inside: dict[bytes, dict[UUID, StoredState]] = defaultdict(dict)
        """The states in each record that was ever given to a commit."""

    def __repr__(self) -> str:
        return f"DurableRecords({self._now!r})"

    def at(self, name: str, uuid: UUID) -> StoredState:
        """Return the durable custody of a partition at a system, dead or alive."""
        return self._now[name].get(uuid, StoredState())

    def largest(self, uuid: UUID) -> int:
        """Return the largest epoch of a partition that any system has ever stored."""
        return max((epoch for _, _, epoch in self._ever[uuid]), default=0)

    def was(self, name: str, uuid: UUID, custody: Custody, epoch: int) -> bool:
        """Whether a system has ever stored this custody with this epoch."""
        return (name, custody, epoch) in self._ever[uuid]

    # Callbacks of the sites

    def started(self, name: str, machine: Machine) -> None:
        """Check that a system starts with the custody that it has stored.

        At the first start, a system has stored none.
        """
        found = {uuid: state for uuid, (_, state) in _in_memory(machine).items()}
        for uuid, stored in self._now[name].items():
            read = found.get(uuid, StoredState())
            if (read.custody, read.epoch) != (stored.custody, stored.epoch):
                self._trace.fail(f"{name} starts with {read}, and has stored {stored}")
        for uuid, state in found.items():
            self._keep(name, uuid, state)

    def sealed(self, name: str, machine: Machine) -> None:
        """Note the state of a system at the moment at which a commit seals its records."""
        # The record has the state of this moment. Memory may change before the commit is durable, so the
        # state is stored here.
        self._sealed[name] = _in_memory(machine)

    def offered(self, name: str, changes: Mapping[str, bytes | None]) -> None:
        """Note the states in the records of a commit.  It may take effect now, later or never."""
        # No two records have the same bytes: each is sealed with a nonce of its own.
        for uuid, (record, state) in self._sealed.get(name, {}).items():
            if (blob := changes.get(record)) is not None:
                self._inside[blob][uuid] = state

    def committed(self, name: str, changes: Mapping[str, bytes | None]) -> None:
        """Note that the records of a commit are durable now."""
        # A removal in a part of its own leaves no state. The custody record follows in a later part.
        for record, blob in changes.items():
            if blob is None and (removed := parse_partition(record)):
                self._now[name].pop(removed, None)
        for blob in changes.values():
            for uuid, state in self._inside.get(blob or b"", {}).items():
                self._keep(name, uuid, state)

    def crashed(self, name: str) -> None:
        """Forget the sealed records that were not given to a commit."""
        self._sealed.pop(name, None)

    def shown(self, name: str, answer: object) -> None:
        """Check that each custody in a view was stored before the system sent the view."""
        for fact in answer.custody if isinstance(answer, SystemView) else ():
            uuid, custody = UUID(fact.uuid), Custody[fact.custody.upper()]
            if fact.epoch and not self.was(name, uuid, custody, fact.epoch):
                self._trace.fail(f"{name} shows {custody.name}({fact.epoch}), which is not stored")
            elif custody in OWNING and fact.generation > self._generation(name, uuid):
                self._trace.fail(f"{name} shows generation {fact.generation}, which is not stored")

    def heard(self, name: str, word: HeardWord) -> None:
        """Check that another system has stored a record that allows this word."""
        # SAID_IN has only words between systems; `decisions` checks the words of the console.
        records = SAID_IN.get(word.on)
        if records is None:
            return
        for (where, custody, epoch), generation in self._ever[word.uuid].items():
            right = epoch >= word.epoch if word.on in _LATER else epoch == word.epoch
            if where != name and custody in records and right and generation >= word.generation:
                return
        self._trace.fail(f"{name} hears {word.on.value}({word.epoch}) before it is stored elsewhere")

    def _generation(self, name: str, uuid: UUID) -> int:
        return max((n for (where, _, _), n in self._ever[uuid].items() if where == name), default=0)

    def _keep(self, name: str, uuid: UUID, state: StoredState) -> None:
        self._now[name][uuid] = state
        key, ever = (name, state.custody, state.epoch), self._ever[uuid]
        ever[key] = max(state.generation, ever.get(key, 0))


def _in_memory(machine: Machine) -> dict[UUID, tuple[str, StoredState]]:
    """Return, for each partition, the name of its record and its custody in the machine's memory."""
    system = machine.system
    found = {uuid: (CUSTODY, StoredState(each.custody, each.epoch)) for uuid, each in system.departed.items()}
    for each in system.places.values():
        profile = each.profile
        state = StoredState(profile.custody, profile.epoch, profile.image_generation)
        found[profile.uuid] = partition_name(profile.uuid), state
    return found
