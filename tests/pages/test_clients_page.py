"""docs/clients.md is true: its program runs to its end while the partition moves (R-55)."""

from pathlib import Path

import trio

from hcall_abi.calls import Opcode
from hcall_abi.errors import PeerError
from tests.client.moving import System, where_socket
from tests.spec.markdown import ROOT, blocks

PAGE = ROOT / "docs" / "clients.md"


async def test_the_program_follows_its_partition(tmp_path: Path) -> None:
    """Each object is written once, and is durable, wherever the moves fall."""
    program, *_ = blocks(PAGE, "A client whose partition moves", "python")
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


def test_the_page_names_what_there_is() -> None:
    """The attribute of the second example is that of the class."""
    *_, example = blocks(PAGE, "Ends of a session", "python")
    assert "error.unknown" in example
    assert PeerError.unknown is False
