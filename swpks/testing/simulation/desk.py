"""The console of a simulated world: one store, on which a new console starts after each crash."""

from __future__ import annotations

import contextlib
import sqlite3
import traceback
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

import trio

from hcall_abi.errors import StorageError
from hcall_abi.rules import hmc as rules
from hcall_server.console.console import ConsoleSettings, ManagementConsole
from hcall_server.console.database import Database
from hcall_server.console.entries import Entry
from hcall_server.console.store import ConsoleStore
from swpks.testing.simulation.life import Life
from swpks.testing.simulation.seeds import Entropy
from swpks.testing.simulation.sites import Site, Surroundings, date


class LivingDatabase(Database):
    """A database in memory; after a crash of the console, its transactions have no effect."""

    def __init__(self) -> None:
        super().__init__(None)
        self.life = Life()

    @contextlib.contextmanager
    def changes(self) -> Iterator[sqlite3.Connection]:
        """Return a transaction; StorageError if the console crashes before it."""
        if self.life.crashes_before():
            raise StorageError(rules.HMC_STORE_WRITTEN, "the console is dead")
        with super().changes() as connection:
            yield connection
        # A crash after the commit leaves the change durable, but the console gets no result.
        self.life.crash_after()


class WatchedStore(ConsoleStore):
    """A console store that calls `entered` with each entry of its register once the entry is durable."""

    entered: Callable[[Entry], None]

    def enter(self, entry: Entry) -> None:
        """Store the entry of a partition, and report it to `entered`."""
        super().enter(entry)
        # The entry is read back: the watch must get the stored row, not the argument.
        for each in self.register():
            if each.uuid == entry.uuid:
                self.entered(each)


class Desk:
    """The console of a simulated world, which may crash and start again."""

    def __init__(
        self, sites: Mapping[str, Site], around: Surroundings, entered: Callable[[Entry], None]
    ) -> None:
        self.sites = sites
        self.life = Life()
        self.life.end()
        self.lives = 0
        self._around = around
        self._database = LivingDatabase()
        self._store = WatchedStore(database=self._database)
        self._store.entered = entered
        self._entropy = Entropy(around.seed, "console")
        self._console: ManagementConsole | None = None

    def __repr__(self) -> str:
        return f"Desk({'alive' if self.life.alive else 'dead'})"

    @property
    def console(self) -> ManagementConsole | None:
        """The console, None while none runs."""
        return self._console if self.life.alive else None

    @property
    def running(self) -> ManagementConsole:
        """The console; RuntimeError while none runs."""
        if self._console is None or not self.life.alive:
            raise RuntimeError("the console is dead")
        return self._console

    def copied(self, uuid: UUID) -> int:
        """Return the generation of the console's newest copy of a partition, 0 for none."""
        ages = [facts.rank for _, facts in self._store.copies_of(str(uuid))]
        return max(ages)[-1] if ages else 0

    async def start(self) -> None:
        """Start a console on the store; do nothing if one runs."""
        if self.life.alive:
            return
        self.lives += 1
        self._around.trace.note("console", f"starts life {self.lives}")
        self.life = life = self._database.life = Life()
        await self._around.nursery.start(self._live, life)

    async def _live(self, life: Life, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as scope:
            life.at_end += [scope.cancel, self._end]
            self._console = ManagementConsole(
                self._store,
                lambda where: self.sites[where].line.of(life),
                entropy=self._entropy,
                date=date,
                settings=ConsoleSettings(),
                log=self,
            )
            await self._console.run(task_status=task_status)

    def _end(self) -> None:
        self._around.trace.note("console", f"crashes after {self.life.steps} transactions")

    def close(self) -> None:
        """Close the store, at the end of the simulation."""
        self._store.close()

    # The interface of the console's log

    def info(self, event: str, **fields: object) -> None:
        """Write an event of the console's log into the trace."""
        self._around.trace.note("console", f"{event} {_shown(fields)}")

    def warning(self, event: str, **fields: object) -> None:
        """Write a warning into the trace; a warning with an exception is a failure of the simulation."""
        # After a crash, exceptions are no failures: the simulation itself makes every way to the outside
        # fail.
        if self.life.alive and isinstance(error := fields.get("exc_info"), BaseException):
            text = "".join(traceback.format_exception(error))
            self._around.trace.fail(f"the console has crashed in its code: {text}")
        self.info(event, **fields)


def _shown(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
