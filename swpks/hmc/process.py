"""The console's process: its store, its sockets, its start and its stop (spec/console.md#the-process)."""

# Start
#
# A console must start although systems are down: it is the tool that brings them back.  So a start waits 5
# seconds for its systems, and announces those that are away.  It goes on dialling them.  Only a mistake of
# the operator ends the start: a malformed place, another name than the given one, a damaged store.
#
# The order: lock of the folder, store, socket of commands, jobs and streams, where socket, commands, ready
# line. The socket of commands listens before a system is dialled: a start that fails there has attached
# itself to no system.  But commands are accepted last, so the first command finds that each system was tried
# once.
#
# Stop
#
# The first signal stops accepting.  Requests that are under way get a short time, because a verb may have
# been sent to a system already.  A command that follows a job ends at once: the job is durable, and goes on
# at the next start.  A second signal ends everything at once.  Open streams of the page end with the last
# command.  Nothing is written at the end but the links of
# the systems: each answered change is durable already.

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import trio

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import console as console_rules
from hcall_abi.rules import hmc as rules
from hcall_client.control_transport import TlsFiles
from hcall_server import __version__
from hcall_server.console.console import ConsoleSettings, ManagementConsole
from hcall_server.console.patience import waits
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import AwaitedSystem, KnownSystem
from hcall_server.console.whereabouts import whereabouts
from hcall_server.data_channel.sockets import SocketFile, listen_unix
from hcall_server.machine import logs
from hcall_server.process.signals import HURRY_SIGNALS, stop_signals
from swpks.hmc.link import SocketDial
from swpks.hmc.lookout import Lookout
from swpks.hmc.orders import ConsoleHandler
from swpks.hmc.serving import CommandServer
from swpks.hmc.store_folder import StoreFolder
from swpks.hmc.where import WhereServer

FIRST_SECONDS = 5.0
"""Seconds for which a start waits for its systems; it goes on dialling those that are away."""

Announce = Callable[[dict[str, Any]], None]
"""Called once with the fields of the ready line, when commands are accepted."""

_AWAY = (console_rules.CONSOLE_SERVED, console_rules.CONSOLE_ANSWER)

_SILENT = OperatorError(
    console_rules.CONSOLE_SERVED, f"the system did not answer within {FIRST_SECONDS:g} seconds"
)

_log = logs.Log()


