"""`swpks explain` and `swpks lpar raw` with the names and numbers that a program in C has."""

import re
from importlib.resources import files

import pytest

from swpks.cli import header_names
from swpks.cli.explain import explained
from swpks.cli.lpar_values import opcode
from swpks.cli.main import main


@pytest.mark.parametrize(
    "name, shown",
    [
        ("PKS_H_IN_USE", "status H_IN_USE (-77)"),
        ("pks_policy_pwset", "policy PWSET"),
        ("PKS_OPCODE_WRAP_OBJECT", "h-call H_PKS_WRAP_OBJECT"),
        ("PKS_GOODBYE_IDLE_TOO_LONG", "IDLE_TOO_LONG"),
        ("ffffffffffffffb3", "status H_IN_USE (-77)"),
        ("FFFFFFB3", "status H_IN_USE (-77)"),
        ("434", "h-call H_PKS_READ_OBJECT"),
        ("08000000", "policy WORLDREADABLE"),
        ("10000000", "policy"),
    ],
)
def test_a_name_or_number_of_c(name: str, shown: str) -> None:
    """A name of the header, and a number in hexadecimal without 0x, are explained."""
    assert shown in explained(name, 100)


def test_each_status_policy_and_opcode_of_the_header() -> None:
    """Each constant of these kinds in swpks/pks.h is found by its whole name."""
    text = (files("swpks") / "include" / "swpks" / "pks.h").read_text()
    names = re.findall(r"^#define (PKS_(?:H|POLICY|OPCODE)_[A-Z0-9_]+) ", text, re.MULTILINE)
    assert len(names) > 40
    masks = {"PKS_POLICY_KNOWN", "PKS_POLICY_CALLER", "PKS_POLICY_STATUS"}
    assert [each for each in names if not header_names.meant(each) and each not in masks] == []


@pytest.mark.parametrize("name", ["PKS_NOTHING", "PKS_", "abc", "abcdefgh", "12345678901234567890"])
def test_other_names_mean_nothing(name: str) -> None:
    """Other names are not guessed."""
    assert header_names.meant(name) == ""


@pytest.mark.parametrize("name", ["c-header", "pks.h", "swpks/pks.h"])
def test_the_name_of_the_header(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of the header leads to the command that prints its place."""
    assert main(["explain", name]) == 2
    assert "`swpks c-header` prints" in capsys.readouterr().err


def test_an_opcode_without_0x(capsys: pytest.CaptureFixture[str]) -> None:
    """`raw 434` sends the decimal number, because any number is permitted, and warns."""
    assert opcode("434") == 434
    assert "434 is a decimal number; the h-call is 0x434" in capsys.readouterr().err
    assert opcode("1076") == opcode("0x434") == 0x434
    assert opcode("5") == 5
    assert capsys.readouterr().err == ""
