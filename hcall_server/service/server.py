"""The whole server: boot, listen, announce, serve, and stop in good order."""

# A stop
#
# A signal or the console stops the server.  The stop guarantees:
#
#   1. Exit status 0 means that each call and each verb that was answered is durable.
#   2. A client that waits for its CONFIRM gets it, if NVRAM works.
#   3. The stop ends in bounded time, whatever NVRAM, a guest or a client of the console does.
#
# The order, in `_until_stopped` and then in `run`:
#
#   - No new connections, requests or sockets: a power-on from now on is refused.
#   - The first flush, while sessions go on.  Durability needs only the last one, but a client that waits in
#     CONFIRM would get GOODBYE in place of its answer (guarantee 2).
#   - GOODBYE 4 to all sessions, then the end of the requests under way, in bounded time.  Without this wait,
#     a verb could be answered after the last flush, and be lost.
#   - The last flush, for the changes since the first one.  Both share `drain_seconds`.
#   - The worker ends, NVRAM is closed, and the lock is released last: the next server finds closed files.
#
# If the worker is still in a commit after a failed last flush, the process closes nothing, and ends with
# status 3.  A second signal of `HURRY_SIGNALS` skips all waits; `pending` decides the status then too.

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_abi.rules import service as rules
from hcall_server.data_channel.listeners import assign
from hcall_server.data_channel.sockets import (
    SocketFile,
    check_place,
    listen_tcp,
    listen_unix,
    remove_stale_sockets,
)
from hcall_server.machine import logs
from hcall_server.machine.machine import Machine
from hcall_server.platform.system_state import SystemState
from hcall_server.process.descriptors import allow_many_descriptors
from hcall_server.process.signals import HURRY_SIGNALS, NotedStops, stop_signals
from hcall_server.service import peers
from hcall_server.service.draining import drain
from hcall_server.service.notify import notify
from hcall_server.service.opened import OpenedParts, opened_parts
from hcall_server.service.places import check_places, check_trace
from hcall_server.service.ready_fields import ready_fields
from hcall_server.service.settings import Settings, parse_listen
from hcall_server.service.state import State

if TYPE_CHECKING:
    import ssl


Announce = Callable[[dict[str, Any]], None]
"""Called once, when every socket listens, with the fields of the ready line (spec/service.md#ready)."""

Passed = Sequence[tuple[str, socket.socket]]
"""Listening sockets that a service manager passed, with their names."""

_log = logs.Log()

ANNOUNCE_PATIENCE = 1.0
"""Seconds that a start waits for its own changes (IPL counts, new partitions) to become durable.

If an IPL count is not durable by then, its partition starts later, as soon as it is.
"""


def run(
    folder: Path,
    settings: Settings,
    announce: Announce,
    passed: Passed = (),
    *,
    accept_older: bool = False,
    standby: bool = False,
) -> None:
    """Serve a state folder until a stop signal, on its own sockets and those that were `passed`.

    `accept_older` is as in `assemble`.  A `standby` first waits for the end of the present owner of its NVRAM
    on etcd; a stop signal ends that wait.  Raises OperatorError and StorageError if it can't start,
    StorageError if the last flush failed.
    """
    place, tls = settings.nvram_on_etcd(standby=standby), _tls_of(settings)
    check_places(folder.absolute() / "run", settings, passed=bool(passed))
    check_trace(folder.absolute(), settings)
    with NotedStops(active=place is not None) as noted:
        parts = opened_parts(folder, settings, place, accept_older=accept_older, standby=standby)
        if parts is None:
            noted.ignore()
            return
        allow_many_descriptors()
        server = Server(parts.machine, parts.state, settings, passed, tls)
        server.noted = noted
        _serve(server, parts, announce)


