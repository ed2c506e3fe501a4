"""Where a rule is shown: in an exception, a log line, a problem, a client's error, and GOODBYE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from hcall_abi.consumers import Consumer
from hcall_abi.control import PROBLEM_JSON
from hcall_abi.errors import OperatorError
from hcall_abi.frames import FrameType, Goodbye
from hcall_abi.rules import console as rows
from hcall_abi.rules import hcalls, protocol
from hcall_abi.rules.rule import Rule
from hcall_client import console
from hcall_client.console import Console, ConsoleRefused
from hcall_client.errors import HcallError
from hcall_server.control_channel.app import make_app
from hcall_server.keystore.access import Credentials
from tests.control_channel.rig import in_process, make_machine
from tests.data_channel import support
from tests.data_channel.support import Service, read
from tests.rules.breaking import logged, row_of
from tests.rules.channel import frame

FIELDS = {"rule_id", "rule", "section"}


def test_an_exception_says_message_fault_id_sentence_and_page() -> None:
    """The text of an exception has message, fault, id, sentence and page.

    If the real console has a number for the message, the number comes first.
    """
    error = OperatorError(rows.POWER_STOPPED, "lpar1 is running")
    row = rows.POWER_STOPPED
    assert (
        str(error) == f"lpar1 is running [operator fault; rule power.stopped: {row.sentence}; see {row.page}]"
    )
    assert (error.rule, error.fault, error.message) == (row, row.fault, "lpar1 is running")
    numbered = OperatorError(rows.SIZE_IN_USE, "the keystore is in use")
    assert rows.SIZE_IN_USE.code
    assert str(numbered).startswith(f"{rows.SIZE_IN_USE.code}: the keystore is in use [")


async def talk_to_a_machine(say: Callable[[support.Peer], Any]) -> Any:
    """Call a function with an open session; return its result."""
    async with trio.open_nursery() as nursery:
        service = await Service.start(nursery, support.make_machine())
        result = await say(await service.session())
        nursery.cancel_scope.cancel()
    return result


async def test_a_refused_h_call_is_logged_by_its_rule() -> None:
    """After a refused h-call, the log line and the client's error name the same rule."""

    async def ask(peer: support.Peer) -> Rule:
        with pytest.raises(HcallError) as caught:
            await peer.call(read(b"absent"))
        return caught.value.rule

    with logged("hcall.refused") as lines:
        shown = await talk_to_a_machine(ask)
    assert row_of(lines[0]) is shown is hcalls.OBJECT_EXISTS


async def test_a_goodbye_and_its_line_have_the_sentence() -> None:
    """If a client breaks the protocol, its GOODBYE and the log line both have the rule's sentence."""

    async def damage(peer: support.Peer) -> Goodbye:
        await peer.stream.send_all(frame(FrameType.HCALL, magic=b"LACH"))
        goodbye: Goodbye = await peer.expect(Goodbye)
        return goodbye

    with logged("protocol.error") as lines:
        goodbye = await talk_to_a_machine(damage)
    assert row_of(lines[0]) is protocol.FRAME_MAGIC
    assert protocol.FRAME_MAGIC.sentence in goodbye.text


async def test_a_problem_and_its_line_have_the_same_row() -> None:
    """Over HTTP, `rule_id`, `rule` and `section` of the problem are those of the log line."""
    machine = make_machine()
    machine.system.create("a", 8)
    with logged("control.refused") as lines:
        async with in_process(machine) as client:
            answer = await client.post("/v1/partitions/a/power-off")
    problem = answer.json()
    assert answer.headers["content-type"] == PROBLEM_JSON
    assert row_of(problem) is row_of(lines[0]) is rows.POWER_RUNNING
    assert {name: problem[name] for name in FIELDS} == {name: lines[0][name] for name in FIELDS}


async def test_a_console_raises_the_row_that_its_system_named() -> None:
    """The console's error has the row of its own table for the rule that the system named."""
    system = Console(httpx.ASGITransport(make_app(make_machine())))
    await system.call(console.create_partition("a", 8))
    with pytest.raises(ConsoleRefused) as caught:
        await system.call(console.create_partition("a", 8))
    assert caught.value.rule is rows.NAME_NEW


async def test_a_console_shows_the_message_number_once() -> None:
    """R-36: the number HSCL0DC8 begins the text of a console's error, and is not repeated."""
    machine = make_machine()
    system = Console(httpx.ASGITransport(make_app(machine)))
    await system.call(console.create_partition("a", 8))
    keystore = machine.system.find("a").keystore
    assert keystore is not None
    keystore.objects.write(Credentials(Consumer.FIRMWARE, b""), b"label", 0, b"data")
    with pytest.raises(ConsoleRefused) as caught:
        await system.call(console.set_attributes("a", {"keystore_kbytes": 0}))
    row = rows.SIZE_IN_USE
    assert str(caught.value).startswith("HSCL0DC8: the keystore of a is in use [operator fault; ")
    assert (caught.value.rule, caught.value.problem.code) == (row, row.code)


async def test_a_rule_of_a_newer_system_is_shown_as_it_was_told() -> None:
    """If the console does not have the rule that a system names, the error shows it as it was sent."""
    body = {
        "type": "/problems/refused", "title": "Refused by a rule", "status": 409, "detail": "too many moons",
        "fault": "operator", "rule_id": "moon.count", "rule": "a system has one moon",
        "section": "spec/control.md#moons", "code": "HSCL0001",
    }  # fmt: skip
    answer = httpx.Response(409, json=body, headers={"content-type": PROBLEM_JSON})
    with pytest.raises(ConsoleRefused) as caught:
        await Console(httpx.MockTransport(lambda _: answer)).call(console.show_system())
    error = caught.value
    assert error.rule == Rule(
        "moon.count", "a system has one moon", "spec/control.md#moons", error.fault, "HSCL0001"
    )
    assert str(error) == (
        "HSCL0001: too many moons "
        "[operator fault; rule moon.count: a system has one moon; see spec/control.md#moons]"
    )
