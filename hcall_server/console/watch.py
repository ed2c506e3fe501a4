"""The stream of each system: attach, answer its questions, and connect again when it breaks."""

# The console dials; a system never does.  For each system one task holds one stream.  It must guarantee:
#
#   1. No confirmed copy is lost.  The copy and its sealed key become durable in the store first.  Then the
#      console confirms the copy by `keep_copy`.  Without `keep_copy`, the system asks again.
#   2. A system that is away delays its own copies and nothing else.  The task tries again, first after 0.1 s,
#      at last every 5 s.  After an absence of the console, the system repeats its open questions.
#   3. An error of one system never reaches another one: each task catches its own errors.
#   4. Every output shows since when a system has been connected or away, and why.
#   5. The console notices a new system at the address of a known one.  The new system gets the entry of the
#      old one, because a replacement has to get the copies of its predecessor.
#
# The reader of the stream only collects events.  A second task answers them, in their order.  So the reader
# goes on during a slow copy, and a hundred `changed` cost one request.  While the console's disk is full, the
# task repeats the same answer, and the stream stays open.  If the system refuses a request, the event is
# logged and dropped.  The system asks again at its next interval.

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable

import trio

from hcall_abi.control_views import EventView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import attach_console, forget_copies, show_system
from hcall_abi.rules import console
from hcall_abi.rules import hmc as rules
from hcall_server.console.advice import to_connect
from hcall_server.console.courier import Courier
from hcall_server.console.namesakes import namesakes
from hcall_server.console.patience import LONGEST_WAIT, waits
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import EventLog, KnownSystem
from hcall_server.console.taking import Taker

_BREAKING = (console.CONSOLE_SERVED, console.CONSOLE_ANSWER)
"""Rules of errors that end a stream: the system can't be reached, or breaks the protocol."""
_REPORT = "see the log of the console, and report it"