def _serve(server: Server, parts: OpenedParts, announce: Announce) -> None:
    """Run a server until it is stopped, and close its parts."""
    try:
        trio.run(server.serve, announce, clock=parts.clock)
    except BaseException:
        parts.abandon()
        raise
    parts.seams.worker.close()
    if not server.flushed:  # the worker may still use NVRAM, so it stays open
        raise StorageError(
            rules.STOP_FLUSHED,
            f"not everything was flushed: {server.trouble or 'NVRAM did not answer in time'}",
        )
    parts.close()


class Server:
    """A machine on a state folder, with everything that serves it in a process."""

    def __init__(
        self,
        machine: Machine,
        state: State,
        settings: Settings,
        passed: Passed = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.flushed = False
        """Whether everything was durable at the end."""
        self.trouble: str | None = None
        """The last error of NVRAM, if the last flush failed."""
        self.noted = NotedStops(active=False)
        """The stop signal that came before `serve`, if there is one."""
        self.machine = machine
        self._listeners = state.listeners
        self._sockets = state.run_folder
        self._settings = settings
        self._passed = list(passed)
        self._tls = tls
        self._over_tcp: socket.socket | None = None
        self._metrics: socket.socket | None = None
        self._peers: peers.SocketPeers | None = None
        self._control = trio.CancelScope()
        self._control_ended = trio.Event()

    def __repr__(self) -> str:
        return f"Server({self.machine!r})"

    async def serve(self, announce: Announce) -> None:
        """Serve until a stop signal; raises the error that makes a start impossible."""
        failure: SwpksError | None = None
        with trio.open_signal_receiver(*stop_signals()) as signals:
            self.noted.deliver()
            async with trio.open_nursery() as nursery:
                try:
                    ready = await self._start(nursery)
                    announce(ready)
                    notify("READY=1")
                    _log.info("server.ready", **ready)
                    await self._until_stopped(signals)
                except SwpksError as error:
                    failure = error
                finally:
                    self._close()
                nursery.cancel_scope.cancel()
        self._close_tcp()
        if failure is not None:  # raised outside of the nursery, which would wrap it into a group
            raise failure

    async def _start(self, nursery: trio.Nursery) -> dict[str, Any]:
        """Open every socket, activate the partitions that start by themselves; return the ready fields."""
        machine, listeners = self.machine, self._listeners
        private, common, control = self._assigned()
        for name, listener in private.items():
            partition = machine.system.partitions.get(name)
            if partition:
                listeners.adopt(listener, partition)
            else:
                listeners.reserve(listener, name)
        common += [listen_tcp(*parse_listen(address)) for address in self._settings.listen]
        if self._settings.control:
            self._over_tcp = listen_tcp(*parse_listen(self._settings.control))
        if place := self._settings.metrics_over_tcp():
            self._metrics = listen_tcp(*place)
        for listener in common:
            listeners.share(listener)
        taken = peers.NAME in machine.system.places
        self._peers = peers.SocketPeers(self._sockets, self._settings.mobility, taken=taken)
        machine.peers = self._peers
        await nursery.start(machine.run)
        nursery.start_soon(self._peers.run, machine)
        if owner := machine.nvram.ownership:
            from hcall_server.machine.ownership import leave_after

            nursery.start_soon(leave_after, machine, owner)
        made = None
        if control is None:
            control = listen_unix(self._sockets / "control.sock")
            made = SocketFile(self._sockets / "control.sock")
        await nursery.start(self._serve_control, control, made)
        with trio.move_on_after(ANNOUNCE_PATIENCE):  # a slow or failed NVRAM must not delay the announcement
            await machine.counted_start()
        listeners.begin()
        if machine.waiting:
            _log.warning("partition.waiting", partitions=[each.name for each in machine.waiting])
            nursery.start_soon(machine.start_waiting)
        others, reach = [*common, *private.values()], self._peers.address
        return ready_fields(machine, listeners, reach, others, control, self._over_tcp, self._metrics)

    def _close_tcp(self) -> None:
        """Close the sockets of the control channel over TCP and of the metrics."""
        for each in (self._over_tcp, self._metrics):
            if each:
                each.close()

    def _close(self) -> None:
        """Accept no more connections of clients and of other systems."""
        self._listeners.close_all()
        if self._peers:
            self._peers.close()

    def _assigned(self) -> tuple[dict[str, socket.socket], list[socket.socket], socket.socket | None]:
        """Remove stale sockets.  Return the passed ones: private by partition name, common, control."""
        private, common, control = assign(self._passed, self._expected())
        owners = [*private.items(), *(("tcp", each) for each in common)]
        if control:
            owners.append(("control", control))
        for owner, listener in owners:
            check_place(self._sockets, owner, listener)
        remove_stale_sockets(self._sockets, [listener for _, listener in self._passed])
        return private, common, control

    def _expected(self) -> list[str]:
        """Return the names of all partitions.  In the state Recovery: of all that its end may create."""
        system = self.machine.system
        if system.state is SystemState.OPERATING:
            return list(system.partitions)
        wished = (wish.name for wish in self._settings.partition)
        return sorted({*system.restored, *self.machine.recovery.lost, *wished})

    async def _serve_control(
        self, control: socket.socket, made: SocketFile | None, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Serve the control channel.  `made` is the file of its socket, None if the socket was passed.

        This imports the module of the channel.  The first request imports the HTTP stack.
        """
        from hcall_server.control_channel.serve import serve_control

        try:
            with self._control:
                async with trio.open_nursery() as listeners:
                    await listeners.start(serve_control, self.machine, control)
                    if self._over_tcp:
                        by_tls = partial(serve_control, tls=self._tls)
                        await listeners.start(by_tls, self.machine, self._over_tcp)
                    if self._metrics:
                        from hcall_server.control_channel.metrics_listener import serve_metrics

                        await listeners.start(serve_metrics, self.machine, self._metrics)
                    task_status.started()
        finally:
            if made:
                made.remove()
            control.close()
            self._close_tcp()
            self._control_ended.set()

    async def _asked(self, signals: AsyncIterator[int]) -> str:
        """Return the name of the signal that stops the server, or "none" if the console stops it."""
        asked = "none"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, self.machine.stop_asked, nursery.cancel_scope)
            asked = signal.Signals(await anext(aiter(signals))).name
            nursery.cancel_scope.cancel()
        return asked

    async def _until_stopped(self, signals: AsyncIterator[int]) -> None:
        """Wait for a signal or the console, then stop.  A further signal ends the wait for NVRAM."""
        asked = await self._asked(signals)
        notify("STOPPING=1")
        sessions, encryptor = self.machine.sessions, self.machine.encryptor
        owner = self.machine.nvram.ownership
        _log.info("server.stopping", signal=asked, sessions=sessions.session_count)
        limits = self._settings.limits
        deadline = trio.current_time() + limits.drain_seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            self._control.cancel()  # a verb that is answered after the last flush could be lost
            self._close()
            with trio.CancelScope(deadline=deadline):
                await drain(encryptor, owner)
            sessions.end_all(GoodbyeReason.SERVER_STOPPING, "the server stops")
            with trio.move_on_after(limits.goodbye_seconds + 1):
                await sessions.wait_empty()
            await self._control_ended.wait()  # the control channel bounds the time of running requests
            with trio.CancelScope(deadline=deadline):
                await drain(encryptor, owner)
            if self.machine.traces:
                await self.machine.traces.close()
            nursery.cancel_scope.cancel()
        self.flushed = not encryptor.pending
        self.trouble = encryptor.health.last_error
        if owner and owner.over and self.trouble is None:  # no flush was tried after it
            self.trouble = "the ownership of NVRAM is over"
        _log.info("server.stopped", flushed=self.flushed)


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        if number in HURRY_SIGNALS:
            _log.warning("server.stops_at_once", signal=signal.Signals(number).name)
            scope.cancel()


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS of the control channel over TCP, or None.  If it is None, no TLS module is loaded."""
    found = settings.control_over_tcp()
    if found is None:
        return None
    from hcall_server.control_channel import tls

    return tls.server_context(tls.ServerFiles(*map(Path, found[2:])))
