"""lslparmigr: partitions that move, and the rows of the state table (spec/console.md#migration).

The list comes from the console's register.  So it also has partitions that have left their system, and it
works for systems that are away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hcall_abi.control_views import PartitionView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import console as control
from hcall_server.console.grammar import NO_RESULTS
from hcall_server.console.lines.line import Getters, Line, constant, elsewhere
from hcall_server.console.lines.lists import filters_of, list_command

if TYPE_CHECKING:
    from hcall_server.console.migrations import MigrationStatus

_AT_ONCE = "1"
"""The most migrations of a system at once: each is a job, and a system has one job."""
_ENDED = ("Not Moving", "Moved", "Aborted")


@dataclass(frozen=True)
class ListedMove:
    """A partition that is on a system, has left the system, or comes to it.

    `move` is the console's record of its last move.
    """

    uuid: str
    partition: PartitionView | None
    move: MigrationStatus | None
    waits: str = ""
    """Why it is not served, and the remedy."""

    @property
    def name(self) -> str:
        """The partition's name on this system; if it is on another one, the name in the console's record."""
        return self.partition.name if self.partition else self.move.name if self.move else ""

    @property
    def number(self) -> str | None:
        """The partition id, None if the partition is not on this system."""
        return str(self.partition.number) if self.partition else None


def _known_by_record(text: str) -> str | None:
    """Return a text of the console's record; None for "", which means that the attribute does not apply."""
    return text or None


PARTITIONS: Getters[ListedMove] = {
    "name": lambda it: it.name,
    "lpar_id": lambda it: it.number,
    "migration_state": lambda it: it.move.state if it.move else "Not Moving",
    "migration_type": lambda it: _known_by_record(it.move.kind) if it.move else None,
    "source_sys_name": lambda it: _known_by_record(it.move.source) if it.move else None,
    "target_sys_name": lambda it: _known_by_record(it.move.target) if it.move else None,
    "owner_sys_name": lambda it: _known_by_record(it.move.owner) if it.move else None,
    "epoch": lambda it: str(it.move.epoch) if it.move else "0",
    "decision": lambda it: it.move.decision if it.move else "new",
    "row": lambda it: _known_by_record(it.move.row) if it.move else None,
    "job": lambda it: str(it.move.job) if it.move and it.move.job else None,
    "custody": lambda it: it.partition.custody if it.partition else None,
    "mode": lambda it: it.partition.mode if it.partition else None,
    "uuid": lambda it: it.uuid,
    "waits": lambda it: _known_by_record(it.waits),
}
"""The attributes of `lslparmigr -r lpar`."""


@dataclass(frozen=True)
class ListedMobility:
    """A system, and the console's records of its present migrations."""

    system: SystemView
    moves: Sequence[MigrationStatus]

    def running(self, kind: str) -> str:
        """Return the number of moves of a kind that have not ended."""
        return str(sum(each.kind == kind and each.state not in _ENDED for each in self.moves))


SYSTEMS: Getters[ListedMobility] = {
    "active_lpar_mobility_capable": lambda it: str(int(bool(it.system.mobility))),
    "num_active_migrations_supported": constant(_AT_ONCE),
    "num_active_migrations_in_progress": lambda it: it.running("live"),
    "inactive_lpar_mobility_capable": constant("1"),
    "num_inactive_migrations_supported": constant(_AT_ONCE),
    "num_inactive_migrations_in_progress": lambda it: it.running("inactive"),
    "num_remote_restarts_in_progress": lambda it: it.running("restart"),
    "mobility_address": lambda it: it.system.mobility,
}
"""The attributes of `lslparmigr -r sys`."""

MANAGERS: Getters[None] = {
    "remote_lpar_mobility_capable": constant("0"),
}
"""The attributes of `lslparmigr -r manager`: no partition moves to a system of another console."""


async def _moves(line: Line) -> list[ListedMove]:
    """Return the partitions of the system, and others with a record about this system."""
    records = {each.uuid: each for each in line.console.migrations.status(line.known)}
    try:
        view, _ = await line.last_view()
        partitions = view.partitions
    except SwpksError as error:
        # A lost system does not answer.  The list then shows the records of the register, because the
        # operator needs them most at that time.
        if error.rule is not control.CONSOLE_SERVED or not records:
            raise
        partitions = []
    waits = line.console.waits
    here = [
        ListedMove(each.uuid, each, records.pop(each.uuid, None), waits(line.known, each.uuid))
        for each in partitions
    ]
    gone = records.values()
    return [*here, *(ListedMove(each.uuid, None, each, waits(line.known, each.uuid)) for each in gone)]


def _selected(line: Line, moves: list[ListedMove], filters: dict[str, list[str]]) -> list[ListedMove]:
    """Return the moves that match every filter; OperatorError (HSCL8012) for an unknown partition."""
    # Partitions on other systems come last, because they have no number to sort by.
    found = sorted(moves, key=lambda each: (each.partition is None, int(each.number or 0), each.name))
    for key, described in ("lpar_names", "named"), ("lpar_ids", "with ID"):
        wanted = filters.get(key)
        if wanted is None:
            continue
        values = {each.uuid: each.name if key == "lpar_names" else each.number for each in moves}
        for missing in sorted(set(wanted) - set(values.values())):
            place = elsewhere(line, missing) if key == "lpar_names" else ""
            message = f"The partition {described} {missing[:80]} was not found.{place}"
            raise OperatorError(control.NAME_EXISTS, message)
        found = [each for each in found if values[each.uuid] in wanted]
    return found


async def _partitions(line: Line) -> None:
    filters = filters_of(line, "lpar_names", "lpar_ids")
    await line.show(PARTITIONS, _selected(line, await _moves(line), filters))


async def _system(line: Line) -> None:
    moves = line.console.migrations.status(line.known)
    await line.show(SYSTEMS, [ListedMobility(await line.system(), moves)])


async def _manager(line: Line) -> None:
    await line.show(MANAGERS, [None])


async def _mover_partitions(line: Line) -> None:
    """Print an empty list: no partition of an emulated system moves others."""
    await line.system()
    await line.say(NO_RESULTS)


_LISTS = {"lpar": _partitions, "sys": _system, "manager": _manager, "msp": _mover_partitions}


COMMANDS = (list_command("lslparmigr", _LISTS),)
