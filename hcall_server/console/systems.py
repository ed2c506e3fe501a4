"""A managed system as the management console knows it (spec/console.md#systems)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec
import trio

from hcall_abi.control_views import EventView, PartitionView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import ConsoleRequest
from hcall_abi.rules import console
from hcall_server.console.answers import demand_form
from hcall_server.console.copies import CopyFacts, time_text
from hcall_server.console.link import SystemLink
from hcall_server.console.seen import SeenStores, is_check
from hcall_server.console.store import ConsoleStore, LastView, LinkRow, SystemRow

T = TypeVar("T")


class EventLog(Protocol):
    """The log of the console's process; `hcall_server.machine.logs.Log` is one."""

    def info(self, event: str, **fields: object) -> None:
        """Write an event."""

    def warning(self, event: str, **fields: object) -> None:
        """Write a line that needs the operator's attention."""


class NoLog:
    """A log that drops every line."""

    def info(self, event: str, **fields: object) -> None:
        """Drop an event."""

    def warning(self, event: str, **fields: object) -> None:
        """Drop a warning."""


def _away_since(link: LinkRow | None) -> float:
    """Return the time since which a system counts as away, at a start of the console.

    0.0 if the time is unknown.  If the system has gone while the console was off, the result is the time of
    the last contact.
    """
    if link is None:
        return 0.0
    return max(link.heard, link.since) if link.connected else link.since


def _last_view(view: SystemView) -> LastView:
    partitions = {each.uuid: each.name for each in view.partitions}
    return LastView(view.state, view.firmware_level, view.total_kbytes, view.assigned_kbytes, partitions)


@dataclass(frozen=True)
class AwaitedSystem:
    """A system that was given at the start and was not reached yet; `name` is "" if none was given.

    `trouble` is the reason, `advice` the remedy; `since` is in seconds since 1970.
    """

    name: str
    where: str
    trouble: str
    advice: str
    since: float


