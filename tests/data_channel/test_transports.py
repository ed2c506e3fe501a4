"""The transport seam: sockets and memory streams give the same behaviour, in any order of use."""

import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hcall_abi.errors import OperatorError
from hcall_abi.frames import Hello
from hcall_server.data_channel.listeners import Listeners
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.data_channel.sockets import listen_unix
from hcall_server.machine.machine import Machine
from hcall_server.service.access_keys import AccessKeys
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.seams import simulated_seams
from tests.data_channel.support import Peer

SETTINGS = Settings(partition=(PartitionSettings.of("alpha", 8, auto_start=False),))


class Reached:
    """A machine with one partition, which one kind of transport makes reachable."""

    def __init__(self, kind: str, folder: Path) -> None:
        keys = folder.with_name(f"{folder.name}-keys")
        keys.mkdir(exist_ok=True)
        self.transport = Listeners(folder, AccessKeys(keys)) if kind == "sockets" else MemoryTransport()
        self.machine: Machine = assemble(simulated_seams(transport=self.transport), SETTINGS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the machine for a block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.machine.run)
            yield
            nursery.cancel_scope.cancel()

    async def greeted(self) -> bool:
        """Connect to the partition; return whether HELLO arrives."""
        if isinstance(self.transport, MemoryTransport):
            return isinstance(await Peer(self.transport.connect("alpha")).event(), Hello)
        stream = await trio.open_unix_socket(self.transport.path("alpha"))
        async with stream:
            return isinstance(await Peer(stream).event(), Hello)


@pytest.fixture(params=["sockets", "memory"])
async def reached(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reached]:
    """A machine that a kind of transport makes reachable."""
    made = Reached(request.param, tmp_path)
    yield made
    if isinstance(made.transport, Listeners):
        made.transport.close_all()


async def test_a_partition_that_is_activated_first_is_served_once_the_machine_runs(reached: Reached) -> None:
    """A partition may be activated before the machine runs: then it is served as soon as it runs."""
    reached.machine.power_on("alpha")
    async with reached.running():
        assert await reached.greeted()


async def test_power_may_go_and_come_without_a_pause(reached: Reached) -> None:
    """A partition may be powered off and on without a pause, before the task of its listener begins."""
    async with reached.running():
        reached.machine.power_on("alpha")
        reached.machine.power_off("alpha")
        reached.machine.power_on("alpha")
        assert await reached.greeted()


async def test_a_machine_that_has_ended_can_run_again(reached: Reached) -> None:
    """A machine whose run has ended can run again."""
    async with reached.running():
        reached.machine.power_on("alpha")
        assert await reached.greeted()
    reached.machine.power_off("alpha")
    reached.machine.power_on("alpha")
    async with reached.running():
        assert await reached.greeted()


async def test_listeners_that_were_closed_open_no_more(tmp_path: Path) -> None:
    """A power-on during the stop is refused and changes nothing."""
    reached = Reached("sockets", tmp_path)
    async with reached.running():
        reached.machine.power_on("alpha")
        assert isinstance(reached.transport, Listeners)
        reached.transport.close_all()
        reached.machine.power_off("alpha")
        with pytest.raises(OperatorError, match="the server stops"):
            reached.machine.power_on("alpha")
    assert not reached.machine.system.find("alpha").running
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [Listeners.close_all, lambda listeners: None], ids=["the end", "power-off"])
async def test_the_socket_of_another_server_stays(tmp_path: Path, stop: Callable[[Listeners], None]) -> None:
    """R-23: the state was moved away and a new server serves its place.

    The old server leaves that socket alone.
    """
    state = tmp_path / "state"
    state.mkdir()
    old, new = Reached("sockets", state), Reached("sockets", state)
    old.machine.power_on("alpha")
    state.rename(tmp_path / "elsewhere")
    state.mkdir()
    new.machine.power_on("alpha")
    assert isinstance(old.transport, Listeners)
    stop(old.transport)
    old.machine.power_off("alpha")
    async with new.running():
        assert await new.greeted()
    new.machine.power_off("alpha")
    assert list(state.iterdir()) == []


def test_a_partition_that_arrives_has_its_address(tmp_path: Path) -> None:
    """R-51: When a partition arrives, its new address exists before it is served."""
    folder, keys = tmp_path / "run", tmp_path / "keys"
    folder.mkdir()
    listeners = Listeners(folder, AccessKeys(keys))
    assert listeners.address("alpha") == f"unix:{folder}/alpha.sock"
    with listen_unix(tmp_path / "passed") as passed:
        listeners.reserve(passed, "beta")
        assert listeners.address("beta") == f"unix:{tmp_path}/passed"
        listeners.close_all()
        assert listeners.address("alpha") == ""


@pytest.mark.parametrize("begun_first", [True, False], ids=["before the run", "while it runs"])
async def test_a_passed_socket_waits_for_the_partitions(tmp_path: Path, *, begun_first: bool) -> None:
    """A connection at a passed socket waits until the start has activated the partitions."""
    reached = Reached("sockets", tmp_path)
    listeners = reached.transport
    assert isinstance(listeners, Listeners)
    listeners.adopt(listen_unix(tmp_path / "passed"), reached.machine.system.find("alpha"))
    if begun_first:
        listeners.begin()
    async with await trio.open_unix_socket(tmp_path / "passed") as stream, reached.running():
        if not begun_first:
            await wait_all_tasks_blocked()
            assert select.select([stream.socket.fileno()], [], [], 0)[0] == []
            listeners.begin()
        assert isinstance(await Peer(stream).event(), Hello)
    listeners.close_all()
