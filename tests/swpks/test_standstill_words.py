"""`swpks lpar` for a partition that is not served: every error has the reason that its system reports."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.control_views import CustodyView, SystemView, Trouble
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.frames import OpenStatus
from hcall_client.errors import OpenRefused
from swpks.cli import lpar_reach, lpar_target, serve
from swpks.cli.lpar_reach import refused_open, unreached
from swpks.cli.lpar_sought import Sought
from tests.console.facts import partition, system

STATE, TCP = Path("s"), ("host", 1)
SOCKET = STATE / "run" / "a.sock"
ASKS = system(partition("a", power="off", mode="asking"))
OFF = system(partition("a", power="off"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[SystemView | None]:
    """The answers of the control socket about the system; each request gets the last one."""
    views: list[SystemView | None] = [ASKS]

    def answer(control: Path, _seconds: float) -> SystemView | None:
        assert control == STATE / "run" / "control.sock"
        return views[-1]

    monkeypatch.setattr(lpar_reach, "system_at", answer)
    return views


MET = {
    "no socket": lambda: unreached(Sought(SOCKET, "a", 1.0), FileNotFoundError()),
    "held": lambda: unreached(Sought(SOCKET, "a", 1.0), TimeoutError()),
    "held over TCP": lambda: unreached(Sought(TCP, "a", 1.0, STATE), TimeoutError()),
    "refused": lambda: refused_open(
        Sought(SOCKET, "a", 1.0), OpenRefused(OpenStatus.NOT_ACTIVATED), numbered=False
    ),
    "not there": lambda: refused_open(
        Sought(TCP, "a", 1.0, STATE), OpenRefused(OpenStatus.NO_SUCH_PARTITION), numbered=True
    ),
}
OTHERWISE = {
    "no socket": ("open.power", "a is powered off (nothing listens at s/run/a.sock): swpks hmc"),
    "held": ("command.answered", "the server at s/run/a.sock did not answer within 1 s"),
    "held over TCP": ("command.answered", "the server at host:1 did not answer within 1 s"),
    "refused": ("open.power", "a is powered off, or about to move: swpks hmc power a on"),
    "not there": ("open.partition", "NO_SUCH_PARTITION"),
}  # fmt: skip


@pytest.mark.parametrize("way", MET)
def test_each_way_to_a_partition_that_is_not_served(shown: list[SystemView | None], way: str) -> None:
    """The error has the reason in the partition's state.

    If there is none, it has the error of the connection.
    """
    error = MET[way]()
    assert error.rule.id == "custody.confirmed"
    assert error.message.startswith("a waits until the console agrees to its start: no console is attached")
    shown.append(OFF)
    rule, words = OTHERWISE[way]
    assert MET[way]().rule.id == rule
    assert words in MET[way]().message
    shown.append(None)
    assert "waits" not in MET[way]().message


def test_without_a_state_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TCP without a state, `swpks lpar` knows no control socket. So it does not ask for the reason."""
    monkeypatch.delattr(lpar_reach, "system_at")
    error: SwpksError = unreached(Sought(TCP, "a", 1.0), TimeoutError())
    assert error.rule.id == "command.answered"


def test_a_name_whose_partition_has_left(shown: list[SystemView | None]) -> None:
    """Over TCP `swpks lpar` looks the id up by name.

    If several partitions had the name, the error is about the last one.
    """
    old = CustodyView(uuid="1", name="a", custody="none", mode="settled", epoch=3, generation=0, peer_id="")
    new = CustodyView(uuid="2", name="a", custody="gone", mode="settled", epoch=7, generation=0, peer_id="ab")
    shown.append(system(custody=[old, new]))
    args = argparse.Namespace(partition=None, state=STATE, timeout=1.0, name="a", socket=None, tcp="host:1")
    with pytest.raises(
        OperatorError, match=r"a has left \(attempt 7, other system ab\): use it at its owner"
    ):
        lpar_target.target_of(args)
    with pytest.raises(OperatorError, match=r"lslparmigr -r lpar -m [a-z0-9]+ -F name,owner_sys_name"):
        lpar_target.target_of(args)
    args.name = "b"
    with pytest.raises(OperatorError, match="there is no partition 'b': s has no partition"):
        lpar_target.target_of(args)


def test_a_partition_that_was_refused_keeps_its_own_reason(shown: list[SystemView | None]) -> None:
    """For a partition whose records did not open, the error says so, and says nothing about custody."""
    trouble = Trouble(detail="damaged", rule_id="r", rule="r", section="s")
    shown.append(system(partition("a", power="off", mode="asking", refused=trouble)))
    assert "a is refused by its server" in MET["no socket"]().message


def test_the_ready_line_tells_partitions_with_one_reason_together() -> None:
    """The ready line groups partitions with the same reason, and names one remedy for each group."""
    console = {"name": "hmc1", "id": "ab"}
    asks = {"custody": "own", "mode": "asking", "epoch": 0, "peer_id": "", "console": console}
    frozen = {**asks, "custody": "frozen", "mode": "in-doubt", "console": None}
    served = {**asks, "mode": "serving"}
    ready: dict[str, Any] = {
        "version": "1",
        "firmware": "F",
        "state": "Operating",
        "sockets": {},
        "running": [],
    }
    ready |= {"tcp": [], "control_tcp": None, "metrics": None, "refused": {}, "keystore_off": []}
    ready["unserved"] = {"a": asks, "b": asks, "c": frozen, "d": served}
    line = serve.sentence(ready, [])
    assert line.startswith(
        "swpks 1 (F) is ready: no partition runs; a, b: each waits until the console 'hmc1' (ab) agrees to "
        "its start: start that console, if it does not run: swpks hmc serve --store DIR; if it is lost"
    )
    assert "; c is frozen, and waits for the console: no console is attached; start one: " in line
    assert line.count("--without-console") == 1
    assert " d " not in line
    assert serve.sentence(ready | {"unserved": {}}, []).endswith("no partition runs")
    passed = serve.sentence(ready | {"sockets": {"a": "x", "e": "y", "f": "z"}, "running": ["f"]}, [])
    assert "is ready: a at x (not served), e at y (powered off), f at z; " in passed
