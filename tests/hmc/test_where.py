"""The where socket returns the address of a partition: its answers and its limits (R-51)."""

from __future__ import annotations

import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from hcall_abi.control_views import CustodyName, CustodyView, PartitionView, SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server.console.whereabouts import whereabouts
from hcall_server.data_channel.sockets import listen_unix
from swpks.hmc import where
from swpks.hmc.where import WhereServer, answer_to
from swpks.testing import ConsoleProcess, ServerProcess
from tests.console.facts import A, B, partition, system
from tests.hmc.plant import until
from tests.hmc.rig import run

HERE, THERE = "unix:/s1/a.sock", "tcp:[::1]:4711"


class Seen(NamedTuple):
    """A system, with the last view of it that the console has."""

    name: str
    view: SystemView | None
    type_model_serial: str = "9105-22A*0123ABC"


def seen(name: str, *partitions: PartitionView, custody: tuple[CustodyView, ...] = ()) -> Seen:
    return Seen(name, system(*partitions, custody=list(custody)))


def facts(uuid: str, custody: CustodyName, epoch: int, name: str = "a") -> CustodyView:
    return CustodyView(
        uuid=uuid, name=name, custody=custody, mode="settled", epoch=epoch, generation=1, peer_id=""
    )


def refused(systems: list[Seen], asked: str) -> str:
    with pytest.raises(OperatorError) as caught:
        whereabouts(systems, asked)
    assert caught.value.rule is rules.HMC_WHERE
    return caught.value.message


def test_a_partition_is_found_by_name_uuid_and_place() -> None:
    systems = [
        seen("s1", partition("a", address=HERE)),
        seen("s2", partition("b", address=THERE)),
        Seen("s3", None),
    ]
    for asked in "a", A, "s1/a", "9105-22A*0123ABC/a":
        assert whereabouts(systems, asked) == HERE
    assert whereabouts(systems, "b") == THERE
    for asked in "c", "s2/a", "s3/a", "", "/", A.upper():
        assert "no system has it" in refused(systems, asked)


def test_one_that_is_not_served_is_an_error() -> None:
    assert refused([seen("s1", partition("a"))], "a") == "a: s1 does not serve it"


def test_two_of_one_name_need_their_system() -> None:
    systems = [seen("s1", partition("a", address=HERE)), seen("s2", partition("a", uuid=B, address=THERE))]
    assert "use SYSTEM/NAME" in refused(systems, "a")
    assert whereabouts(systems, "s2/a") == THERE


def test_a_partition_that_moves_is_followed() -> None:
    """The where socket returns the right address before, during and after a move.

    The question may also name the old system.
    """
    frozen = seen("s1", partition("a", custody="frozen", address=HERE), custody=(facts(A, "frozen", 4),))
    prepared = seen(
        "s2", partition("a", custody="prepared", address=THERE), custody=(facts(A, "prepared", 4),)
    )
    released = seen("s1", partition("a", custody="released"), custody=(facts(A, "released", 4),))
    arrived = seen("s2", partition("a", custody="arrived", address=THERE), custody=(facts(A, "arrived", 4),))
    older = seen("s2", partition("a", custody="prepared", address=THERE), custody=(facts(A, "prepared", 3),))
    gone = seen("s1", custody=(facts(A, "gone", 4),))
    for asked in "a", A, "s1/a":
        assert whereabouts([frozen, prepared], asked) == HERE
        assert whereabouts([frozen, arrived], asked) == THERE, "the view of the source is older"
        assert whereabouts([released, prepared], asked) == THERE, "it will serve, and no other system will"
        for other in older, gone:
            assert "no system owns it" in refused([released, other], asked)
        assert "no system owns it" in refused([prepared], "a")
        for source in released, gone:
            assert whereabouts([source, arrived], asked) == THERE


def test_a_new_partition_takes_the_name_of_one_that_left() -> None:
    systems = [
        seen("s1", partition("a", uuid=B, address=HERE), custody=(facts(A, "gone", 4),)),
        seen("s2", partition("a", custody="arrived", address=THERE), custody=(facts(A, "arrived", 4),)),
    ]
    assert whereabouts(systems, "s1/a") == HERE
    assert whereabouts(systems, "s2/a") == THERE


def found(asked: str) -> str:
    """Return what the console of the test knows about a partition."""
    if asked != "lpar1":
        raise OperatorError(rules.HMC_WHERE, f"{asked}: no\nsuch \x1b thing")
    return HERE


