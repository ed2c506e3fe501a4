"""Carries out verbs of the control channel on the folder of a system that is powered off.

The system is assembled as at a start, and no partition is activated.  So there is one code for both cases: a
snapshot of a stopped system is that of a running one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.rules import service as rules
from hcall_server.control_channel.performing import Answer, Call, Reply
from hcall_server.control_channel.snapshot_verbs import SNAPSHOTS
from hcall_server.machine.awake import AwakeClock
from hcall_server.machine.machine import Machine
from hcall_server.service.assembly import assemble
from hcall_server.service.layout import demand_one_nvram
from hcall_server.service.locked import LockedState
from hcall_server.service.settings import Settings
from hcall_server.service.snapshot_places import snapshots_of
from hcall_server.service.state import State

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.nvram import EtcdNvram
    from hcall_server.nvram.etcd.place import EtcdPlace


def perform_offline(folder: Path, operation: str, body: Any, place: EtcdPlace | None = None) -> Any:
    """Return the answer of a verb about snapshots, on the folder of a powered-off system.

    Its NVRAM is on etcd at `place`, or in the folder.  OperatorError if the folder is no state, if a server
    uses it or owns its NVRAM, or if NVRAM is in the other place.  StorageError if the stored system can't be
    opened, or if its last commit fails.  Nothing is left running.
    """
    # `LockedState` makes nothing: a wrong path must not become a new system.
    with LockedState(folder) as locked:
        demand_one_nvram(locked.folder, on_etcd=place is not None, start=False)
    with ExitStack() as undo:
        state = State(folder, nvram_on_etcd=place is not None)
        undo.callback(state.close)
        etcd = None
        if place is not None:
            etcd = _owned(state, place)
            undo.callback(etcd.close)
        clock = AwakeClock(time.monotonic)
        seams = state.seams(clock.now, (), etcd)
        undo.callback(seams.nvram.close)
        undo.callback(seams.worker.close)
        machine = assemble(seams, Settings())
        machine.snapshots = snapshots_of(machine, folder.absolute())
        call = Call(machine, "", body)
        return trio.run(_performed, machine, SNAPSHOTS[operation].perform, call, clock=clock)


def _owned(state: State, place: EtcdPlace) -> EtcdNvram:
    """Return NVRAM on etcd that this process owns, with the mark in the folder."""
    from hcall_server.service.standing_by import nvram_of_command  # few systems have NVRAM on etcd

    nvram = nvram_of_command(place)
    try:
        nvram.mark = state.etcd_mark()
    except BaseException:
        nvram.close()
        raise
    return nvram


async def _performed(
    machine: Machine, perform: Callable[[Call], Answer | Awaitable[Answer]], call: Call
) -> Any:
    """Perform a verb, and make its changes durable."""
    # A nursery would wrap the error of a refusal into a group, so the error leaves it as a value.
    failure: SwpksError | None = None
    found: Any = None
    async with trio.open_nursery() as nursery:
        await nursery.start(machine.encryptor.run)
        try:
            answer = perform(call)
            found = await answer if isinstance(answer, Awaitable) else answer
        except SwpksError as error:
            failure = error
        durable = await machine.encryptor.flush()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not durable:
        reason = machine.encryptor.health.last_error or "NVRAM did not answer"
        raise StorageError(rules.STOP_FLUSHED, f"not everything was stored: {reason}")
    return found.body if isinstance(found, Reply) else found
