"""Answers the requests of commands: lines, forwarded verbs, and the console's own verbs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from hcall_abi.control import JSON
from hcall_abi.control_bodies import CopyToRestore, SystemChanges
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.messages import message
from hcall_abi.requests import ConsoleRequest
from hcall_abi.rules import console as control
from hcall_abi.rules import hmc as rules
from hcall_client.console import ConsoleUnreachable
from hcall_server.console.advice import TO_NAME, at_store, to_connect, to_start
from hcall_server.console.console import ManagementConsole
from hcall_server.console.copies import CopyFacts, by_store
from hcall_server.console.jobs import Job
from hcall_server.console.lines.run import run_line
from hcall_server.console.namesakes import give_name
from hcall_server.console.registry import shown
from hcall_server.console.systems import AwaitedSystem, KnownSystem
from hcall_server.console.whereabouts import found_at
from swpks.hmc import wire
from swpks.hmc.forward import Call, forwarded, refusal, request_of
from swpks.hmc.lookout import Lookout
from swpks.hmc.overview_views import of_one
from swpks.hmc.serving import WireCaller
from swpks.hmc.views import JobView, KnownSystemView, RemovedSystemView, StoredCopyView

_STOPPED = "the console stops before it has answered; a job that it has begun goes on at its next start"

MAX_WATCHERS = 8
"""Commands that watch at once."""


class ConsoleHandler:
    """Carries out the requests of commands with a console.

    `lookout` makes the overview that commands watch; it runs in a task of its own.
    """

    def __init__(self, console: ManagementConsole, lookout: Lookout | None = None) -> None:
        self._console = console
        self._lookout = lookout or Lookout(console)
        self._watchers = 0
        self._lists: dict[str, Callable[[wire.Order], list[Any]]] = {
            "systems": self._list_systems,
            "copies": self._list_copies,
        }
        self._works: dict[str, Callable[[wire.Order, WireCaller], Awaitable[Any]]] = {
            "add-system": self._add_system,
            "remove-system": self._remove_system,
            "backup": self._backup,
            "recover": self._recover,
            "jobs": self._show_jobs,
            "watch": self._watch,
        }

    async def handle(self, request: wire.WireRequest, caller: WireCaller) -> bytes:
        """Carry out a request; return the last message to the command."""
        if request.line is not msgspec.UNSET:
            return wire.exit_status(await run_line(self._console, request.line, caller))
        try:
            if request.ask is not msgspec.UNSET:
                return await self._forwarded(request.ask)
            if request.order is not msgspec.UNSET:
                answer = await self._ordered(request.order, caller)
                return wire.answer(200, JSON, msgspec.json.encode(answer))
        except SwpksError as error:
            return refusal(error)
        raise RuntimeError("a request without a kind")

    async def _forwarded(self, request: wire.Forwarded) -> bytes:
        asked, system = request_of(request), self._console.find(request.system)
        # The register decides whether this system may have the store, so a restore goes through the console.
        restores = isinstance(asked.body, CopyToRestore)
        call: Call = self._console.restore if restores else KnownSystem.call
        if isinstance(asked.body, SystemChanges):
            call = self._rename
        return await forwarded(asked, system, call, self._elsewhere)

    async def _rename(self, system: KnownSystem, request: ConsoleRequest[Any]) -> Any:
        if not isinstance(request.body, SystemChanges):
            raise ValueError(f"{request.verb.operation} gives no name")
        return await give_name(self._console.systems, system, request.body.name)

    def _elsewhere(self, name: str) -> str:
        return found_at(self._console.systems, name)

    def stopped(self, request: wire.WireRequest) -> bytes:
        """Return the last messages to a command that still waits when the console stops."""
        if request.line is not msgspec.UNSET:
            return wire.say(_STOPPED) + wire.exit_status(1)
        return refusal(OperatorError(rules.HMC_STOPPED, _STOPPED))

    def failed(self, request: wire.WireRequest) -> bytes:
        """Return the last messages to a command whose request met a bug of the console."""
        error = SwpksError(control.REQUEST_ANSWERED, "the console failed; its log has the reason")
        if request.line is not msgspec.UNSET:
            return wire.say(message(error)) + wire.exit_status(1)
        return refusal(error)

    async def _ordered(self, order: wire.Order, caller: WireCaller) -> Any:
        if order.verb in self._lists:
            return self._lists[order.verb](order)
        return await self._works[order.verb](order, caller)

    def _list_systems(self, _order: wire.Order) -> list[KnownSystemView]:
        known = [self._system_view(each) for each in self._console.systems]
        return [*known, *map(_awaited_view, self._console.awaited.values())]

    def _system_view(self, system: KnownSystem) -> KnownSystemView:
        last, now = system.last, self._console.date()
        # Each store has a newest copy. The view shows the oldest of their times: a recovery would lose the
        # most changes of that store.
        newest = {uuid: copies[0].time for uuid, copies in by_store(system.copies).items()}
        copied = min(newest.values(), default=None)
        named = last.partitions.items() if last else ()
        without = [name for uuid, name in named if uuid not in newest]
        return KnownSystemView(
            name=system.name,
            type_model_serial=system.type_model_serial,
            system_id=system.system_id,
            where=system.where,
            connected=system.connected,
            since=system.since,
            trouble=system.trouble,
            state=last.state if last else None,
            partitions=len(last.partitions) if last else None,
            copied=copied,
            # A system's clock may be ahead of the console's, and no copy has a negative age.
            age=None if copied is None else max(0.0, now - copied),
            without_copy=without,
            advice=system.advice,
            waiting=self._waiting(system),
        )

    def _waiting(self, system: KnownSystem) -> list[str]:
        """Return a line with the reason for each partition that a system does not serve."""
        waits = [(each.name, self._console.waits(system, each.uuid)) for each in shown(system)]
        return [f"{name} waits: {why}" for name, why in waits if why]

    async def _add_system(self, order: wire.Order, _caller: WireCaller) -> KnownSystemView:
        try:
            return self._system_view(await self._console.add_system(order.where, order.name))
        except ConsoleUnreachable as error:
            raise self._not_added(error, order.where) from None

    def _not_added(self, error: ConsoleUnreachable, where: str) -> OperatorError:
        """Return the error of add-system for a place that is not reached, with its remedy."""
        remedy = to_connect(error, where, "")
        if error.found and remedy.startswith("start "):  # another program listens there
            remedy = TO_NAME
        elif remedy == to_start(where) and remedy.startswith("start it"):
            remedy += ", or correct its place"
        remedy = at_store(remedy, self._console.store.folder)
        return OperatorError(error.rule, f"{error.message}; {remedy}", advised=True)

    async def _remove_system(self, order: wire.Order, _caller: WireCaller) -> RemovedSystemView:
        # A place of --system that was never reached is no system yet; the operator may name it too.
        if order.name in self._console.awaited:
            del self._console.awaited[order.name]
            return RemovedSystemView(name=order.name, trouble="the console dials this place no longer")
        system = self._console.find(order.name)
        # The system is removed by its serial number. Two systems may have the same name, and `find` has
        # chosen one of them.
        trouble = await self._console.remove_system(system.type_model_serial)
        return RemovedSystemView(name=system.name, trouble=trouble)

    async def _backup(self, order: wire.Order, caller: WireCaller) -> JobView:
        console = self._console
        return await self._follow(console.back_up(console.find(order.system)), caller)

    async def _recover(self, order: wire.Order, caller: WireCaller) -> JobView:
        console = self._console
        job = console.recovery(console.find(order.system), give_up=order.give_up)
        return await self._follow(job, caller)

    async def _show_jobs(self, order: wire.Order, caller: WireCaller) -> list[JobView] | JobView:
        jobs = self._console.jobs
        if order.number is None:
            return [wire.job_view(each) for each in jobs.all]
        return await self._follow(jobs.find(order.number), caller)

    async def _watch(self, order: wire.Order, caller: WireCaller) -> None:
        """Report the overview as a line of JSON, now and at each change, until the command is gone."""
        if order.system is not None:
            self._console.find(order.system)
        # A watch lasts for days. Without a bound, watches could take all places of other commands.
        if self._watchers >= MAX_WATCHERS:
            raise OperatorError(rules.HMC_WATCHERS, f"{self._watchers} commands watch already; end one")
        self._watchers += 1
        try:
            with self._lookout.opened() as viewer:
                while True:
                    overview = await viewer.next()
                    shown = overview if order.system is None else of_one(overview, order.system)
                    await caller.report(msgspec.json.encode(shown).decode())
        finally:
            self._watchers -= 1

    def _list_copies(self, order: wire.Order) -> list[StoredCopyView]:
        console = self._console
        systems = console.systems if order.system is None else [console.find(order.system)]
        now = console.date()
        return [_copy_view(each, copy, now) for each in systems for copy in _sorted(each)]

    async def _follow(self, job: Job, caller: WireCaller) -> JobView:
        return wire.job_view(await self._console.jobs.follow(job, caller.progress))


def _sorted(system: KnownSystem) -> list[CopyFacts]:
    return [copy for found in by_store(system.copies).values() for copy in found]


def _awaited_view(system: AwaitedSystem) -> KnownSystemView:
    return KnownSystemView(
        name=system.name,
        type_model_serial="",
        system_id="",
        where=system.where,
        connected=False,
        since=system.since,
        trouble=system.trouble,
        state=None,
        partitions=None,
        copied=None,
        age=None,
        without_copy=[],
        advice=system.advice,
    )


def _copy_view(system: KnownSystem, copy: CopyFacts, now: float) -> StoredCopyView:
    return StoredCopyView(
        system=system.name,
        partition=copy.name,
        uuid=copy.uuid,
        restores=copy.restores,
        generation=copy.generation,
        time=copy.time,
        age=max(0.0, now - copy.time),
        received=copy.received,
        keystore_kbytes=copy.kbytes,
        firmware_level=copy.firmware,
        trusted_key_id=copy.trusted_key_id,
    )
