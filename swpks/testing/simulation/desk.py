"""A simulated management console: one store, and the lives of consoles on it, one after the other."""

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
    """A database in memory; a transaction has no effect if the console's life is over."""

    def __init__(self) -> None:
        super().__init__(None)
        self.life = Life()

    @contextlib.contextmanager
    def changes(self) -> Iterator[sqlite3.Connection]:
        """Return a transaction; StorageError if the life ends before it."""
        if self.life.crashes_before():
            raise StorageError(rules.HMC_STORE_WRITTEN, "the console is dead")
        with super().changes() as connection:
            yield connection
        # Behind the commit: a crash at this step leaves the change durable, and the console without a result.
        self.life.crash_after()


class WatchedStore(ConsoleStore):
    """A store that passes each entry of the register to `entered` once it is durable."""

    entered: Callable[[Entry], None]

    def enter(self, entry: Entry) -> None:
        """Store the entry of a partition."""
        super().enter(entry)
        # Read it back: the watch must see the row that is stored, and not the argument.
        for each in self.register():
            if each.uuid == entry.uuid:
                self.entered(each)


class Desk:
    """The console of a simulated world."""

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
        """The console, None while it is dead."""
        return self._console if self.life.alive else None

    @property
    def running(self) -> ManagementConsole:
        """The console; RuntimeError while it is dead."""
        if self._console is None or not self.life.alive:
            raise RuntimeError("the console is dead")
        return self._console

    def copied(self, uuid: UUID) -> int:
        """Return the generation of the console's newest copy of a partition, 0 for none."""
        ages = [facts.rank for _, facts in self._store.copies_of(str(uuid))]
        return max(ages)[-1] if ages else 0

    async def start(self) -> None:
        """Begin a life; nothing if the console is alive."""
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
        """Release the store, at the end of the world."""
        self._store.close()

    # Its log

    def info(self, event: str, **fields: object) -> None:
        """Write an event of the console's log into the trace."""
        self._around.trace.note("console", f"{event} {_shown(fields)}")

    def warning(self, event: str, **fields: object) -> None:
        """Write a warning into the trace; one with an exception is a broken promise."""
        # Not after a crash: then the simulation itself makes the errors, as each way to the outside fails.
        if self.life.alive and isinstance(error := fields.get("exc_info"), BaseException):
            text = "".join(traceback.format_exception(error))
            self._around.trace.fail(f"the console has crashed in its code: {text}")
        self.info(event, **fields)


def _shown(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
