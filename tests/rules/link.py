"""Rules about the console that a system is connected to, and about its stream of events."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

from hcall_abi.bounds import MAX_STREAMS
from hcall_abi.faults import NvramFault
from hcall_abi.rules.rule import Rule
from hcall_server.machine.machine import Machine
from hcall_server.sealing import SYSTEM_OWNER, SealedKind
from hcall_server.sealing.console_record import open_console
from tests.control_channel.rig import in_process, make_machine
from tests.control_channel.streams import CONSOLE, ID, OTHER
from tests.rules.breaking import Break, Breaks, refused, row_of, run
from tests.sealing.samples import SEALER

COPY = {"uuid": str(UUID(int=1)), "restores": 0, "generation": 0, "time": 0}


async def _answered(machine: Machine, method: str, path: str, body: Any, status: int = 409) -> Rule:
    async with in_process(machine) as client:
        answer = await client.request(method, path, json=body)
    assert answer.status_code == status
    return row_of(answer.json())


async def _attached() -> Machine:
    machine = make_machine()
    machine.system.create("a", 8)
    await machine.attachment.attach(bytes.fromhex(ID), "hmc1")
    return machine


async def _another_console() -> Rule:
    machine = await _attached()
    with machine.attachment.stream(ID):
        return await _answered(machine, "PUT", "/v1/console", OTHER)


async def _detached_by_another() -> Rule:
    return await _answered(await _attached(), "POST", "/v1/console/detach", OTHER)


async def _foreign_copy() -> Rule:
    return await _answered(await _attached(), "PUT", "/v1/partitions/a/copy", COPY)


async def _not_stored() -> Rule:
    machine = make_machine()
    machine.set_nvram_fault(NvramFault("full"))
    return await _answered(machine, "PUT", "/v1/console", CONSOLE, 503)


async def _too_many() -> Rule:
    machine = make_machine()
    with ExitStack() as streams:
        for _ in range(MAX_STREAMS - 1):
            streams.enter_context(machine.events.opened(is_console=False))
        return await _answered(machine, "GET", "/v1/events", None)


def _unreadable(_: Path) -> Rule:
    blob = SEALER.seal(SealedKind.CONSOLE, SYSTEM_OWNER, 0, b"\0\0" + bytes(35))
    return refused(open_console, SEALER, blob)


def _late(function: Any) -> Break:
    return lambda _: run(function)


BREAKS: Breaks = {
    "console.attached": _late(_another_console),
    "console.known": _late(_detached_by_another),
    "console.copy": _late(_foreign_copy),
    "console.stored": _late(_not_stored),
    "events.streams": _late(_too_many),
    "console.layout": _unreadable,
}
