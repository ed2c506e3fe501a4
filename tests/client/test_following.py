"""A channel that follows its partition: after GOODBYE 3 each call without an answer runs exactly once (R-55).

The server is the real one, over memory streams and over real sockets.  A WRITE that ran twice would be
refused, because its label is taken.  The server counts each call that ran.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.calls import Opcode
from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization, read_object, set_password, write_object
from hcall_client.channel import Target
from hcall_client.errors import NotReached, OpenRefused, ServerNotProven, SessionEnded
from hcall_client.following import FollowingChannel, locate_at_async, open_following
from hcall_client.patience import FIRST_PATIENCE
from hcall_client.unix import connect_unix
from hcall_client.where import NotLocated, locate_at, parse_address
from hcall_server.data_channel.listeners import Listeners
from hcall_server.platform.custody import Custody
from tests.client.moving import System, where_socket

OS = Authorization(3)


@pytest.fixture(params=["sockets", "memory"])
async def system(
    nursery: trio.Nursery, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[System]:
    """A running system."""
    made = System(request.param, tmp_path)
    await nursery.start(made.machine.run)
    made.machine.start()
    yield made
    if isinstance(made.transport, Listeners):
        made.transport.close_all()


def write(n: int, size: int = 50):
    """Return a WRITE with its own label."""
    return write_object(OS, b"%d" % n, bytes(size))


@pytest.mark.parametrize("moment", [0, 1, 2, 3, 5, 8, 30])
async def test_a_pipeline_over_moves_runs_exactly_once(system: System, moment: int) -> None:
    """R-55: each call runs once and in order, at whatever point the moves come."""
    async with open_following(system.locate) as channel, trio.open_nursery() as nursery:

        async def move() -> None:
            for _ in range(3):
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                system.move()

        nursery.start_soon(move)
        assert await channel.pipeline(write(n) for n in range(200)) == [None] * 200
        assert len((await channel.call(read_object(OS, b"199"))).data) == 50
    assert system.ran() == {0: 200}
    assert channel.moves <= 3


async def test_calls_of_many_tasks_over_moves(system: System) -> None:
    """R-55: each caller gets its own answers, in the order of its calls."""
    async with open_following(system.locate) as channel, trio.open_nursery() as nursery:

        async def caller(first: int) -> None:
            for n in range(first, first + 10):
                await channel.call(write(n))
                assert len((await channel.call(read_object(OS, b"%d" % n))).data) == 50

        for first in range(0, 100, 10):
            nursery.start_soon(caller, first)
        for _ in range(5):
            await wait_a_little()
            system.move()
    assert system.ran() == {0: 100}
    assert system.ran(Opcode.READ_OBJECT) == {0: 100}


async def wait_a_little() -> None:
    """Let all tasks run a few times."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


async def test_held_calls_run_at_the_new_place(system: System) -> None:
    """R-51: Calls that wait while the partition is held run at its new place.

    A password that was set stays valid.
    """
    async with open_following(system.locate) as channel, trio.open_nursery() as nursery:
        await channel.call(set_password(3, b"secret"))
        system.machine.holds.begin(system.lpar1)
        nursery.start_soon(channel.call, write_object(Authorization(3, b"secret"), b"a", b"data"))
        await wait_a_little()
        assert system.ran() == {}
        assert channel.moves == 0
        system.machine.holds.leave(system.lpar1)
    assert system.ran() == {0: 1}
    assert (channel.moves, system.asked) == (1, 2)


async def test_the_way_may_take_a_while(system: System, autojump_clock: MockClock) -> None:
    """The channel tries again after a missing server, status 3 and status 1. Each attempt calls `locate`."""
    async with open_following(system.locate) as channel, trio.open_nursery() as nursery:
        assert channel.partition == 1
        before = await channel.limits()
        nursery.start_soon(channel.wait_ended)
        system.move()
        # A powered-off partition closes its socket. Over memory streams OPEN returns status 3.
        system.machine.power_off("lpar1")
        nursery.start_soon(channel.call, write(1))
        await trio.sleep(5)
        custody = system.lpar1.profile.custody
        system.machine.power_on("lpar1")
        # OPEN now returns status 1.
        system.lpar1.set_custody(Custody.RELEASED, 1, b"")
        await trio.sleep(5)
        # OPEN now returns status 3.
        system.lpar1.set_custody(Custody.PREPARED, 1, b"")
        await trio.sleep(5)
        assert channel.moves == 0
        assert system.ran() == {}
        system.lpar1.set_custody(custody, 1, b"")
        await trio.sleep(5)
        assert channel.moves == 1
        assert (await channel.limits()).used_space > before.used_space
        nursery.cancel_scope.cancel()
    assert system.ran() == {0: 1}
    assert system.asked > 10


