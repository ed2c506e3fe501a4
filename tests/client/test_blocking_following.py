"""The tests of test_following.py for the channel over plain sockets, in its own thread (R-55)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from hcall_abi.calls import Opcode
from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_abi.structures import Config
from hcall_client.blocking_following import FollowingBlockingChannel
from hcall_client.calls import Authorization, HcallError, raw_call, read_object, write_object
from hcall_client.errors import NotReached, OpenRefused, SessionEnded
from hcall_server.platform.custody import Custody
from tests.client.moving import System

T = TypeVar("T")
OS = Authorization(3)


def write(n: int):
    """Return a WRITE with its own label."""
    return write_object(OS, b"%d" % n, bytes(50))


class Client:
    """A system, and a client in a thread."""

    def __init__(self, folder: Path) -> None:
        self.system = System("sockets", folder)

    def channel(self, move_patience: float = 10.0, timeout: float = 10.0) -> FollowingBlockingChannel:
        """Return the channel. Only one thread uses it."""
        return FollowingBlockingChannel(self.system.locate, timeout=timeout, move_patience=move_patience)  # type: ignore[arg-type]

    async def runs(self, client: Callable[[], T], meanwhile: Callable[[], object] = lambda: None) -> T:
        """Run a client to its end. When the client's first call has arrived, run `meanwhile`."""
        found: list[T] = []

        async def run() -> None:
            found.append(await trio.to_thread.run_sync(client))

        async with self.system.running(), trio.open_nursery() as nursery:
            before = self.system.machine.counters.bytes_received
            nursery.start_soon(run)
            while not found and self.system.machine.counters.bytes_received < before + 200:
                await trio.lowlevel.checkpoint()
            meanwhile()
        return found[0]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A client of a system."""
    return Client(tmp_path)


async def test_each_call_runs_exactly_once(client: Client) -> None:
    """R-55: Each call runs exactly once, although the partition moves between calls and during a pipeline."""
    system = client.system

    def work() -> tuple[int, str]:
        with client.channel() as channel:
            assert channel.pipeline(write(n) for n in range(200)) == [None] * 200
            trio.from_thread.run_sync(system.move)
            assert len(channel.call(read_object(OS, b"199")).data) == 50
            (refused,) = channel.pipeline([write(199)])
            assert isinstance(refused, HcallError)
            assert isinstance(channel.limits(), Config)
            assert (channel.partition, channel.ipl_count, channel.level) == (1, 1, "FW1110")
            assert channel.ended is None
            return channel.moves, repr(channel)

    moves, shown = await client.runs(work, system.move)
    assert system.ran()[0] == 200
    assert system.ran(Opcode.READ_OBJECT) == {0: 1}
    assert moves in (1, 2)
    assert shown.startswith(f"FollowingBlockingChannel({moves} moves, ")


async def test_every_other_end_is_raised(client: Client) -> None:
    """After an IPL the channel repeats no call, and the error says that the outcome is unknown."""
    system = client.system

    def work() -> SessionEnded:
        with client.channel() as channel:
            trio.from_thread.run_sync(system.machine.holds.begin, system.lpar1)
            with pytest.raises(SessionEnded) as ended:
                channel.pipeline([write(1)] * 10)
            assert channel.ended
            with pytest.raises(SessionEnded):
                channel.call(write(2))
            return ended.value

    def end() -> None:
        system.machine.sessions.end_partition(1, GoodbyeReason.IPL_OR_POWER_OFF, "")

    ended = await client.runs(work, end)
    assert (ended.reason, ended.unknown) == (GoodbyeReason.IPL_OR_POWER_OFF, True)
    assert system.ran() == {}


async def test_a_way_without_an_end_is_told(client: Client) -> None:
    """If the partition is not found again, the error says that the calls have not run. The channel ends."""
    system = client.system

    def leave() -> None:
        system.move()
        system.machine.power_off("lpar1")

    def work() -> SessionEnded:
        with client.channel(move_patience=0) as channel:
            trio.from_thread.run_sync(leave)
            with pytest.raises(SessionEnded, match="not found again") as lost:
                channel.call(write(1))
            assert channel.ended is lost.value
            with pytest.raises(SessionEnded):
                channel.call(write(1))
            return lost.value

    lost = await client.runs(work)
    assert (lost.reason, lost.unknown) == (GoodbyeReason.MIGRATED, False)


async def test_the_first_opening_and_a_lying_answer(client: Client) -> None:
    """At the timeout, opening raises the last refusal. An unknown h-call returns an error status."""
    system = client.system

    def work() -> None:
        trio.from_thread.run_sync(system.lpar1.set_custody, Custody.FROZEN, 1, b"")
        with pytest.raises(OpenRefused, match=r"NOT_ACTIVATED \(at .*(lpar1.sock|socket)\)") as refused:
            client.channel(timeout=0.1)
        assert refused.value.status == OpenStatus.NOT_ACTIVATED
        assert system.asked > 2
        with pytest.raises(NotReached, match=r"\(at /none\)"):
            FollowingBlockingChannel(lambda: "/none", timeout=0.1)
        trio.from_thread.run_sync(system.lpar1.set_custody, Custody.OWN, 1, b"")
        with client.channel() as channel:
            assert channel.call(raw_call(0x9999)).status < 0

    await client.runs(work)
