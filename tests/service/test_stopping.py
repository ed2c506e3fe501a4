"""The whole server in the test's process: starts and stops while NVRAM fails."""

import dataclasses
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from hcall_abi.errors import OperatorError
from hcall_abi.faults import NvramFault
from hcall_client.channel import open_channel
from hcall_client.errors import SessionEnded
from hcall_server.machine import logs
from hcall_server.machine.limits import Limits
from hcall_server.service import server
from hcall_server.service.assembly import assemble
from hcall_server.service.server import Server
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import State
from hcall_server.writeback.worker import ThreadWorker
from tests.cluster.test_loss import Granted
from tests.data_channel.support import read, write

HURRIES = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
STOPS_ONLY = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPWR, signal.SIGXCPU)
"""Signals that stop a server (spec/service.md#stopping); those of `HURRIES` hurry a stop as well."""
SETTINGS = Settings(partition=(PartitionSettings.of("alpha", 64),), limits=Limits(drain_seconds=0.3))


class Whole:
    """A server on a state folder; a test can let its NVRAM fail."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.state = State(folder)
        self.seams = self.state.seams()
        self.machine = assemble(self.seams, dataclasses.replace(SETTINGS, flush_delay_ms=1))
        self.nvram = self.machine.nvram
        self.encryptor = self.machine.encryptor
        self.settings = SETTINGS
        self.server: Server | None = None
        self.nursery = nursery
        self.done = trio.Event()
        self.failure: Exception | None = None

    async def start(self) -> dict[str, Any]:
        """Run the server; return its ready announcement."""
        self.server = made = Server(self.machine, self.state, self.settings)
        sender, receiver = trio.open_memory_channel[dict[str, Any]](1)

        async def run() -> None:
            try:
                await made.serve(sender.send_nowait)
            except OperatorError as error:
                self.failure = error
            self.done.set()

        self.nursery.start_soon(run)
        return await receiver.receive()

    @property
    def flushed(self) -> bool:
        return self.server is not None and self.server.flushed

    def close(self) -> None:
        worker = self.seams.worker
        worker.close()
        assert isinstance(worker, ThreadWorker)
        # A job that was abandoned may still use NVRAM, so NVRAM is closed after the thread has ended.
        if worker._thread is not None:
            worker._thread.join()
        self.seams.nvram.close()
        self.state.close()


@pytest.fixture
def whole(tmp_path: Path, nursery: trio.Nursery) -> Iterator[Whole]:
    """A server that is not started yet."""
    made = Whole(tmp_path / "state", nursery)
    yield made
    made.close()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log output."""
    stream = io.StringIO()
    logs.configure(level="debug", style="json", stream=stream)
    yield stream
    logs.configure(level="warning")


def events(log: io.StringIO) -> list[str]:
    """Return the names of the logged events, in order."""
    return [json.loads(line)["event"] for line in log.getvalue().splitlines()]


def stop(number: int = signal.SIGTERM) -> None:
    """Send the signal of an operator."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [*HURRIES, *STOPS_ONLY], ids=lambda each: each.name)
async def test_a_stop_flushes_what_is_dirty(whole: Whole, log: io.StringIO, number: int) -> None:
    """R-20: At a stop all changes become durable, sessions get GOODBYE 4, and the log has each step."""
    ready = await whole.start()
    async with open_channel(ready["sockets"]["alpha"]) as channel:
        await channel.call(write(b"a"))
        stop(number)
        await whole.done.wait()
        with pytest.raises(SessionEnded) as ended:
            await channel.call(read(b"a"))
    assert ended.value.reason == 4
    assert whole.flushed
    assert not whole.encryptor.pending
    logged = events(log)
    assert logged[:2] == ["partition.activated", "server.ready"]
    assert logged[-1] == "server.stopped"
    assert set(logged) >= {"session.opened", "server.stopping", "session.ended"}


@pytest.mark.parametrize("taken", [False, True])
async def test_a_stop_removes_the_console_socket_that_is_ours(whole: Whole, *, taken: bool) -> None:
    """A stop removes the sockets of console and partitions, but not a file in place of the console's."""
    ready = await whole.start()
    path = Path(ready["control"])
    assert path.is_socket()
    if taken:
        path.unlink()
        path.touch()
    stop()
    await whole.done.wait()
    assert list(path.parent.iterdir()) == ([path] if taken else [])


