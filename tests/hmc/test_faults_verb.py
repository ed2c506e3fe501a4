"""`swpks hmc faults`: only a fault or the word none changes the plan; wrong forms name the right one."""

from __future__ import annotations

from typing import Any

import pytest

from hcall_abi.control_views import FaultView
from hcall_client.console import ConsoleUnreachable
from swpks.cli.main import main
from tests.console.facts import partition, system

PLANNED = FaultView(
    hcall="REVOKE_OBJECT", status="H_BUSY", nth=1, times=1, seconds=None, seen=0, answered=0, spent=False
)


class System:
    """A system on the level FW1110 with one partition; it keeps the requests."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        self.requests: list[str] = []
        self.reached = True

    def __call__(self, *_: object) -> System:
        return self

    def call(self, request: Any) -> object:
        """Answer one request."""
        self.requests.append(request.verb.operation)
        if request.verb.operation == "showSystem":
            if not self.reached:
                raise ConsoleUnreachable("c.sock", "gone")
            return system()
        return partition("a", **self.facts)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> System:
    """The system that the commands reach."""
    found = System(faults=[PLANNED])
    monkeypatch.setattr("swpks.cli.hmc.BlockingConsole", found)
    return found


def faults(*words: str) -> int:
    return main(["hmc", "--socket", "c.sock", "faults", *words])


def test_without_a_fault_the_plan_is_shown(asked: System, capsys: pytest.CaptureFixture[str]) -> None:
    """Without FAULT nothing changes.  The output is the plan, or says that there is none."""
    assert faults("a") == 0
    shown = "a has a fault plan\nfault: REVOKE_OBJECT answers H_BUSY from call 1 on, 1 times: 0 so far\n"
    assert capsys.readouterr().out == shown
    asked.facts = {}
    assert faults("a") == 0
    assert capsys.readouterr().out == "a has no fault plan\n"
    assert asked.requests == ["showPartition", "showSystem", "showPartition"]


def test_the_word_none_ends_the_plan(asked: System, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the word none ends the plan; it stands alone."""
    asked.facts = {}
    assert faults("a", "none") == 0
    assert (asked.requests, capsys.readouterr().out) == (["setFaults"], "a has no fault plan\n")
    assert faults("a", "none", "READ_OBJECT=H_BUSY") == 2
    assert "stands alone: `swpks hmc --socket c.sock faults a none` [" in capsys.readouterr().err


@pytest.mark.parametrize(
    "facts, warning",
    [
        ({}, "level FW1110 lacks REVOKE_OBJECT: it is H_FUNCTION, and no fault answers it; `swpks serve --f"),
        ({"keystore_kbytes": 0}, "the keystore of a is off, so each h-call is H_FUNCTION, and no fault"),
        ({"faults": [FaultView("READ_OBJECT", "H_BUSY", 1, 1, None, 0, 0, False)]}, ""),
        ({"faults": []}, ""),
    ],
)
def test_a_fault_that_never_answers(
    facts: dict[str, Any], warning: str, asked: System, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command warns of a fault whose call the partition does not have; the plan is set nevertheless."""
    asked.facts |= facts
    for _ in range(2):
        assert faults("a", "REVOKE_OBJECT=H_BUSY") == 0
        err = capsys.readouterr().err
        assert warning in err
        assert bool(err) == bool(warning)
    asked.reached = False  # the plan is set, so a question that fails is no error
    assert faults("a", "REVOKE_OBJECT=H_BUSY") == 0


@pytest.mark.parametrize(
    "words, expected",
    [
        ("", "required: NAME; "),
        ("a WRITE_OBJECT", "a status follows the h-call, such as WRITE_OBJECT=H_BUSY); "),
        ("a clear", "`swpks hmc --socket c.sock faults a none` ends the plan ["),
        ("a WRITE=H_BUSY", "no h-call 'WRITE'; did you mean WRITE_OBJECT?"),
        ("a READ_OBJECT=H_BUSY nth=2", "`swpks hmc --socket c.sock faults a READ_OBJECT=H_BUSY,nth=2` ["),
        ("a READ_OBJECT=H_BUSY,times=2,seconds=1", "times and seconds exclude each other) ["),
        ("a READ_OBJECT=H_BUSY,times=2,nth=1", "nth comes first, such as WRITE_OBJECT=H_BUSY,nth=2,time"),
        ("a READ_OBJECT=H_BUSY,xy=2", "it has no field 'xy') ["),
        ("a READ_OBJECT=H_BUSY,nth=-1", "nth and times are 1 to 1000000, and seconds is above 0"),
        ("READ_OBJECT=H_BUSY", "first: `swpks hmc --socket c.sock faults NAME READ_OBJECT=H_BUSY` ["),
        ("READ_OBJECT=H_BUSY a", "first: `swpks hmc --socket c.sock faults a READ_OBJECT=H_BUSY` ["),
    ],
)
def test_a_wrong_form_names_the_right_one(
    words: str, expected: str, asked: System, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of each wrong form has the right form.  No request is sent."""
    assert faults(*words.split()) == 2
    assert expected in capsys.readouterr().err
    assert asked.requests == []


def test_a_blank_in_a_fault(asked: System, capsys: pytest.CaptureFixture[str]) -> None:
    """A blank behind a comma is named."""
    assert faults("a", "READ_OBJECT=H_BUSY, nth=2") == 2
    assert "it has no blanks, such as WRITE_OBJECT=H_BUSY,nth=2) [" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, right",
    [
        ("set keystore_kbytes=8 a", "set a keystore_kbytes=8"),
        ("create secure_boot=1", "create NAME secure_boot=1"),
    ],
)
def test_the_name_comes_first(
    words: str, right: str, asked: System, capsys: pytest.CaptureFixture[str]
) -> None:
    """If an attribute stands in the place of NAME, the command is refused.

    The message shows the command with its words in the right order.
    """
    assert main(["hmc", "--socket", "c.sock", *words.split()]) == 2
    assert f"the name comes first: `swpks hmc --socket c.sock {right}` [" in capsys.readouterr().err
    assert asked.requests == []
