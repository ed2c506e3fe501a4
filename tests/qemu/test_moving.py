"""A guest whose partition moves to another system: its calls take longer, and none is lost (R-55)."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked

from hcall_abi.calls import Opcode
from hcall_client.calls import raw_call
from hcall_client.channel import Target
from swpks.qemu.console import PatientConsole
from swpks.qemu.partition import partition_of
from tests.client.moving import System

CALL = raw_call(Opcode.GET_CONFIG)


async def test_a_call_in_flight_goes_on_at_the_new_place(tmp_path: Path) -> None:
    """A call that waits during the move is executed once the partition is served again."""
    system = System("sockets", tmp_path)
    console = PatientConsole(tmp_path / "control.sock", "lpar1")

    async def locate() -> Target:
        await trio.lowlevel.checkpoint()
        return system.locate()

    async with system.running(), partition_of(locate, console) as partition, trio.open_nursery() as guests:
        before = (await partition.call(CALL)).status
        system.machine.holds.begin(system.lpar1)
        guests.start_soon(partition.call, CALL)
        await wait_all_tasks_blocked()
        assert system.ran(Opcode.GET_CONFIG) == {before: 1}
        system.machine.holds.leave(system.lpar1)
    assert system.ran(Opcode.GET_CONFIG) == {before: 2}
    assert system.asked == 2
    assert repr(console) == f"PatientConsole({tmp_path / 'run' / 'control.sock'}, 'lpar1')"
