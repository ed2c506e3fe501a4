"""Migrations and remote restarts in the words of lists: states, rows of the table, words of lssyscfg."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hcall_abi.control_views import CustodyView, PartitionView
from hcall_server.console.entries import Entry, record
from hcall_server.console.jobs import Job
from hcall_server.console.registry import Registry
from hcall_server.console.systems import KnownSystem
from hcall_server.platform.custody import Custody, Decision

_PROGRESS = (Custody.NONE, Custody.OWN, Custody.FROZEN, Custody.PREPARED, Custody.RELEASED)
_MOVING = ("copying", "waiting", "in-doubt")


class MigrationStatus(NamedTuple):
    """A partition with a row in the register.

    `kind` is ``live``, ``inactive`` or ``restart``, "" before the first attempt.  `decision` is a value of
    `custody.Decision`.  `state` is ``Migration In Progress``, ``Remote Restart In Progress``, ``Moved``,
    ``Aborted`` or ``Not Moving``.  `row` names the row of the state table that was reached last, such as
    ``row 6: RELEASED(7) at a``.  `source`, `target` and `owner` are names of systems, "" if unknown.
    `job` is the number of the running job about the partition, 0 for none.
    """

    uuid: str
    name: str
    kind: str
    state: str
    epoch: int
    decision: str
    row: str
    source: str
    target: str
    owner: str
    job: int


class Statuses(NamedTuple):
    """The register in the words of lists; `job_of` returns the running job about a partition."""

    registry: Registry
    job_of: Callable[[str], Job | None]

    def all(self, system: KnownSystem | None) -> list[MigrationStatus]:
        """Return the attempts about a system, or all attempts.

        A partition that was only restored has no attempt.
        """
        entries = [each for each in self.registry.entries if each.epoch]
        if system is not None:
            wanted = system.system_id
            entries = [each for each in entries if wanted in (each.source, each.target, each.owner)]
        return [_at(system, each, self._status(each)) for each in entries]

    def moving(self, system: KnownSystem, partition: PartitionView) -> bool:
        """Return whether a partition of a system moves now."""
        if partition.mode in _MOVING or partition.custody in ("frozen", "prepared"):
            return True
        entry = self.registry.of(partition.uuid)
        if entry is None or entry.kind == "restart" or not _runs(entry):
            return False
        if partition.custody == "released":
            return True
        return bool(self.job_of(partition.uuid)) and system.system_id in (entry.source, entry.target)

    def remote_restart(self, system: KnownSystem, partition: PartitionView) -> str:
        """Return the state of remote restart of a partition on a system."""
        entry = self.registry.of(partition.uuid)
        if entry is not None and entry.kind == "restart":
            if entry.source == system.system_id and entry.owner != system.system_id:
                return "Remote Restarted" if entry.decision is Decision.DONE else "Source Remote Restarting"
            if entry.target == system.system_id and entry.decision is Decision.FORCED:
                return "Destination Remote Restarting"
            if entry.target == system.system_id and self.job_of(partition.uuid):
                return "Destination Remote Restarted"
        capable = getattr(partition, "simplified_remote_restart_capable", 1)
        return "Remote Restartable" if capable and partition.ipl_count else "Invalid"

    def _status(self, entry: Entry) -> MigrationStatus:
        job, name_of = self.job_of(entry.uuid), self.registry.name_of
        return MigrationStatus(
            entry.uuid,
            entry.name,
            entry.kind,
            _state(entry, job),
            entry.epoch,
            entry.decision.value,
            self._row(entry),
            name_of(entry.source),
            name_of(entry.target),
            name_of(entry.owner),
            job.number if job else 0,
        )

    def _row(self, entry: Entry) -> str:
        """Return the row that was reached last.

        A row of the target counts as later than a row of the source.
        """
        if entry.decision is Decision.NEW:
            return ""
        reached = list[tuple[int, str]]()
        for system_id, fact in self.registry.facts(entry.uuid).items():
            if fact.epoch == entry.epoch:
                text = row_text(entry, fact, self.registry.name_of(system_id))
                reached.append((_place(fact), text))
        return max(reached)[1] if reached else _decision_text(entry)


def _at(system: KnownSystem | None, entry: Entry, status: MigrationStatus) -> MigrationStatus:
    """Return the status as the list of one system shows it.

    A partition that has moved to this system is "Not Moving" in its list.
    """
    here = system is not None and entry.owner == system.system_id
    return status._replace(state="Not Moving") if here and status.state == "Moved" else status


def _place(fact: CustodyView) -> int:
    at = record(fact)
    if at in _PROGRESS:
        return _PROGRESS.index(at)
    return len(_PROGRESS) + (at is Custody.GONE)


def _runs(entry: Entry) -> bool:
    return entry.decision is Decision.FORCED or (entry.decision is Decision.OPEN and not entry.over)


def _state(entry: Entry, job: Job | None) -> str:
    if _runs(entry):
        return "Remote Restart In Progress" if entry.kind == "restart" else "Migration In Progress"
    if job is not None and job.kind == "restart":
        return "Remote Restart In Progress"
    if entry.decision is Decision.DONE:
        return "Moved"
    return "Aborted" if entry.decision is not Decision.NEW else "Not Moving"


def _decision_text(entry: Entry) -> str:
    restart = entry.kind == "restart" or entry.source == entry.owner
    row = {
        Decision.OPEN: 1,
        Decision.ABORTED: 10,
        Decision.FORCED: 20 if restart else 14,
        Decision.DONE: 7,
    }.get(entry.decision, 0)
    return f"row {row}: {entry.decision.name}({entry.epoch}) at the console"


def _row(at: Custody, *, kind: str, mode: str) -> int:
    """Return the row of the state table that usually leads to a record."""
    return {
        # Several rows can lead to the same record.  The kind of the move and the mode select the usual row.
        Custody.FROZEN: 9 if mode == "in-doubt" else 4,
        Custody.RELEASED: 15 if kind == "inactive" else 18 if kind == "restart" else 6,
        Custody.GONE: 8,
        Custody.PREPARED: 5,
        Custody.ARRIVED: 7 if kind == "live" else 16,
        Custody.OWN: 11,
        Custody.NONE: 13,
    }[at]


def row_text(entry: Entry, fact: CustodyView, system: str) -> str:
    """Return the row that a system has reached, such as ``row 6: RELEASED(7) at a``.

    After a restart a system does not know its row.  The result has the row that usually leads to the record.
    """
    at = record(fact)
    row = fact.row or _row(at, kind=entry.kind, mode=fact.mode)
    return f"row {row}: {at.name}({fact.epoch}) at {system}"


class End(NamedTuple):
    """One of the two systems of an attempt, with the custody that it shows for this attempt.

    `fact` is None if the system shows no custody for this attempt.
    """

    name: str
    fact: CustodyView | None


def live_rows(entry: Entry, source: End, target: End, *, forced: bool) -> list[str]:
    """Return the rows that a live attempt has reached, in their order.

    The console sees views only from time to time, so it may miss a row.  A later row in a view proves that
    the earlier rows were reached.  There is one exception.  If `forced` is true, the target did not wait for
    RELEASED, so a later row does not always prove RELEASED.
    """
    ends = [
        each for each in (target, source) if each.fact and record(each.fact) in (Custody.OWN, Custody.NONE)
    ]
    rows = [row_text(entry, each.fact, each.name) for each in ends if each.fact]
    passed, released, resumed = False, False, source in ends
    # The loop runs from the last row to the first, because a later row proves the earlier ones.
    for at, end, usual in reversed(_path(source, target, forced=forced)):
        shown = end.fact is not None and record(end.fact) is at
        follows = released if at is Custody.RELEASED else passed or (resumed and at is Custody.FROZEN)
        if end.fact is not None and shown:
            rows.append(row_text(entry, end.fact, end.name))
        usual_text = f"row {usual}: {at.name}({entry.epoch}) at {end.name}"
        if (follows and not shown) or (shown and at is Custody.FROZEN and usual_text not in rows):
            rows.append(usual_text)
        passed = passed or shown
        released = released or (shown and (at is Custody.GONE or not forced))
    return rows[::-1]


def _path(source: End, target: End, *, forced: bool) -> list[tuple[Custody, End, int]]:
    """Return the records of a successful live attempt, each with its system and its usual row."""
    return [
        (Custody.FROZEN, source, 4),
        (Custody.PREPARED, target, 5),
        (Custody.RELEASED, source, 12 if forced else 6),
        (Custody.ARRIVED, target, 7),
        (Custody.GONE, source, 8),
    ]