class ServedPage(Protocol):
    """A page that listens already; `swpks.hmc.page.listener.PageListener` is one.

    This module does not import it: most consoles have no page.
    """

    @property
    def url(self) -> str:
        """The URL of the page."""

    async def run(self, lookout: Lookout, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve the page until cancelled."""


@dataclass(frozen=True)
class ProcessSettings:
    """Settings of a start: those of the console, each system as (name, place), and TLS certificate files.

    `page` is the page in a browser, None without one.
    """

    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    systems: tuple[tuple[str | None, str], ...] = ()
    tls: TlsFiles | None = None
    page: ServedPage | None = None


def run(folder: Path, settings: ProcessSettings, announce: Announce) -> None:
    """Run the console with this store until a stop signal comes.

    Raises OperatorError and StorageError if the console can't start.
    """
    with StoreFolder(folder) as held:
        store = ConsoleStore(held.database)
        try:
            console = ManagementConsole(
                store,
                SocketDial(settings.tls),
                entropy=os.urandom,
                date=time.time,
                settings=replace(settings.console, profiles=held.profiles),
                log=_log,
            )
            trio.run(ConsoleServer(console, held, settings).serve, announce)
        finally:
            store.close()


class ConsoleServer:
    """A console as a process: the socket of commands, the socket of `where`, the start and the stop."""

    def __init__(self, console: ManagementConsole, folder: StoreFolder, settings: ProcessSettings) -> None:
        self.console = console
        self._folder = folder
        self._settings = settings
        self._lookout = Lookout(console)
        self._commands = trio.CancelScope()
        self._commands_ended = trio.Event()

    def __repr__(self) -> str:
        return f"ConsoleServer({self.console!r})"

    async def serve(self, announce: Announce) -> None:
        """Serve until a stop signal comes; raise the error that makes a start impossible."""
        failure: SwpksError | None = None
        with trio.open_signal_receiver(*stop_signals()) as signals:
            async with trio.open_nursery() as nursery:
                try:
                    server = await self._start(nursery)
                    ready = self._ready()
                    announce(ready)
                    _log.info("console.ready", **ready)
                    await self._until_stopped(signals, server)
                except SwpksError as error:
                    failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:  # raised here, because a nursery would put it into a group
            raise failure

    async def _start(self, nursery: trio.Nursery) -> CommandServer:
        listener = listen_unix(self._folder.socket)
        made = SocketFile(self._folder.socket)

        def close() -> None:
            made.remove()
            listener.close()

        server = CommandServer(listener, ConsoleHandler(self.console, self._lookout), close)

        async def serve_commands(*, task_status: trio.TaskStatus[None]) -> None:
            try:
                with self._commands:
                    await server.run(task_status=task_status)
            finally:
                self._commands_ended.set()

        try:
            await nursery.start(self.console.run)
            deadline = trio.current_time() + FIRST_SECONDS
            for name, where in await self._add_given(deadline):
                nursery.start_soon(self._dial_on, name, where)
            await self._try_known(deadline)
            await nursery.start(self._tell_where)
            nursery.start_soon(self._lookout.run)
            if self._settings.page:
                await nursery.start(self._settings.page.run, self._lookout)
            await nursery.start(serve_commands)
        # The sockets are closed after a cancellation too. A socket file that is left behind would look like a
        # console that does not answer.
        except BaseException:
            close()
            raise
        return server

    async def _tell_where(self, *, task_status: trio.TaskStatus[None]) -> None:
        with _listening(self._folder.where) as listener:
            await WhereServer(listener, self._where).run(task_status=task_status)

    def _where(self, asked: str) -> str:
        return whereabouts(self.console.systems, asked)

    async def _try_known(self, deadline: float) -> None:
        """Wait until the console has tried to connect to each known system.

        The ready line can then name the systems that are away.
        """
        with trio.CancelScope(deadline=deadline):
            for system in self.console.systems:
                await system.tried.wait()

    async def _add_given(self, deadline: float) -> list[tuple[str | None, str]]:
        """Add the systems of the command line; return those that can't be reached yet."""
        away: list[tuple[str | None, str]] = []
        failures: list[SwpksError] = []

        async def add(name: str | None, where: str) -> None:
            with trio.CancelScope(deadline=deadline) as scope:
                try:
                    await self.console.add_system(where, name)
                except SwpksError as error:
                    if error.rule not in _AWAY:
                        failures.append(error)
                        return
                    self.console.note_awaited(where, name, error)
                    away.append((name, where))
            if scope.cancelled_caught:
                self.console.note_awaited(where, name, _SILENT)
                away.append((name, where))

        async with trio.open_nursery() as nursery:
            for name, where in self._settings.systems:
                nursery.start_soon(add, name, where)
        if failures:
            raise failures[0]
        return away

    async def _dial_on(self, name: str | None, where: str) -> None:
        """Try again and again to add a system, until that succeeds.

        Stop if the system at this place has another name than the given one.
        """
        logged = ""
        for seconds in waits():
            try:
                await self.console.add_system(where, name)
            except SwpksError as error:
                if where not in self.console.awaited:  # it was removed meanwhile
                    return
                self.console.note_awaited(where, name, error)
                # Each reason is logged once: a system that is away for a week would otherwise fill the log.
                if logged != error.message:
                    logged = error.message
                    advice = self.console.awaited[where].advice
                    _log.warning("system.not_reached", place=where, **logs.explained(error), advice=advice)
                # A later attempt would not help: another system is at this place.  Lists show it, with the
                # remedy.
                if error.rule is rules.HMC_SYSTEM_OWN_NAME:
                    return
                await trio.sleep(seconds)
                if where not in self.console.awaited:  # it was removed
                    return
            else:
                return

    async def _until_stopped(self, signals: AsyncIterator[int], server: CommandServer) -> None:
        """Wait for a stop signal, then let commands end; a second signal ends them at once."""
        number = await anext(aiter(signals))
        _log.info("console.stopping", signal=signal.Signals(number).name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hurry_on_signal, signals, server)
            self._commands.cancel()
            await self._commands_ended.wait()
            nursery.cancel_scope.cancel()
        _log.info("console.stopped")

    def _ready(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "store": str(self._folder.path),
            "socket": str(self._folder.socket),
            "console": self.console.id,
            "systems": [each.name for each in self.console.systems],
            "away": self._away(),
            **({"page": self._settings.page.url} if self._settings.page else {}),
        }

    def _away(self) -> list[dict[str, str]]:
        """Return each system that is not connected, with its name, place, reason and remedy."""
        known = [each for each in self.console.systems if not each.connected]
        away: list[KnownSystem | AwaitedSystem] = [*known, *self.console.awaited.values()]
        return [
            {"name": each.name, "place": each.where, "trouble": each.trouble, "advice": each.advice}
            for each in away
        ]


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Yield a listening socket at a path; at the end of the block, remove and close it."""
    listener = listen_unix(path)
    made = SocketFile(path)
    try:
        yield listener
    finally:
        made.remove()
        listener.close()


async def _hurry_on_signal(signals: AsyncIterator[int], server: CommandServer) -> None:
    async for number in signals:
        if number in HURRY_SIGNALS:
            _log.warning("console.stops_at_once", signal=signal.Signals(number).name)
            server.hurry()
