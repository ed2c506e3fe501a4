"""The end of the ownership of NVRAM in a machine, on a virtual clock."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from hcall_abi.faults import NvramFault
from hcall_abi.statuses import Status
from hcall_client.calls import (
    Authorization,
    confirm_object_flushed,
    get_config,
    read_object,
    remove_object,
    write_object,
)
from hcall_client.errors import HcallError, SessionEnded
from hcall_client.request import Request
from hcall_server.control_channel.views import health_view
from hcall_server.machine.ownership import BUSY_SECONDS, leave_after
from hcall_server.service.draining import drain
from tests.faults.simulation import Life, Simulation

OS = Authorization(3)
CALLS: tuple[Request[Any], ...] = (
    get_config(),
    read_object(OS, b"x", 100),
    write_object(OS, b"y", b"new"),
    confirm_object_flushed(OS, b"x"),
    remove_object(OS, b"x"),
)


class Granted:
    """An ownership that a test ends."""

    over = False


async def lived(body: object, owner: Granted) -> None:
    """Run `body` in a system whose NVRAM has this owner."""
    simulation = Simulation(Random(1), ("a",), 8)
    simulation.nvram.ownership = owner  # type: ignore[assignment]
    await simulation.live(0.05, body)  # type: ignore[arg-type]


async def test_each_call_is_busy_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """R-85: after the ownership nothing is read, changed or confirmed, also what was durable before."""
    owner = Granted()

    async def body(life: Life) -> None:
        async with life.session("a") as session:
            await session.pipeline([write_object(OS, b"x", b"old")])
            await life.encryptor.flush()
            owner.over = True
            answers = await session.pipeline(CALLS)
        assert all(isinstance(each, HcallError) for each in answers)
        assert {each.status for each in answers} == {Status.H_BUSY}
        keystore = life.system.find("a").keystore
        assert keystore is not None
        assert not keystore.contents.dirty
        assert life.machine.counters.calls[1][CALLS[1].opcode, Status.H_BUSY] == 1

    await lived(body, owner)


async def test_health_is_red_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """R-85: health names the reason before any commit has failed."""
    owner = Granted()

    async def body(life: Life) -> None:
        assert health_view(life.machine).ok
        owner.over = True
        (reason,) = health_view(life.machine).reasons
        assert "another server may own this system" in reason

    await lived(body, owner)


async def test_the_partitions_leave_service_after_a_time(autojump_clock: trio.testing.MockClock) -> None:
    """R-85: busy answers first, then GOODBYE and no socket; a held CONFIRM does not stop that."""
    owner = Granted()

    async def body(life: Life) -> None:
        life.nursery.start_soon(leave_after, life.machine, owner)
        await trio.sleep(100)
        assert life.system.find("a").running
        async with life.session("a") as session:
            owner.over = True
            await trio.sleep(BUSY_SECONDS - 1)
            (answer,) = await session.pipeline(CALLS[:1])
            assert answer.status is Status.H_BUSY
            await trio.sleep(2)
            with pytest.raises(SessionEnded, match="another server may own this system"):
                await session.pipeline([get_config()])
        assert not life.system.find("a").running
        assert not len(life.machine.sessions)

    await lived(body, owner)


@pytest.mark.parametrize("later", [0.0, 1.0])
async def test_a_stop_does_not_wait_for_flushes(autojump_clock: trio.testing.MockClock, later: float) -> None:
    """R-85: no flush of a former owner can succeed, so its stop repeats none."""
    owner = Granted()

    async def end() -> None:
        await trio.sleep(later)
        owner.over = True

    async def body(life: Life) -> None:
        async with life.session("a") as session:
            await session.pipeline([write_object(OS, b"x", b"old")])
        life.machine.set_nvram_fault(NvramFault("io", times=None))
        if later:
            life.nursery.start_soon(end)
        else:
            owner.over = True
        before = trio.current_time()
        with trio.fail_after(later + 10):
            await drain(life.encryptor, owner)
        assert trio.current_time() <= before + later + 1
        assert life.encryptor.pending

    await lived(body, owner)
