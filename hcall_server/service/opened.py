"""The parts of a server on a state folder: opened in the order of a start, and closed after it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.errors import SwpksError
from hcall_server.machine import logs
from hcall_server.machine.awake import AwakeClock
from hcall_server.machine.machine import Machine
from hcall_server.platform.root_key import AccessAccount
from hcall_server.service.assembly import Seams, assemble
from hcall_server.service.settings import Settings
from hcall_server.service.snapshot_places import snapshots_of
from hcall_server.service.state import State
from hcall_server.service.tracing import SystemTraces

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.nvram import EtcdNvram
    from hcall_server.nvram.etcd.place import EtcdPlace

_log = logs.Log()

_LAST_COMMIT = 1.0
"""Seconds that a failed start waits for a commit that runs, before it leaves NVRAM open."""


class OpenedParts(NamedTuple):
    """A machine that is assembled, and the parts that it uses."""

    machine: Machine
    seams: Seams
    state: State
    clock: AwakeClock
    traces: SystemTraces

    def abandon(self) -> None:
        """Close everything after a failed start.  If a commit still uses NVRAM, leave it open."""
        self.traces.discard()
        if self.state.idle(_LAST_COMMIT):
            self.seams.nvram.close()
            self.state.close()

    def close(self) -> None:
        """Close NVRAM and the state after a stop, when everything is durable.

        NvramError if the state was removed after its last commit.
        """
        self.seams.nvram.commit({})  # empty: it only checks
        self.seams.nvram.close()
        self.state.close()


def opened_parts(
    folder: Path, settings: Settings, place: EtcdPlace | None, *, accept_older: bool, standby: bool
) -> OpenedParts | None:
    """Open the parts of a state folder, and assemble a machine of them.

    `place` is that of NVRAM on etcd.  The result is None if a stop signal ended the wait for its ownership.
    Raises the errors of `State` and of `assemble`.
    """
    with ExitStack() as undo:
        state = State(folder, nvram_on_etcd=place is not None)
        undo.callback(state.close)
        undo.push(lambda kind, *_: state.discard() if kind and issubclass(kind, SwpksError) else None)
        etcd = _owned(state, place, standby=standby)
        if etcd is not None:
            undo.callback(etcd.close)
        elif place is not None:
            return None
        clock = AwakeClock(time.monotonic)
        seams = state.seams(clock.now, settings.tpm, etcd)
        undo.callback(seams.nvram.close)
        machine = assemble(seams, settings, accept_older=accept_older, standby=standby)
        traces = machine.traces = SystemTraces(machine.sessions, folder.absolute(), settings, seams.date)
        traces.begin_all()
        machine.snapshots = snapshots_of(machine, folder.absolute())
        undo.pop_all()
    log_access(machine.access)
    return OpenedParts(machine, seams, state, clock, traces)


def _owned(state: State, place: EtcdPlace | None, *, standby: bool) -> EtcdNvram | None:
    """Return NVRAM on etcd, owned; None if a stop signal came first, or if NVRAM is in the folder."""
    if place is None:
        return None
    from hcall_server.service.standing_by import owned_nvram

    return owned_nvram(state, place, standby=standby)


def log_access(access: AccessAccount) -> None:
    """Log the steps of this start's access to the keystores, and parts without a good copy of the key."""
    for step in access.steps:
        _log.info("root_key.step", step=step.number, finding=step.text)
    for part in access.parts:
        if not part.ok:
            _log.warning("part.unwell", part=part.name, copy=part.copy, reason=part.detail)
