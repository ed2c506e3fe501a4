"""A full store of etcd, as a machine and its operator see it."""

from __future__ import annotations

from random import Random

import trio
import trio.testing

from hcall_client.calls import Authorization, Confirmation, confirm_object_flushed, write_object
from hcall_client.channel import Channel
from hcall_server.control_channel.views import health_view
from tests.faults.simulation import Direct, Life, Simulation
from tests.nvram.backends import EtcdBackend

OS = Authorization(3)


async def flushed(session: Channel | Direct) -> bool:
    """Return whether the object is confirmed."""
    found: list[Confirmation] = await session.pipeline([confirm_object_flushed(OS, b"x")])  # type: ignore[assignment]
    return found[0].flushed


async def test_a_full_store_is_red_with_its_cure(autojump_clock: trio.testing.MockClock) -> None:
    """R-85, R-23: NOSPACE confirms nothing, health has the cure, and after the cure everything is stored."""
    backend = EtcdBackend()
    model = backend.lab.model

    async def body(life: Life) -> None:
        await life.encryptor.flush()
        assert health_view(life.machine).ok
        model.alarm = True
        async with life.session("a") as session:
            await session.pipeline([write_object(OS, b"x", b"data")])
            await trio.sleep(1)
            assert not await flushed(session)
            (reason,) = health_view(life.machine).reasons
            assert "etcdctl alarm disarm" in reason
            model.alarm = False
            await trio.sleep(10)
            assert await flushed(session)
        assert health_view(life.machine).ok

    await Simulation(Random(1), ("a",), 8, backend=backend).live(0.05, body)