def test_every_answer_is_one_line() -> None:
    assert answer_to(found, b"lpar1\n") == b"unix:/s1/a.sock\n"
    assert answer_to(found, b" lpar1 \r\n") == b"unix:/s1/a.sock\n"
    assert answer_to(found, b"x\n") == b"error: x: no\\nsuch \\x1b thing\n"
    assert answer_to(found, b"\xff\n") == b"error: a question is text in UTF-8\n"
    assert answer_to(found, b"lpar1") == b"error: a question is one line of at most 256 bytes\n"
    assert answer_to(found, "\ud7ff\n".encode()).startswith(b"error: ")


def served(folder: Path, then: Callable[[], Awaitable[None]]) -> None:
    """Run a test beside a server at the path `w`."""

    async def main() -> None:
        listener = listen_unix(folder / "w")
        with listener:
            async with trio.open_nursery() as nursery:
                await nursery.start(WhereServer(listener, found).run)
                await then()
                nursery.cancel_scope.cancel()

    run(main)


async def said(stream: trio.SocketStream) -> bytes:
    """Return all bytes up to the end of a stream."""
    received = b""
    async with stream:
        async for data in stream:
            received += data
    return received


@pytest.mark.parametrize(
    "sent,reply",
    [
        (b"lpar1\nlpar1\n", b"unix:/s1/a.sock\n"),
        (b'{"line": ["lshmc", "-V"]}\n', b"error: "),
        (b"x" * 256, b"error: a question is one line"),
    ],
)
def test_a_connection_has_one_question(tmp_path, sent, reply) -> None:
    """A connection has one question. A line of the console is refused, and so is an endless one."""

    async def main() -> None:
        stream = await trio.open_unix_socket(tmp_path / "w")
        await stream.send_all(sent)
        assert (await said(stream)).startswith(reply)

    served(tmp_path, main)


def test_a_slow_client_is_dropped(tmp_path) -> None:
    async def main() -> None:
        stream = await trio.open_unix_socket(tmp_path / "w")
        await stream.send_all(b"lpar")
        began = trio.current_time()
        assert await said(stream) == b""
        assert 5 <= trio.current_time() - began < 6

    served(tmp_path, main)


def test_clients_wait_for_a_place(tmp_path, monkeypatch) -> None:
    """A client that sends nothing loses its place after five seconds, so others can connect."""
    monkeypatch.setattr(where, "MAX_QUESTIONS", 1)

    async def main() -> None:
        silent = await trio.open_unix_socket(tmp_path / "w")
        second = await trio.open_unix_socket(tmp_path / "w")
        await second.send_all(b"lpar1\n")
        assert await said(second) == b"unix:/s1/a.sock\n"
        assert await said(silent) == b""

    served(tmp_path, main)


def test_a_client_that_goes_away_harms_nobody(tmp_path) -> None:
    async def main() -> None:
        for data in b"", b"lpar1", b"lpar1\n", b"x" * 5000:
            gone = await trio.open_unix_socket(tmp_path / "w")
            await gone.send_all(data)
            gone.socket.close()
        stream = await trio.open_unix_socket(tmp_path / "w")
        await stream.send_all(b"lpar1\n")
        assert await said(stream) == b"unix:/s1/a.sock\n"

    served(tmp_path, main)


def test_a_bug_in_an_answer_ends_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(where, "answer_to", lambda *_: 1 / 0)

    async def main() -> None:
        for _ in range(2):
            stream = await trio.open_unix_socket(tmp_path / "w")
            await stream.send_all(b"lpar1\n")
            assert await said(stream) == b""

    served(tmp_path, main)


def ask(path: Path, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(question)
        with client.makefile("rb") as answer:
            return answer.read()


@pytest.mark.process
def test_a_real_console_answers(console: ConsoleProcess, systems: list[ServerProcess]) -> None:
    """R-51: A real console returns the address of the data channel.

    Its where socket is private, and is removed at the end.
    """
    system_process = systems[0].start()
    console.systems = [f"sys1={system_process.control_socket}"]
    console.start()
    path = console.store / "run" / "where.sock"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    until(lambda: ask(path, b"lpar1\n") == f"unix:{system_process.socket()}\n".encode())
    assert ask(path, b"nobody\n") == b"error: nobody: no system has it\n"
    assert console.stop() == 0
    assert not path.exists()
