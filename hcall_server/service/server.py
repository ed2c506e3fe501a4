"""The whole server: boot, listen, announce, serve, and stop in good order.

Stopping: no new connections; what is dirty is flushed while sessions still run, so that a client
that waits for its CONFIRM gets it; GOODBYE 4 to all; what came in between is flushed too.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import trio

from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_server import __version__
from hcall_server.data_channel.listeners import Listeners, assign
from hcall_server.data_channel.reaper import reap
from hcall_server.data_channel.sockets import listen_tcp, listen_unix, passed_sockets
from hcall_server.faults.busy import parse_fault
from hcall_server.machine import logs
from hcall_server.machine.machine import Machine
from hcall_server.nvram.seam import NvramError
from hcall_server.platform.partition import Partition
from hcall_server.service.boot import Booted, Entropy, boot
from hcall_server.service.notify import notify
from hcall_server.service.settings import Settings, parse_listen
from hcall_server.writeback.encryptor import Encryptor
from hcall_server.writeback.worker import ThreadWorker

Announce = Callable[[dict[str, Any]], None]
"""Told once, when every socket listens: what `--ready-fd` writes (spec/service.md#ready)."""

_log = logs.Log()

ANNOUNCE_PATIENCE = 1.0
"""Seconds that a start waits for its own changes (IPL counts, new partitions) to become durable."""


def run(folder: Path, settings: Settings, announce: Announce, entropy: Entropy = os.urandom) -> None:
    """Serve a state folder until SIGTERM or SIGINT.

    Raises OperatorError and StorageError when it can't start, StorageError when something could not
    be flushed at the end.
    """
    booted = boot(folder, settings, entropy)
    _allow_many_descriptors()
    worker = ThreadWorker()
    encryptor = Encryptor(
        booted.nvram, booted.sealer, worker, delay=settings.flush_delay_ms / 1000, on_trouble=_log_trouble
    )
    server = Server(booted, settings, encryptor, entropy)
    trio.run(server.serve, announce)
    worker.close()
    if not server.flushed:
        raise StorageError(
            f"not everything was flushed: {server.trouble or 'NVRAM did not answer in time'}",
            rule="what is dirty is flushed before the server ends",
            section="spec/service.md#stopping",
        )
    booted.nvram.close()
    booted.state.close()


class Server:
    """A booted system with everything that serves it."""

    def __init__(self, booted: Booted, settings: Settings, encryptor: Encryptor, entropy: Entropy) -> None:
        self.flushed = False
        """Whether everything was durable at the end."""
        self.trouble: str | None = None
        """What NVRAM said last, if it refused."""
        self.machine: Machine | None = None
        self._booted = booted
        self._settings = settings
        self._encryptor = encryptor
        self._entropy = entropy
        self._control = trio.CancelScope()
        self._control_ended = trio.Event()

    def __repr__(self) -> str:
        return f"Server({self._booted.system!r})"

    async def serve(self, announce: Announce) -> None:
        """Serve until a signal says stop; raises what makes a start impossible."""
        failure: SwpksError | None = None
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                listeners = Listeners(nursery, self._booted.state.run)
                machine = self._machine(listeners)
                try:
                    with logs.held():
                        ready = await self._start(nursery, listeners, machine)
                        announce(ready)
                        notify("READY=1")
                    _log.info("server.ready", **ready)
                    await self._until_stopped(signals, listeners, machine)
                except SwpksError as error:
                    failure = error
                finally:
                    listeners.close_all()
                nursery.cancel_scope.cancel()
        if failure is not None:  # raised here, where no nursery wraps it into a group
            raise failure

    def _machine(self, listeners: Listeners) -> Machine:
        booted = self._booted
        machine = Machine(
            booted.system,
            self._encryptor,
            limits=self._settings.limits,
            doors=listeners,
            access_key=booted.access_keys,
            nvram=booted.nvram,
            entropy=self._entropy,
        )
        self.machine = listeners.machine = machine
        return machine

    async def _start(self, nursery: trio.Nursery, listeners: Listeners, machine: Machine) -> dict[str, Any]:
        """Open every socket, power on what starts by itself; returns what is announced."""
        booted, settings = self._booted, self._settings
        partitions = list(booted.system.partitions.values())
        _remove_stale_sockets(booted.state.run)
        private, common, control = assign(passed_sockets(os.environ, os.getpid()), partitions)
        for name, listener in private.items():
            listeners.adopt(listener, booted.system.find(name))
        common += [listen_tcp(*parse_listen(address)) for address in settings.listen]
        for listener in common:
            listeners.share(listener)
        await nursery.start(self._encryptor.run)
        if not booted.remembered:
            self._encryptor.system_changed(booted.record)
        for partition in booted.touched:
            self._encryptor.changed(partition)
        for wish in settings.partition:
            if wish.faults and wish.name in booted.system.partitions:
                await machine.set_faults(wish.name, map(parse_fault, wish.faults))
        for partition in partitions:
            await _power_on(machine, partition)
        nursery.start_soon(reap, machine.sessions, machine.limits)
        control = control or listen_unix(booted.state.run / "control.sock")
        await nursery.start(self._serve_control, machine, control)
        with trio.move_on_after(ANNOUNCE_PATIENCE):  # NVRAM in trouble must not hold up the start
            await self._encryptor.flush()
        return _ready(machine, listeners, common, control)

    async def _serve_control(
        self, machine: Machine, control: socket.socket, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Serve the control channel; its module is loaded here and its HTTP stack by the first request."""
        from hcall_server.control_channel.serve import serve_control

        try:
            with self._control:
                await serve_control(machine, control, task_status=task_status)
        finally:
            control.close()
            self._control_ended.set()

    async def _until_stopped(
        self, signals: AsyncIterator[int], listeners: Listeners, machine: Machine
    ) -> None:
        """Wait for a signal, then stop in good order; a second signal stops waiting for NVRAM."""
        number = await anext(aiter(signals))
        notify("STOPPING=1")
        _log.info(
            "server.stopping", signal=signal.Signals(number).name, sessions=machine.sessions.session_count
        )
        limits = self._settings.limits
        deadline = trio.current_time() + limits.drain_seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            self._control.cancel()  # no verb may be answered after the last flush, and then be lost
            listeners.close_all()
            with trio.CancelScope(deadline=deadline):
                await drain(self._encryptor)
            machine.sessions.end_all(GoodbyeReason.SERVER_STOPPING, "the server stops")
            with trio.move_on_after(limits.goodbye_seconds + 1):
                await machine.sessions.wait_empty()
            await self._control_ended.wait()  # its grace for requests under way is bounded
            with trio.CancelScope(deadline=deadline):
                await drain(self._encryptor)
            nursery.cancel_scope.cancel()
        self.flushed = not self._encryptor.pending
        self.trouble = self._encryptor.health.last_error
        _log.info("server.stopped", flushed=self.flushed)


async def drain(encryptor: Encryptor) -> None:
    """Return when everything is durable that is dirty now; the caller bounds how long that may take.

    Sessions may go on: waiting until nothing at all is dirty would let a busy guest hold up the stop.
    """
    while True:
        if await encryptor.flush():
            return
        await trio.sleep(0.05)


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    number = await anext(aiter(signals))
    _log.warning("server.stops_at_once", signal=signal.Signals(number).name)
    scope.cancel()


async def _power_on(machine: Machine, partition: Partition) -> None:
    """Activate a partition that starts by itself; one that is refused is told of and left off."""
    if partition.refused:
        _log.error("partition.refused", partition=partition.name, **logs.explained(partition.refused))
    elif partition.auto_start:
        await machine.power_on(partition.name)


def _remove_stale_sockets(folder: Path) -> None:
    """Remove the sockets that a killed server left; the lock of the state says that nobody serves them."""
    for path in folder.iterdir():
        if path.is_socket():
            path.unlink()


def _ready(
    machine: Machine, listeners: Listeners, common: list[socket.socket], control: socket.socket
) -> dict[str, Any]:
    system = machine.system
    tcp = [each.getsockname()[:2] for each in common if each.family != socket.AF_UNIX]
    return {
        "version": __version__,
        "pid": os.getpid(),
        "firmware": system.level.name,
        "sockets": listeners.paths,
        "control": control.getsockname(),
        "tcp": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in tcp],
        "tcp_port": tcp[0][1] if tcp else None,
        "partitions": list(system.partitions),
        "running": [each.name for each in system.partitions.values() if each.running],
        "refused": {each.name: each.refused.message for each in system.partitions.values() if each.refused},
    }


def _log_trouble(error: NvramError | None) -> None:
    """Log trouble with NVRAM, and its end (R-23)."""
    if error is None:
        _log.info("nvram.recovered")
    else:
        _log.error("nvram.trouble", kind=error.kind, **logs.explained(error))


def _allow_many_descriptors() -> None:
    """Let as many connections be open as the system permits this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