class KnownSystem:
    """A system of the console: its stored facts, and its views since the console started.

    `view` is the last view, None before the first contact.  `last` is the short form of a view for lists, and
    survives a restart of the console.  `since` is the time of the last change between connected and away, in
    seconds since 1970.  `trouble` is the reason why the system is away, "" while it is connected.
    """

    def __init__(
        self, row: SystemRow, link: SystemLink, store: ConsoleStore, date: Callable[[], float]
    ) -> None:
        self.row = row
        self.link = link
        self.view: SystemView | None = None
        self.connected = False
        self._stored = store.link(row.key)
        self.since = _away_since(self._stored) or date()
        self.last = self._stored.view if self._stored else None
        self.trouble = "not reached since the console started"
        self.advice = ""
        """The remedy that connects it again, "" if none is known."""
        self.tried = trio.Event()
        """Set when the first attempt to connect has ended."""
        self._store = store
        self._seen = SeenStores(store)
        self._date = date
        self.recovered = False
        """Whether the state Recovery was handled on this stream."""
        self.scope = trio.CancelScope()
        """Ends the task that watches the system."""
        self.ask: Callable[[EventView], None] = lambda event: None
        """Adds an event to the stream as if the system had sent it; without a stream nothing happens."""
        self.put_names: Callable[[SwpksError], None] = lambda error: None
        """Replaces ids by names in an error of this system."""
        self._woken = trio.Event()
        self._notes = 0

    def __repr__(self) -> str:
        return f"KnownSystem({self.name!r}, {'connected' if self.connected else self.trouble!r})"

    @property
    def key(self) -> int:
        """The number of the system in the store."""
        return self.row.key

    @property
    def name(self) -> str:
        """The name of the system; two systems may have the same name."""
        return self.row.name

    @property
    def type_model_serial(self) -> str:
        """Type, model and serial number, such as ``9105-22A*0123ABC``."""
        return self.row.type_model_serial

    @property
    def serial(self) -> str:
        """The serial number alone: it names the folder of the system's profile backups."""
        return self.type_model_serial.rpartition("*")[2]

    @property
    def system_id(self) -> str:
        """The public identity, 32 hex digits."""
        return self.row.system_id

    @property
    def former_ids(self) -> set[str]:
        """The identities that this entry had before the system was replaced."""
        return self._store.former_ids(self.key)

    @property
    def where(self) -> str:
        """The place at which the console reaches the system."""
        return self.row.where

    @property
    def copies(self) -> list[CopyFacts]:
        """The facts of all copies of this system; copies that were put aside are left out."""
        aside = self._store.forgotten(self.key)
        return [each for each in self._store.copies(self.key) if each.uuid not in aside]

    @property
    def stores(self) -> set[str]:
        """The UUIDs of the stores that this system has, or may have.

        These are its partitions.  Unless the system is connected and Operating, its copies count too.
        """
        seen = self.last.partitions if self.last else {}
        present = {each.uuid for each in self.view.partitions} if self.view else set(seen)
        # The view of a connected, Operating system is complete.  In Recovery, a system shows no partitions.
        # A system that is away may come back with the stores of its copies.
        if self.view and self.view.state == "Operating" and self.connected:
            return present
        return present | {each.uuid for each in self.copies}

    @property
    def reason(self) -> str:
        """The reason why the system is away, with the remedy; "" while it is connected."""
        return f"{self.trouble}; {self.advice}" if self.advice else self.trouble

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Make a request of this system, store the view in its answer, and return the answer.

        The request names the system.  So another system at the same address refuses it.  A request to restore
        a copy gets the largest counters that the console has seen of the store.
        """
        # Two requests may run at the same time.  `_notes` shows whether another answer has arrived in
        # between.
        before = self._notes
        try:
            answer = await self.link.call(self._seen.completed(request).only_for(self.system_id))
        except SwpksError as error:
            self.put_names(error)
            raise
        demand_form(answer)
        if not is_check(request):
            overtaken, stores = self._notes != before, self.stores
            self.note(answer)
            # It is unknown which of the two answers is newer, so the console requests one more view.
            if overtaken and self.stores != stores:
                self.ask(EventView(number=0, kind="ask-custody"))
        return answer

    def explained(self, error: SwpksError) -> SwpksError:
        """Return the error of a request; add since when the system is away, if it is away."""
        if error.rule is not console.CONSOLE_SERVED or self.connected:
            return error
        away = f"{self.name} is away since {time_text(self.since)}"
        return OperatorError(error.rule, f"{away}: {error.message}", advised=error.advised)

    def note(self, answer: object) -> None:
        """Store the view in an answer as the last view, and the counters of its partitions."""
        self._notes += 1
        if isinstance(answer, SystemView):
            self.show(answer)
            self._seen.note(*answer.partitions)
        elif isinstance(answer, PartitionView):
            self._seen.note(answer)
            self._replace(answer)

    def _replace(self, answer: PartitionView) -> None:
        """Put a new view of one partition into the last view of the system."""
        if self.view:
            others = [each for each in self.view.partitions if each.uuid != answer.uuid]
            present = sorted([*others, answer], key=lambda partition: partition.number)
            self.show(msgspec.structs.replace(self.view, partitions=present))

    def show(self, view: SystemView) -> None:
        """Make a view the last view of the system."""
        self.view, self.last = view, _last_view(view)
        self._store_link()

    def note_connected(self) -> None:
        """Store that the stream is open, and end all pauses of this system."""
        if not self.connected:
            self.connected, self.since, self.trouble, self.advice = True, self._date(), "", ""
            self._store_link()
            self.tried.set()
            self.wake()

    def note_away(self, trouble: str, advice: str = "") -> None:
        """Store why there is no stream, and the remedy.

        The first call after a connection sets `since`; further calls do not change it.
        """
        if self.connected:
            self.connected, self.since = False, self._date()
            self._store_link()
        self.trouble, self.advice = trouble, advice
        self.tried.set()

    def note_stop(self) -> None:
        """Store that the system was connected until now; called when the console stops."""
        if self.connected:
            # `_store_link` ignores a change of `heard` alone, so this line makes it store the link.
            self._stored = None
            self._store_link()

    def _store_link(self) -> None:
        """Store the link if it has changed.

        If the store can't be written, the next change stores it.
        """
        link = LinkRow(self.connected, self.since, self._date(), self.last)
        before = self._stored
        # `heard` changes with each view.  It is not compared, because each view would then cost a commit.
        if before is None or before._replace(heard=link.heard) != link:
            with suppress(SwpksError):
                self._store.note_link(self.key, link)
                self._stored = link

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt, for `seconds` or until `wake`."""
        with trio.move_on_after(seconds):
            await self._woken.wait()

    def wake(self) -> None:
        """End all pauses, so that the system is tried now."""
        self._woken.set()
        self._woken = trio.Event()

    def store_facts(self, row: SystemRow) -> None:
        """Store changed facts of the system, durably; nothing is written if they are the same."""
        if row != self.row:
            self._store.note_system(row)
            self.row = row