class StreamKeeper:
    """Watches the systems of the console with this id and name.

    `others` returns all systems of the console.  `recover` is called when a system is in the state Recovery:
    at each connect, and when the system has just come into that state.
    """

    def __init__(
        self,
        identity: tuple[str, str],
        store: ConsoleStore,
        taker: Taker,
        *,
        others: Callable[[], Iterable[KnownSystem]],
        recover: Callable[[KnownSystem], None],
        courier: Courier,
        log: EventLog,
    ) -> None:
        self._identity = identity
        self._store = store
        self._taker = taker
        self._others = others
        self._recover = recover
        self._courier = courier
        self._log = log

    def __repr__(self) -> str:
        return f"StreamKeeper({self._identity[1]!r})"

    async def watch(self, system: KnownSystem) -> None:
        """Keep a stream to a system open, until its scope is cancelled."""
        with system.scope:
            pauses = waits()
            while True:
                began = trio.current_time()
                trouble, advice = await self._explained(system, self._hold(system))
                # Only a stream that has lasted for a while resets the pauses.  Otherwise a stream that always
                # breaks at once would be opened too often.
                if system.connected and trio.current_time() - began > LONGEST_WAIT:
                    pauses = waits()
                self._away(system, trouble, advice)
                await system.pause(next(pauses))

    async def _explained(self, system: KnownSystem, work: Awaitable[str]) -> tuple[str, str]:
        """Await `work`; return why the stream ends, and the remedy for the operator.

        Each is "" if there is none.  The reason is the result of `work`, or its error.
        """
        try:
            return await work, ""
        except SwpksError as error:
            return error.message, to_connect(error, system.where, system.name)
        except Exception as error:  # a bug at one system must not end the watch of the others
            self._log.warning("system.failed", system=system.name, exc_info=error)
            return f"the console failed at this system ({type(error).__name__})", _REPORT

    async def _hold(self, system: KnownSystem) -> str:
        """Attach to a system, and answer its events; return why the stream has ended."""
        # `system.call` would send the id of the system that the console expects here.  A system that has
        # replaced it would refuse such a request.
        view = await system.link.call(show_system())
        self._identify(system, view)
        system.note(view)
        await system.call(attach_console(*self._identity))
        inbox = _Inbox()
        system.ask = inbox.add
        # No error leaves this block, because a nursery would wrap it in a group.  Errors are stored in the
        # inbox.
        async with system.link.events(self._identity[0]) as events, trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_all, system, inbox, nursery.cancel_scope)
            if await _read(events, inbox):
                inbox.trouble = "the system was stopped"
            nursery.cancel_scope.cancel()
        return inbox.trouble or "its stream has ended"

    def _away(self, system: KnownSystem, trouble: str, advice: str) -> None:
        if system.connected or system.trouble != trouble:
            self._log.warning("system.away", system=system.name, error=trouble, advice=advice)
        system.note_away(trouble, advice)

    def _identify(self, system: KnownSystem, view: SystemView) -> None:
        """Store the identity of the system at this address.

        OperatorError if the console knows this system at another address.
        """
        if view.system_id != system.system_id:
            for other in self._others():
                if other.system_id == view.system_id:
                    message = f"{system.where} leads to {other.name}, which is known at {other.where}"
                    raise OperatorError(rules.HMC_SYSTEM_PLACE, message)
            serial = view.type_model_serial
            self._log.warning(
                "system.replaced", system=system.name, before=system.type_model_serial, now=serial
            )
            system.store_facts(system.row._replace(system_id=view.system_id, type_model_serial=serial))
        self._note_name(system, view)

    def _note_name(self, system: KnownSystem, view: SystemView) -> None:
        """Store the present name of the system.

        A system that has lost its data has the name from its settings, until a recovery restores its own.
        The name from the settings is not stored.
        """
        if view.state == "Operating" and (view.partitions or not self._store.copies(system.key)):
            before = system.name
            system.store_facts(system.row._replace(name=view.name))
            # Two systems may have the same name, because the console can't refuse it here.  Commands then
            # have to use the serial numbers.
            others = namesakes(self._others(), system, view.name)
            if others and before != view.name:
                own = system.type_model_serial
                self._log.warning(
                    "system.name_taken", system=view.name, before=before, own=own, others=others
                )

    async def _answer_all(self, system: KnownSystem, inbox: _Inbox, stream: trio.CancelScope) -> None:
        """Answer events; if one can't be answered on this stream, end the stream."""
        while not inbox.trouble:
            event = await inbox.first()
            inbox.trouble, _ = await self._explained(system, self._answer(system, event, inbox))
            inbox.drop(event)
        stream.cancel()

    async def _answer(self, system: KnownSystem, event: EventView, inbox: _Inbox) -> str:
        """Answer an event; return "", which lets the stream go on.

        While the console's store can't be written, this tries again.  If the system refuses a request, the
        event is logged and dropped.  If the system can't be reached or breaks the protocol, this raises
        SwpksError, and the stream ends.
        """
        for seconds in waits():
            try:
                await self._answer_once(system, event, inbox)
                break
            except SwpksError as error:
                if error.rule in _BREAKING:
                    raise
                about = {"event_kind": event.kind, "partition": event.partition, "error": error.message}
                self._log.warning("system.unanswered", system=system.name, **about)
                if error.rule is not rules.HMC_STORE_WRITTEN:
                    break
                await trio.sleep(seconds)
        return ""

    async def _answer_once(self, system: KnownSystem, event: EventView, inbox: _Inbox) -> None:
        if event.kind == "hello":
            for question in await self._greet(system):
                inbox.add(question)
        elif event.kind == "take-copy":
            await self._taker.take(system, event.partition)
        elif event.kind == "forget-copies":
            self._store.forget(system.key, [event.uuid])
            # The event may be old: an operator may have restored the partition since.  So the present view
            # decides.
            view = await system.call(show_system())
            if event.uuid not in (each.uuid for each in view.partitions):
                self._courier.registry.release_owner(system, event.uuid)
            await system.call(forget_copies([event.uuid]))
        elif event.kind == "changed":
            view = await system.call(show_system())
            self._note_name(system, view)
            self._recover_once(system, view)
            await self._courier.look(system)
        elif event.kind == "ask-custody":
            await system.call(show_system())
            await self._courier.look(system)

    async def _greet(self, system: KnownSystem) -> list[EventView]:
        """Begin a stream; return events that the console answers on its own.

        One event is about the custody of the partitions.  The others are about missing copies: by the
        system's record the console has stored them, but the console has not.
        """
        system.note_connected()
        self._log.info("system.connected", system=system.name)
        view = await system.call(show_system())
        system.recovered = False
        self._recover_once(system, view)
        custody = EventView(number=0, kind="ask-custody")
        if view.state != "Operating":
            return [custody]
        await self._taker.take_key(system)
        self._taker.put_aside(system, view)
        missing = self._taker.missing(system, view)
        copies = (
            EventView(number=0, kind="take-copy", partition=each.name, uuid=each.uuid) for each in missing
        )
        return [custody, *copies]

    def _recover_once(self, system: KnownSystem, view: SystemView) -> None:
        """Begin to recover a system that has just come into the state Recovery.

        If a recovery fails, it is not begun again at the next event, because an operator has to act.
        """
        if view.state == "Recovery" and not system.recovered:
            self._recover(system)
        system.recovered = view.state == "Recovery"


class _Inbox:
    """Events that wait for their answer, in their order.

    A newer event replaces an event of the same kind about the same store.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], EventView] = {}
        self._filled = trio.Event()
        self.trouble = ""
        """Why the stream ends, "" while it does not."""

    def add(self, event: EventView) -> None:
        """Add an event."""
        self._waiting[event.kind, event.uuid] = event
        self._filled.set()

    async def first(self) -> EventView:
        """Wait for an event, and return the oldest one; it stays in the inbox until `drop`."""
        while not self._waiting:
            self._filled = trio.Event()
            await self._filled.wait()
        return next(iter(self._waiting.values()))

    def drop(self, event: EventView) -> None:
        """Remove an answered event.

        If a newer event has replaced it meanwhile, the newer one stays, behind all others.
        """
        key = event.kind, event.uuid
        latest = self._waiting.pop(key)
        if latest is not event:
            self._waiting[key] = latest


async def _read(events: AsyncIterable[EventView], inbox: _Inbox) -> bool:
    """Collect all events until the stream ends; return whether `stopping` was among them."""
    stopping = False
    async for event in events:
        stopping = stopping or event.kind == "stopping"
        inbox.add(event)
    return stopping
