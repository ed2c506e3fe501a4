"""The last flush of a server that stops, on a virtual clock, with slow NVRAM and guests that still write."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing

from hcall_abi.faults import NvramFault
from hcall_client.calls import (
    Authorization,
    confirm_object_flushed,
    remove_object,
    write_object,
)
from hcall_server.service.draining import drain
from tests.faults import writer
from tests.faults.simulation import Life, Simulation

OS = Authorization(3)


async def write_on(life: Life, gap: float) -> None:
    """Write and remove an object as a guest every `gap` seconds, forever."""
    async with life.session("a") as session:
        while True:
            await session.pipeline([write_object(OS, b"x", b"data"), remove_object(OS, b"x")])
            await trio.sleep(gap)


async def test_a_guest_that_goes_on_writing_does_not_hold_up_the_stop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """R-20: all changes from before the stop become durable, although a guest writes during each commit."""
    simulation = Simulation(Random(1), ("a",), 8)
    simulation.waits = (0.03,)

    async def body(life: Life) -> None:
        life.nursery.start_soon(write_on, life, 0.001)
        await trio.sleep(1)
        keystore = life.system.find("a").keystore
        assert keystore is not None
        generation = keystore.contents.generation
        with trio.fail_after(1):
            await drain(life.encryptor)
        assert keystore.contents.flushed >= generation
        assert keystore.contents.dirty

    await simulation.live(0.05, body)


async def test_trouble_is_tried_again_until_it_is_over(autojump_clock: trio.testing.MockClock) -> None:
    """R-23: the last flush repeats a failed commit until it succeeds. The caller limits the time."""
    simulation = Simulation(Random(1), ("a",), 8)

    async def body(life: Life) -> None:
        faulty = simulation.nvram.inner
        faulty.set_faults(NvramFault("full", times=None))
        async with life.session("a") as session:
            await session.pipeline([write_object(OS, b"x", b"data")])
        with trio.move_on_after(3) as limit:
            await drain(life.encryptor)
        assert limit.cancelled_caught
        assert life.encryptor.pending
        faulty.set_faults()
        with trio.fail_after(1):
            await drain(life.encryptor)
        assert not life.encryptor.pending

    await simulation.live(60, body)


async def soon_flushed(session: writer.Asynchronous, label: bytes) -> bool:
    """Return whether a label is flushed within a second; ask every 10 ms, as the kernel does."""
    for _ in range(100):
        (confirmation,) = await session.pipeline([confirm_object_flushed(OS, label)])
        if confirmation.flushed:
            return True
        await trio.sleep(0.01)
    return False


@pytest.mark.parametrize("delay", [0, 0.05, 60])
async def test_a_flush_from_outside_puts_nothing_to_sleep(
    autojump_clock: trio.testing.MockClock, delay: float
) -> None:
    """R-20: a CONFIRM is answered soon, also while another task flushes the same partition."""
    simulation = Simulation(Random(1), ("a",), 8)

    async def body(life: Life) -> None:
        async with life.session("a") as session:
            for n in range(200):
                await trio.sleep(simulation.chance.choice((0, 0.001, 0.04, 0.1)))
                label = b"%d" % n
                await session.pipeline([write_object(OS, label, b"data")])
                if n % 2:
                    life.nursery.start_soon(drain, life.encryptor)
                await trio.sleep(simulation.chance.choice((0, 0.001, 0.04)))
                assert await soon_flushed(session, label)
                await session.pipeline([remove_object(OS, label)])
                if n % 3:
                    await drain(life.encryptor)
                    await drain(life.encryptor)

    await simulation.live(delay, body)
