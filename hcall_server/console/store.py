"""The store of a management console: identity, systems, copies, sealed keys, jobs (spec/console.md#store).

    store = ConsoleStore(Path("store/console.sqlite"))        # or ConsoleStore() in memory

Each function is one transaction, durable on return.  Nothing in the store opens a copy (R-44): the trusted
system keys are sealed under root keys that never leave their systems.
"""

# Rows that stay
#
# Some rows stay although nothing uses them at present:
#
#   system     The row of a removed system stays.  If the system is added again, its copies are there.
#   former     The ids that an entry had before its system was replaced.  A register entry or a profile backup
#              may still name them.
#   forgotten  The partitions that were deleted.  Their copies stay, and a recovery skips them.  A profile
#              restore uses them again.
#   seen       The largest counters of each store, by its UUID alone.  A store may come back on another
#              system.
#   register   The entry of a deleted partition stays (`entries`).
#
# Only copies and finished jobs are bounded, by `superfluous` and FINISHED_JOBS.  These rows grow with time.
# All others grow only with the number of systems and partitions.

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from hcall_abi.control_views import TrustedKeyView
from hcall_server.console.copies import CopyFacts, superfluous
from hcall_server.console.database import Database
from hcall_server.console.entries import Entry

T = TypeVar("T")

FINISHED_JOBS = 100
"""The most finished jobs in the store; older ones are dropped."""

_LARGEST = (1 << 63) - 1
"""The largest integer of SQLite."""
_SYSTEMS = """SELECT key, name, system_id, type_model_serial, place, trusted_key_id FROM system
              WHERE NOT removed ORDER BY name, key"""
_REMOVED = "SELECT key FROM system WHERE removed AND system_id = ?"
_REVIVE = "UPDATE system SET name = ?, type_model_serial = ?, place = ?, removed = 0 WHERE key = ?"
_ADD = "INSERT INTO system (name, type_model_serial, place, system_id) VALUES (?, ?, ?, ?)"
_NOTE = """UPDATE system SET name = ?, system_id = ?, type_model_serial = ?, place = ?, trusted_key_id = ?
           WHERE key = ?"""
_FORMER = """INSERT OR IGNORE INTO former SELECT key, system_id FROM system
             WHERE key = ? AND system_id != ?"""