async def test_a_way_without_an_end_is_told(system: System, autojump_clock: MockClock) -> None:
    """After `move_patience` seconds, the error says that the partition is lost and the calls have not run."""
    async with open_following(system.locate, move_patience=3) as channel:
        system.move()
        system.machine.power_off("lpar1")
        with pytest.raises(SessionEnded, match=r"has migrated.*not found again") as lost:
            await channel.call(write(1))
        assert (lost.value.reason, lost.value.unknown) == (GoodbyeReason.MIGRATED, False)
        assert await channel.wait_ended() is channel.ended is lost.value
        with pytest.raises(SessionEnded):
            await channel.pipeline([write(2)])
    assert system.ran() == {}


async def test_every_other_end_is_raised(system: System) -> None:
    """After an IPL the channel repeats no call: the caller gets the error, and the channel ends."""
    async with open_following(system.locate) as channel, trio.open_nursery() as nursery:
        await channel.call(write(1))
        system.machine.holds.begin(system.lpar1)

        async def caller() -> None:
            with pytest.raises(SessionEnded) as ended:
                await channel.call(write(2))
            assert (ended.value.reason, ended.value.unknown) == (GoodbyeReason.IPL_OR_POWER_OFF, True)
            assert "it is not known whether H_PKS_WRITE_OBJECT has run" in str(ended.value)

        nursery.start_soon(caller)
        await wait_a_little()
        system.machine.sessions.end_partition(1, GoodbyeReason.IPL_OR_POWER_OFF, "")
        system.machine.holds.end(system.lpar1)
        await channel.wait_ended()
    assert system.ran() == {0: 1}
    assert (channel.moves, system.asked) == (0, 1)
    assert repr(channel) == "FollowingChannel(0 moves, over)"


@pytest.mark.parametrize("patience, seconds", [(None, FIRST_PATIENCE), (60, FIRST_PATIENCE), (2, 2)])
async def test_the_first_opening_looks_for_its_partition_for_a_while(
    system: System, autojump_clock: MockClock, patience: float | None, seconds: float
) -> None:
    """If no system serves the partition, opening fails after a few seconds.

    The error has the address or the reason.
    """
    system.lpar1.set_custody(Custody.FROZEN, 1, b"")
    begin = trio.current_time()
    with pytest.raises(OpenRefused, match=r"NOT_ACTIVATED \(at .*(lpar1.sock|Stream)\)") as refused:
        async with open_following(system.locate, patience=patience):
            pytest.fail("the channel opened")
    assert refused.value.status == OpenStatus.NOT_ACTIVATED
    assert seconds - 1 < trio.current_time() - begin <= seconds

    def nowhere() -> Target:
        raise NotLocated("lpar1 is nowhere")

    with pytest.raises(NotReached, match=r"lpar1 is nowhere.*operator fault; rule open\.place"):
        async with open_following(nowhere, patience=patience):
            pytest.fail("the channel opened")
    with pytest.raises(NotReached, match=r"no socket is there \(at /none/lpar1.sock\)"):
        async with open_following(lambda: "/none/lpar1.sock", patience=patience):
            pytest.fail("the channel opened")


async def test_the_first_opening_finds_a_partition_on_its_way(
    system: System, autojump_clock: MockClock, tmp_path: Path
) -> None:
    """R-55: While the partition moves, opening is tried again.

    The address may be unknown, or no server may listen there. A server may close the connection, or may not
    serve the partition yet.
    """
    troubles: list[Target | Exception] = [
        FileNotFoundError(2, "none"),
        NotLocated("between"),
        ConnectionRefusedError(111, "refused"),
        ConnectionResetError(104, "reset"),
        tmp_path / "none.sock",
    ]

    def locate() -> Target:
        found = troubles.pop(0) if troubles else system.locate()
        if isinstance(found, Exception):
            raise found
        return found

    custody = system.lpar1.profile.custody
    system.lpar1.set_custody(Custody.RELEASED, 1, b"")  # OPEN now returns status 1.

    async def arrive() -> None:
        await trio.sleep(1)
        # OPEN now returns status 3.
        system.lpar1.set_custody(Custody.PREPARED, 1, b"")
        await trio.sleep(1)
        system.lpar1.set_custody(custody, 1, b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrive)
        async with open_following(locate) as channel:
            await channel.call(write(1))
    assert system.asked > 3