async def test_a_stop_says_when_nvram_refuses(whole: Whole, log: io.StringIO) -> None:
    """R-23: A stop with failing NVRAM tries the flush for a bounded time. The log reports the failure."""
    ready = await whole.start()
    await whole.encryptor.flush()
    whole.nvram.set_faults(NvramFault("full", times=None))
    async with open_channel(ready["sockets"]["alpha"]) as channel:
        await channel.call(write(b"a"))
        stop()
        await whole.done.wait()
    assert not whole.flushed
    assert whole.server is not None
    assert whole.server.trouble


async def test_a_stop_waits_for_a_stalled_nvram_no_longer_than_it_should(whole: Whole) -> None:
    """R-23: A commit that never returns does not keep the server from ending."""
    ready = await whole.start()
    await whole.encryptor.flush()
    whole.nvram.set_faults(NvramFault("stall", times=None))
    async with open_channel(ready["sockets"]["alpha"]) as channel:
        await channel.call(write(b"a"))
        stop()
        with trio.fail_after(20):
            await whole.done.wait()
    assert not whole.flushed
    whole.nvram.set_faults()


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU], ids=lambda each: each.name)
@pytest.mark.parametrize("second", HURRIES, ids=lambda each: each.name)
async def test_a_second_signal_stops_the_waiting(
    whole: Whole, log: io.StringIO, first: int, second: int
) -> None:
    """After a second signal the server does not wait for NVRAM.

    A terminal that closes sends the same signal twice.
    """
    whole.settings = dataclasses.replace(SETTINGS, limits=Limits(drain_seconds=600))
    ready = await whole.start()
    await whole.encryptor.flush()
    whole.nvram.set_faults(NvramFault("io", times=None))
    async with open_channel(ready["sockets"]["alpha"]) as channel:
        await channel.call(write(b"a"))
        stop(first)
        while "server.stopping" not in events(log):
            await trio.lowlevel.checkpoint()
        for number in (*STOPS_ONLY, second):
            stop(number)
        with trio.fail_after(20):
            await whole.done.wait()
    hurried = [line for line in log.getvalue().splitlines() if "server.stops_at_once" in line]
    assert [json.loads(line)["signal"] for line in hurried] == [signal.Signals(second).name]
    assert not whole.flushed


async def test_a_start_does_not_wait_for_a_stalled_nvram(
    whole: Whole, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-23: With stalled NVRAM the server is ready without the partition.

    The partition starts later (R-21).
    """
    monkeypatch.setattr(server, "ANNOUNCE_PATIENCE", 0.05)
    whole.nvram.set_faults(NvramFault("stall", times=None))
    ready = await whole.start()
    assert (ready["sockets"], ready["running"], ready["partitions"]) == ({}, [], ["alpha"])
    assert [(each.name, each.running) for each in whole.machine.waiting] == [("alpha", False)]
    whole.nvram.set_faults()
    with trio.fail_after(20):
        await whole.encryptor.durable(whole.machine.system.find("alpha"))
        await trio.testing.wait_all_tasks_blocked()
    async with open_channel(whole.state.run_folder / "alpha.sock") as channel:
        assert channel.ipl_count == 1
    stop()
    await whole.done.wait()
    assert whole.flushed
    assert {"partition.waiting", "partition.activated"} <= set(events(log))


async def test_the_machine_opens_and_closes_sockets(whole: Whole) -> None:
    """A partition's socket exists while the partition is powered on."""
    ready = await whole.start()
    path = Path(ready["sockets"]["alpha"])
    assert whole.server is not None
    machine = whole.machine
    machine.power_off("alpha")
    assert not path.exists()
    machine.power_on("alpha")
    async with open_channel(path) as channel:
        assert channel.ipl_count == 2
        machine.ipl("alpha")
        await channel.wait_ended()
    assert path.exists()
    stop()
    await whole.done.wait()
    assert not path.exists()


async def test_a_stop_after_the_ownership_of_nvram(whole: Whole) -> None:
    """R-85: a former owner stops without a wait, reports its changes as lost, and names the reason."""
    owner = Granted()
    whole.nvram.inner.ownership = owner  # type: ignore[misc]
    whole.settings = dataclasses.replace(SETTINGS, limits=Limits(drain_seconds=1000))
    ready = await whole.start()
    whole.nvram.set_faults(NvramFault("io", times=None))
    async with open_channel(ready["sockets"]["alpha"]) as channel:
        await channel.call(write(b"a"))
        owner.over = True
        stop()
        with trio.fail_after(20):
            await whole.done.wait()
    assert not whole.flushed
    assert whole.server is not None
    assert whole.server.trouble is not None