_FACTS = "number, uuid, name, restores, generation, time, kbytes, firmware, trusted_key_id, received"
_COPIES = f"SELECT {_FACTS} FROM copy WHERE system = ? ORDER BY number"  # noqa: S608 - no value is in it
_COPIES_OF = f"SELECT system, {_FACTS} FROM copy WHERE uuid = ?"  # noqa: S608
_KEEP = """INSERT INTO copy (uuid, name, restores, generation, time, kbytes, firmware, trusted_key_id,
           received, system, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_REMEMBER = "DELETE FROM forgotten WHERE system = ? AND uuid = ?"
_SEEN = "SELECT restores, generation, ipl_count FROM seen WHERE uuid = ?"
_NOTE_SEEN = """INSERT INTO seen VALUES (?, ?, ?, ?) ON CONFLICT (uuid) DO UPDATE SET
                restores = max(restores, excluded.restores),
                generation = max(generation, excluded.generation),
                ipl_count = max(ipl_count, excluded.ipl_count)"""
_REGISTER = """SELECT uuid, name, kind, epoch, decision, moved, source, target, owner, over, final, others
               FROM register ORDER BY name, uuid"""
_ENTER = "INSERT OR REPLACE INTO register VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ARRIVED = """SELECT count(*) FROM register, system WHERE uuid = ? AND decision = 'done'
              AND owner = system_id AND system.key = ?"""
_DROP_LEFT = "DELETE FROM copy WHERE uuid = ? AND system != ? AND (restores, generation) <= (?, ?)"
_LINK = "SELECT connected, since, heard, view FROM link WHERE system = ?"
_HEARD = "SELECT max(received) FROM copy WHERE system = ?"
_START = "INSERT INTO job (kind, system, state, plan, progress) VALUES (?, ?, 'running', ?, ?)"
_JOBS = "SELECT number, kind, system, state, plan, progress FROM job ORDER BY number"
_DROP_JOBS = """DELETE FROM job WHERE number IN
                (SELECT number FROM job WHERE state != 'running' ORDER BY number DESC LIMIT -1 OFFSET ?)"""


class SystemRow(NamedTuple):
    """A stored system; `trusted_key_id` is the key of its last copy, "" before the first copy."""

    key: int
    name: str
    system_id: str
    type_model_serial: str
    where: str
    trusted_key_id: str = ""


class LastView(msgspec.Struct, frozen=True):
    """The facts that lists show of a system that is away; `partitions` has names by UUID."""

    state: str
    firmware_level: str
    total_kbytes: int
    assigned_kbytes: int
    partitions: dict[str, str]


class LinkRow(NamedTuple):
    """The link to a system: connected or away, since when, and the last view.

    `heard` is the last contact that is stored.  Times are in seconds since 1970.
    """

    connected: bool
    since: float
    heard: float
    view: LastView | None


class JobProgress(msgspec.Struct):
    """The progress of a job: `steps` has the result of each finished step, `lines` are for the operator.

    `rule_id` is the rule by which the job failed, "" for none.  `advised` is true if the last of `lines`
    already contains the remedy.
    """

    done: int = 0
    total: int = 0
    lines: list[str] = []
    steps: dict[str, str] = {}
    rule_id: str = ""
    advised: bool = False


class JobRow(NamedTuple):
    """A stored job; `system` is the key of its system, `plan` is encoded."""

    number: int
    kind: str
    system: int
    state: str
    plan: bytes
    progress: JobProgress


class ConsoleStore:
    """The store in the file `path`, or in memory.

    A simulation passes its own `database`.  The errors are those of `Database`.
    """

    def __init__(self, path: Path | None = None, *, database: Database | None = None) -> None:
        self._database = database or Database(path)

    def __repr__(self) -> str:
        return f"ConsoleStore({self._database!r})"

    @property
    def folder(self) -> str:
        """The folder of the store, for the option --store of a command; "" in memory."""
        return self._database.folder

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    # The console

    def identity(self) -> tuple[str, str] | None:
        """Return id and name of the console, None in a new store."""
        rows = self._database.rows("SELECT id, name FROM console")
        return self._row(tuple[str, str], rows[0]) if rows else None

    def set_identity(self, console_id: str, name: str) -> None:
        """Store id and name of the console."""
        with self._database.changes() as change:
            change.execute("DELETE FROM console")
            change.execute("INSERT INTO console VALUES (?, ?)", (console_id, name))

    # Systems

    def systems(self) -> list[SystemRow]:
        """Return all systems, in the order of their names."""
        return [self._row(SystemRow, row) for row in self._database.rows(_SYSTEMS)]

    def add_system(self, name: str, system_id: str, type_model_serial: str, where: str) -> SystemRow:
        """Add a system; a removed system comes back with its copies."""
        values = (name, type_model_serial, where)
        with self._database.changes() as change:
            removed = change.execute(_REMOVED, (system_id,)).fetchone()
            if removed:
                change.execute(_REVIVE, (*values, removed[0]))
            else:
                change.execute(_ADD, (*values, system_id))
        return next(each for each in self.systems() if each.system_id == system_id)

    def note_system(self, row: SystemRow) -> None:
        """Store changed facts of a system.

        If the id changes, the old id becomes a former id.
        """
        with self._database.changes() as change:
            change.execute(_FORMER, (row.key, row.system_id))
            change.execute(_NOTE, (*row[1:], row.key))

    def former_ids(self, key: int) -> set[str]:
        """Return the identities that a system had before it was replaced."""
        return {row[0] for row in self._database.rows("SELECT system_id FROM former WHERE system = ?", key)}

    def remove_system(self, key: int) -> None:
        """Remove a system; its copies stay.

        If the system is added again, it has these copies again.
        """
        with self._database.changes() as change:
            change.execute("UPDATE system SET removed = 1 WHERE key = ?", (key,))
            change.execute("DELETE FROM link WHERE system = ?", (key,))
            # The job fails in the same transaction, because a job without its system could not go on at the
            # next start.
            change.execute("UPDATE job SET state = 'failed' WHERE system = ? AND state = 'running'", (key,))

    def link(self, system: int) -> LinkRow | None:
        """Return the stored link to a system, None before its first contact."""
        rows = self._database.rows(_LINK, system)
        if not rows:
            return None
        connected, since, heard, view = rows[0]
        # The arrival of a copy is a contact too.  The link is stored less often, so the later of both times
        # counts.
        copied = self._database.rows(_HEARD, system)[0][0] or 0.0
        shown = None if view is None else msgspec.msgpack.decode(view, type=LastView)
        return LinkRow(bool(connected), since, max(heard, copied), shown)

    def note_link(self, system: int, link: LinkRow) -> None:
        """Store the link to a system."""
        view = None if link.view is None else msgspec.msgpack.encode(link.view)
        with self._database.changes() as change:
            change.execute("INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?, ?)", (system, *link[:3], view))

    # Copies

    def copies(self, system: int) -> list[CopyFacts]:
        """Return the facts of all copies of a system."""
        return [self._row(CopyFacts, row) for row in self._database.rows(_COPIES, system)]

    def blob(self, number: int) -> bytes:
        """Return a sealed copy.

        The console can't see damage in it; the system that opens it can.
        """
        # The CAST returns bytes even if the stored type is damaged.  The seal then shows the damage, and no
        # other copy is affected.
        query = "SELECT CAST(blob AS BLOB) FROM copy WHERE number = ?"
        blob: bytes = self._database.rows(query, number)[0][0]
        return blob

    def keep_copy(
        self, system: int, facts: CopyFacts, blob: bytes, stores: Collection[str], keep: int
    ) -> bool:
        """Store a copy, and drop superfluous copies; return False if the new copy was dropped itself.

        `stores` are the UUIDs of all present stores of the system.  If there are `keep` newer copies, the new
        one is dropped.

        A partition may have moved to this system.  Its first copy from here drops the copies of its former
        system.
        """
        key_id = facts.trusted_key_id
        with self._database.changes() as change:
            number = change.execute(_KEEP, (*facts[1:], system, blob)).lastrowid
            change.execute(_NOTE_SEEN, (facts.uuid, *facts.rank, 0))
            change.execute(_REMEMBER, (system, facts.uuid))
            change.execute("UPDATE system SET trusted_key_id = ? WHERE key = ?", (key_id, system))
            # The new copy is in the table already, so `superfluous` compares it with all others.
            gone = superfluous(self.copies(system), {facts.uuid, *stores}, key_id, keep)
            change.executemany("DELETE FROM copy WHERE number = ?", [(each,) for each in gone])
            # The copies of the former system are dropped only now.  Until the new system has a copy, they are
            # the only ones.
            if number not in gone and change.execute(_ARRIVED, (facts.uuid, system)).fetchone()[0]:
                change.execute(_DROP_LEFT, (facts.uuid, system, *facts.rank))
        return number not in gone

    def note_seen(self, counters: Mapping[str, tuple[int, int, int]]) -> None:
        """Store the counters of stores, by UUID, if they are larger than before.

        The counters are restores, generation and IPL count.
        """
        # A system may send a number above `_LARGEST`.  SQLite would raise OverflowError for it.
        rows = [(uuid, *(min(each, _LARGEST) for each in seen)) for uuid, seen in counters.items()]
        with self._database.changes() as change:
            change.executemany(_NOTE_SEEN, rows)

    def seen(self, uuid: str) -> tuple[int, int, int]:
        """Return the largest restores, generation and IPL count ever seen of a store, 0 for none.

        The counters come from all systems, because a store may come back on another system.
        """
        rows = self._database.rows(_SEEN, uuid)
        return rows[0] if rows else (0, 0, 0)

    def forget(self, system: int, uuids: Iterable[str]) -> None:
        """Put the copies of deleted partitions aside, so that a recovery does not restore them."""
        with self._database.changes() as change:
            rows = [(system, uuid) for uuid in uuids]
            change.executemany("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", rows)

    def remember(self, system: int, uuid: str) -> None:
        """Reverse `forget` for a partition, so that a recovery restores its copies again."""
        with self._database.changes() as change:
            change.execute(_REMEMBER, (system, uuid))

    def forgotten(self, system: int) -> set[str]:
        """Return the UUIDs of stores whose copies were put aside."""
        rows = self._database.rows("SELECT uuid FROM forgotten WHERE system = ?", system)
        return {self._row(tuple[str], row)[0] for row in rows}

    # The register of migrations

    def register(self) -> list[Entry]:
        """Return the entries of all partitions that ever took part in a migration."""
        rows = self._database.rows(_REGISTER)
        return [self._row(Entry, (*row[:9], bool(row[9]), row[10], tuple(row[11].split()))) for row in rows]

    def enter(self, entry: Entry) -> None:
        """Store the entry of a partition."""
        with self._database.changes() as change:
            change.execute(_ENTER, (*entry[:4], entry.decision.value, *entry[5:-1], " ".join(entry.others)))

    def copies_of(self, uuid: str) -> list[tuple[int, CopyFacts]]:
        """Return the copies of a store on all systems, the newest first.

        Each comes with the key of its system.
        """
        rows = self._database.rows(_COPIES_OF, uuid)
        found = [(self._row(tuple[int], row[:1])[0], self._row(CopyFacts, row[1:])) for row in rows]
        return sorted(found, key=lambda each: (each[1].rank, each[1].number), reverse=True)

    # Trusted system keys, sealed

    def keep_trusted_key(self, system: int, key_id: str, sealed: bytes) -> None:
        """Store a trusted system key, sealed under the root key of its system."""
        with self._database.changes() as change:
            change.execute("INSERT OR REPLACE INTO trusted_key VALUES (?, ?, ?)", (system, key_id, sealed))

    def keep_shown_key(self, system: int, view: TrustedKeyView) -> str:
        """Store the sealed key in an answer of a system, if there is one.

        Return the id of the key, "" without a key.
        """
        if view.id is not None and view.sealed is not None:
            self.keep_trusted_key(system, view.id, view.sealed)
        return view.id or ""

    def trusted_key(self, system: int, key_id: str) -> bytes | None:
        """Return a sealed trusted system key by its id, None if the console does not have it."""
        query = "SELECT sealed FROM trusted_key WHERE system = ? AND id = ?"
        rows = self._database.rows(query, system, key_id)
        return self._row(tuple[bytes], rows[0])[0] if rows else None

    # Jobs

    def start_job(self, kind: str, system: int, plan: bytes) -> int:
        """Store a new job with its plan, and return its number; the oldest finished jobs are dropped."""
        with self._database.changes() as change:
            number = change.execute(_START, (kind, system, plan, _encoded(JobProgress()))).lastrowid
            change.execute(_DROP_JOBS, (FINISHED_JOBS,))
        return number or 0

    def save_job(self, number: int, state: str, progress: JobProgress) -> None:
        """Store the progress of a job; the plan of a finished job is dropped."""
        with self._database.changes() as change:
            update = "UPDATE job SET state = ?, progress = ? WHERE number = ?"
            change.execute(update, (state, _encoded(progress), number))
            if state != "running":
                change.execute("UPDATE job SET plan = x'' WHERE number = ?", (number,))

    def jobs(self) -> list[JobRow]:
        """Return all jobs, the oldest first."""
        rows = self._database.rows(_JOBS)
        return [self._row(JobRow, (*row[:5], self.decoded(JobProgress, row[5]))) for row in rows]

    def decoded(self, kind: type[T], content: bytes) -> T:
        """Return the decoded contents of a stored job; StorageError for bytes that do not decode."""
        try:
            return msgspec.msgpack.decode(content, type=kind)
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
            raise self._database.damaged(f"a job is of another shape ({error})") from None

    def _row(self, kind: type[T], row: tuple[object, ...]) -> T:
        """Return a row as typed values.

        StorageError for a value of a wrong type: a column of SQLite accepts any type.
        """
        try:
            return msgspec.convert(row, kind)
        except (msgspec.ValidationError, ValueError) as error:
            raise self._database.damaged(f"a row is of another shape ({error})") from None


def _encoded(progress: JobProgress) -> bytes:
    return msgspec.msgpack.encode(progress)
