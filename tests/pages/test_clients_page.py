"""The programs of docs/clients.md in cases that the page can't show: several moves, and a broken session.

`test_whole_pages.py` runs all of them as the page says.
"""

from pathlib import Path

import pytest
import trio

from hcall_abi.calls import Opcode
from hcall_client.calls import Authorization, HcallError, read_object
from hcall_client.errors import ConnectionLost, in_flight
from hcall_client.request import Request
from tests.client.moving import System, where_socket
from tests.spec.markdown import ROOT, programs

PAGE = ROOT / "docs" / "clients.md"


def names_of(program: str) -> dict:
    """Return the names that a program of the page defines."""
    names: dict = {"__name__": "program"}
    exec(compile(programs(PAGE)[program], program, "exec"), names)
    return names


async def test_the_program_follows_its_partition(tmp_path: Path) -> None:
    """R-55: however often the partition moves, the program writes and removes each object once."""
    main = names_of("follow.py")["main"]
    system, written = System("sockets", tmp_path), []
    (tmp_path / "store" / "run").mkdir(parents=True)

    async def follow() -> None:
        written.append(await main(str(tmp_path / "store"), "lpar1", 3))

    with where_socket(tmp_path / "store" / "run" / "where.sock", lambda _: f"unix:{system.locate()}\n"):
        async with system.running(), trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for count in (1, 20, 60):
                while system.ran().get(0, 0) < count:
                    await trio.lowlevel.checkpoint()
                system.move()
    assert written[0] >= 60
    assert system.ran(Opcode.WRITE_OBJECT) == system.ran(Opcode.REMOVE_OBJECT) == {0: written[0]}


async def test_an_end_that_is_unknown(pks_partition, capsys) -> None:
    """The program continues after a session that broke, and raises any other error."""
    write = names_of("ends.py")["write"]
    await write(pks_partition.channel)
    assert (await pks_partition.channel.call(read_object(Authorization(3), b"label"))).data == b"data"
    with pytest.raises(HcallError, match="H_RESOURCE"):
        await write(pks_partition.channel)
    assert capsys.readouterr().out == ""
    broken = BrokenChannel()
    await write(broken)
    assert broken.calls == 1
    assert "unknown" in capsys.readouterr().out


class BrokenChannel:
    """A channel whose session breaks during a call."""

    calls = 0

    async def call(self, request: Request[None]) -> None:
        self.calls += 1
        raise in_flight(ConnectionLost(), request.opcode)
