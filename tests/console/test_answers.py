"""A system that sends invalid names: none of them reaches the lists of the console."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import pytest

from hcall_abi.control_views import SystemView
from hcall_abi.errors import PeerError
from hcall_abi.requests import ConsoleRequest, show_system
from hcall_abi.rules import console as rules
from hcall_server.console.answers import demand_form
from swpks.testing.console_link import MachineLink
from tests.console.facts import partition, system
from tests.console.stand import standing

T = TypeVar("T")
FORGED = "x\nsys2  9105-22A*0000000  Operating"


class LyingLink(MachineLink):
    """The link to a system. Views that come through it have `facts` in place of the system's own values."""

    def __init__(self, honest: MachineLink, **facts: Any) -> None:
        super().__init__(honest.machine)
        self._facts = facts

    async def call(self, request: ConsoleRequest[T]) -> T:
        answer = await super().call(request)
        return msgspec.structs.replace(answer, **self._facts) if isinstance(answer, SystemView) else answer


@pytest.mark.parametrize(
    "facts",
    [
        {"name": FORGED},
        {"name": "\x1b[2J"},
        {"name": ""},
        {"type_model_serial": "9105-22A*../../x"},
        {"type_model_serial": "9105-22A*0123abc"},
        {"type_model_serial": "lab"},
        {"system_id": "5" * 31},
        {"system_id": "5" * 32 + "\n"},
        {"firmware_level": FORGED},
        {"lost": ["a", FORGED]},
        {"restored": ["\x9b"]},
        {"partitions": [partition("a"), partition("b", name=FORGED)]},
        {"partitions": [partition("a", uuid="../x")]},
    ],
)
def test_a_name_that_is_none_breaks_the_protocol(facts) -> None:
    """An invalid name breaks the protocol; the refusal shows it escaped."""
    with pytest.raises(PeerError) as caught:
        demand_form(system(**facts))
    assert caught.value.rule is rules.CONSOLE_ANSWER
    assert caught.value.message.isprintable()


def test_the_answer_about_one_partition_is_checked_as_well() -> None:
    """The answer about one partition is checked too, because it becomes a part of the present view."""
    with pytest.raises(PeerError):
        demand_form(partition("a", name=FORGED))
    demand_form(partition("a"))


@pytest.mark.parametrize("name", ["lpar1", "a.b-c_d", "unreadable:partition-x", "0"])
def test_an_honest_system_is_believed(name) -> None:
    """A system with valid names is accepted, also with a placeholder for a lost name."""
    demand_form(system(partition("a", name=name), name="my system", lost=[name]))
    demand_form("text")


async def test_a_system_that_lies_forges_no_row(autojump_clock) -> None:
    """A system that sends invalid names is not added. A known system keeps its last valid view."""
    async with standing("S") as stand:
        known = stand.console.find("S")
        before = await stand.done("lssyscfg -r sys -F name,serial_num")
        known.link = LyingLink(stand.links["S"], name=FORGED)
        with pytest.raises(PeerError):
            await known.call(show_system())
        assert await stand.done("lssyscfg -r sys -F name,serial_num") == before
        stand.console._dial = lambda _: LyingLink(stand.links["S"], type_model_serial=FORGED)
        with pytest.raises(PeerError):
            await stand.console.add_system("/elsewhere")