async def test_a_wrong_key_is_told_at_once(system: System) -> None:
    """After the answer "wrong key" the channel does not try again, because no move makes a key right."""
    with pytest.raises((OpenRefused, ServerNotProven)):
        async with open_following(system.locate, access_key=bytes(32)):
            pytest.fail("the channel opened")
    assert system.asked == 1


async def test_a_cancelled_call_is_not_repeated(system: System) -> None:
    """A cancelled call may have run before the move, so it does not run again at the new place."""
    async with open_following(system.locate) as channel:
        system.machine.holds.begin(system.lpar1)
        async with trio.open_nursery() as callers:
            callers.start_soon(channel.call, write(1))
            callers.start_soon(channel.pipeline, [write(2), write(3)])
            await wait_a_little()
            callers.cancel_scope.cancel()
        system.machine.holds.leave(system.lpar1)
        await channel.call(write(4))
    assert system.ran() == {0: 1}


async def test_what_the_block_raises_comes_out_as_it_is(system: System) -> None:
    """An error of the block comes out in no group, also while the channel looks for its partition."""

    async def block() -> None:
        async with open_following(system.locate):
            system.move()
            system.machine.power_off("lpar1")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await block()


# The console's where socket


async def test_the_console_tells_where(tmp_path: Path) -> None:
    """The channel asks the where socket before each session."""
    system = System("sockets", tmp_path)
    sent: list[str] = []

    def reply(name: str) -> str:
        sent.append(name)
        return f"unix:{system.locate()}\n"

    path = tmp_path / "where.sock"
    with where_socket(path, reply):
        async with system.running(), open_following(locate_at_async(path, "lpar1")) as channel:
            await channel.call(write(1))
            system.move()
            await channel.call(write(2))
            assert isinstance(channel, FollowingChannel)
    assert sent == ["lpar1", "lpar1"]
    assert system.ran() == {0: 2}


def test_an_address_or_a_reason(tmp_path: Path) -> None:
    """Every answer without an address raises an error with the console's own text."""
    assert parse_address("unix:/srv/a:1/lpar1.sock") == "/srv/a:1/lpar1.sock"
    assert parse_address("tcp:host.example:9040") == ("host.example", 9040)
    assert parse_address("tcp:[::1]:9040") == ("::1", 9040)
    for text in (
        "",
        "error: lpar1 is not known",
        "unix:",
        "tcp:host",
        "tcp::1",
        "/path",
        "lpar1 is not known",
    ):
        with pytest.raises(NotLocated, match=r"lpar1 is not known|^unix:$|^tcp:|/path|has not answered"):
            parse_address(text)
    for name, sent, reason in (
        ("where", "error: lpar1 is not served\nmore", "^lpar1 is not served$"),
        ("cut", "unix:/cut", "has not answered"),
    ):
        path = tmp_path / f"{name}.sock"
        with where_socket(path, lambda _, sent=sent: sent), pytest.raises(NotLocated, match=reason):  # type: ignore[misc]
            locate_at(path, "lpar1")()
    with pytest.raises(FileNotFoundError, match=r"none\.sock"):
        locate_at(tmp_path / "none.sock", "lpar1")()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        with pytest.raises(TimeoutError, match=r"the console does not answer.*silent\.sock"):
            locate_at(tmp_path / "silent.sock", "lpar1", seconds=0.01)()


def test_an_error_of_a_socket_names_its_path(tmp_path: Path) -> None:
    """Python's own error leaves the path out, so the client adds it."""
    for name in ("none.sock", "long" * 20):
        with pytest.raises(OSError, match=name):
            connect_unix(tmp_path / name)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """The error of a very long path has its length, the limit and the remedy, and is short itself."""
    path = tmp_path / ("deep/" * 200) / "where.sock"
    for ask in (locate_at(path, "lpar1"), lambda: BlockingChannel.connect(path)):
        with pytest.raises(OSError, match=r"path has \d+ bytes, and .* socket .*107 at most") as caught:
            ask()
        assert caught.value.errno == errno.ENAMETOOLONG
        assert "use a shorter folder, or a symbolic link" in str(caught.value)
        assert len(str(caught.value)) < 600
