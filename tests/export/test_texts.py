"""The generated files have the text of the tables, and the commands print where they are (R-81).

Other modules of this room compile and run these files, without a measurement of coverage.
"""

import pytest

from hcall_abi.export import c_header
from hcall_abi.export.dissector import dissector
from swpks.cli.main import main
from tests.export.compilers import EXAMPLES, INCLUDE
from tools import exports

HEADER = INCLUDE / "swpks" / "pks.h"


def test_the_header_is_that_of_the_tables() -> None:
    """The committed header has the text that the tables give now."""
    assert exports.different() == []
    assert HEADER.read_text("utf-8") == c_header.header()


def test_the_command_prints_where_the_header_is(capsys: pytest.CaptureFixture[str]) -> None:
    """`swpks c-header` prints the path of the header, and the folders for -I and of the examples."""
    assert main(["c-header"]) == 0
    assert capsys.readouterr().out == f"{HEADER}\n"
    assert main(["c-header", "--include"]) == 0
    assert capsys.readouterr().out == f"{INCLUDE}\n"
    assert main(["c-header", "--examples"]) == 0
    assert capsys.readouterr().out == f"{EXAMPLES}\n"


def test_the_command_prints_the_dissector(capsys: pytest.CaptureFixture[str]) -> None:
    """`swpks dissector` prints the program."""
    assert main(["dissector"]) == 0
    assert capsys.readouterr().out == dissector()
