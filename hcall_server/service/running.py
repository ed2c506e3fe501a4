"""A server process: its parts are opened, it serves, and they are closed in order."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.rules import service as rules
from hcall_server.machine import logs
from hcall_server.machine.awake import AwakeClock
from hcall_server.platform.root_key import AccessAccount
from hcall_server.process.descriptors import allow_many_descriptors
from hcall_server.process.signals import NotedStops
from hcall_server.service.assembly import Seams, assemble
from hcall_server.service.places import check_places, check_trace
from hcall_server.service.server import Announce, Passed, Server
from hcall_server.service.settings import Settings
from hcall_server.service.snapshot_places import snapshots_of
from hcall_server.service.state import State
from hcall_server.service.tracing import SystemTraces

if TYPE_CHECKING:
    import ssl

    from hcall_server.nvram.etcd.nvram import EtcdNvram
    from hcall_server.nvram.etcd.place import EtcdPlace

_log = logs.Log()

_LAST_COMMIT = 1.0
"""Seconds that a failed start waits for a commit that runs, before it leaves NVRAM open."""


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
    place = settings.nvram_on_etcd(standby=standby)
    with NotedStops(active=place is not None) as noted:
        begun = _begun(folder, settings, passed, place, accept_older=accept_older, standby=standby)
        if begun is None:
            noted.ignore()
            return
        begun.server.noted = noted
        _served(begun, announce)


class _Begun(NamedTuple):
    """A server whose parts are open, and the parts that are closed after it."""

    server: Server
    seams: Seams
    state: State
    clock: AwakeClock
    traces: SystemTraces


def _begun(
    folder: Path,
    settings: Settings,
    passed: Passed,
    place: EtcdPlace | None,
    *,
    accept_older: bool,
    standby: bool,
) -> _Begun | None:
    """Return a server whose parts are open; None if a stop signal ended the wait for NVRAM on etcd."""
    tls = _tls_of(settings)
    check_places(folder.absolute() / "run", settings, passed=bool(passed))
    check_trace(folder.absolute(), settings)
    with ExitStack() as undo:
        state = State(folder, nvram_on_etcd=place is not None)
        undo.callback(state.close)
        undo.push(lambda kind, *_: state.discard() if kind and issubclass(kind, SwpksError) else None)
        etcd = _owned(state, place, standby=standby)
        if place is not None and etcd is None:
            return None
        clock = AwakeClock(time.monotonic)
        seams = _seams(state, settings, clock, etcd)
        undo.callback(seams.nvram.close)
        machine = assemble(seams, settings, accept_older=accept_older)
        traces = machine.traces = SystemTraces(machine.sessions, folder.absolute(), settings, seams.date)
        traces.begin_all()
        machine.snapshots = snapshots_of(machine, folder.absolute())
        undo.pop_all()
    log_access(machine.access)
    allow_many_descriptors()
    return _Begun(Server(machine, state, settings, passed, tls), seams, state, clock, traces)


def _served(begun: _Begun, announce: Announce) -> None:
    """Run a server until it is stopped, and close its parts."""
    server, seams, state, clock, _ = begun
    try:
        trio.run(server.serve, announce, clock=clock)
    except BaseException:
        begun.traces.discard()
        if state.idle(_LAST_COMMIT):  # if not, a commit still uses NVRAM
            seams.nvram.close()
            state.close()
        raise
    _end(server, seams, state)


def _end(server: Server, seams: Seams, state: State) -> None:
    """Close NVRAM and the state after a stop; StorageError if not everything is durable."""
    seams.worker.close()
    if not server.flushed:  # the worker may still use NVRAM, so it stays open
        raise StorageError(
            rules.STOP_FLUSHED,
            f"not everything was flushed: {server.trouble or 'NVRAM did not answer in time'}",
        )
    seams.nvram.commit({})  # empty: raises if the state was removed after its last commit
    seams.nvram.close()
    state.close()


def _owned(state: State, place: EtcdPlace | None, *, standby: bool) -> EtcdNvram | None:
    """Return NVRAM on etcd, owned; None if a stop signal came first, or if NVRAM is in the folder."""
    if place is None:
        return None
    from hcall_server.service.standing_by import owned_nvram

    return owned_nvram(state, place, standby=standby)


def _seams(state: State, settings: Settings, clock: AwakeClock, etcd: EtcdNvram | None) -> Seams:
    try:
        return state.seams(clock.now, settings.tpm, etcd)
    except BaseException:
        if etcd is not None:
            etcd.close()
        raise


def log_access(access: AccessAccount) -> None:
    """Log the steps of this start's access to the keystores, and parts without a good copy of the key."""
    for step in access.steps:
        _log.info("root_key.step", step=step.number, finding=step.text)
    for part in access.parts:
        if not part.ok:
            _log.warning("part.unwell", part=part.name, copy=part.copy, reason=part.detail)


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS of the control channel over TCP, or None.  If it is None, no TLS module is loaded."""
    found = settings.control_over_tcp()
    if found is None:
        return None
    from hcall_server.control_channel import tls

    return tls.server_context(tls.ServerFiles(*map(Path, found[2:])))
