"""docs/clients.md is true: its program runs to its end while the partition moves (R-55)."""

import ast
from pathlib import Path

import pytest
import trio

from hcall_abi.calls import Opcode
from hcall_abi.errors import PeerError
from hcall_client.calls import Authorization, HcallError, read_object, write_object
from hcall_client.errors import ConnectionLost, in_flight
from hcall_client.request import Request
from tests.client.moving import System, where_socket
from tests.pages.page_blocks import PageBlocks


async def test_the_program_follows_its_partition(tmp_path: Path, page_blocks: PageBlocks) -> None:
    """Each object is written once, and is durable, wherever the moves fall."""
    (program,) = page_blocks.programs()
    names: dict = {"__name__": "program"}
    exec(program, names)
    system, moves = System("sockets", tmp_path), []
    (tmp_path / "store" / "run").mkdir(parents=True)

    async def follow() -> None:
        moves.append(await names["main"](str(tmp_path / "store"), "lpar1"))

    with where_socket(tmp_path / "store" / "run" / "where.sock", lambda _: f"unix:{system.locate()}\n"):
        async with system.running(), trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for written in (1, 20, 60):
                while system.ran().get(0, 0) < written:
                    await trio.lowlevel.checkpoint()
                system.move()
    assert moves == [3]
    assert system.ran(Opcode.WRITE_OBJECT) == {0: 100}


async def test_an_end_that_is_unknown(pks_partition, page_blocks: PageBlocks) -> None:
    """The second example goes on after a session that has broken, and lets any other error pass."""
    (example,) = page_blocks.programs()
    code = compile(example, "docs/clients.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = {"channel": pks_partition.channel, "OS": Authorization(3), "PeerError": PeerError}
    names["write_object"] = write_object
    await eval(code, names)
    assert (await pks_partition.channel.call(read_object(Authorization(3), b"label"))).data == b"data"
    with pytest.raises(HcallError, match="H_RESOURCE"):
        await eval(code, names)
    broken = BrokenChannel()
    await eval(code, {**names, "channel": broken})
    assert broken.calls == 1


class BrokenChannel:
    """A channel whose session breaks while a call is on its way."""

    calls = 0

    async def call(self, request: Request[None]) -> None:
        self.calls += 1
        raise in_flight(ConnectionLost(), request.opcode)
