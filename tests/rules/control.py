"""Rules about HTTP requests, planned faults, and the errors of a client of the control channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import trio

from hcall_abi.bounds import MAX_REQUEST_BODY
from hcall_abi.control import PROBLEM_JSON
from hcall_abi.faults import BusyFault, NvramFault, busy_fault, checked_plan, parse_fault
from hcall_abi.rules.rule import Rule
from hcall_client import console
from hcall_client.console import BlockingConsole, Console
from tests.control_channel.rig import in_process, make_machine, over_socket, served
from tests.rules.breaking import Break, Breaks, breaks, refused, refused_late, row_of, run
from tests.trace.rig import traced

READ = parse_fault("READ_OBJECT=H_BUSY")
ATTRIBUTES = "/v1/partitions/a/attributes"
JSON = {"content-type": "application/json"}


async def _problem(method: str, path: str, options: dict[str, Any], failure: Exception | None) -> Rule:
    machine = make_machine()
    machine.system.create("a", 8)

    def fail(name: str) -> None:
        raise failure or AssertionError

    setattr(machine, "power_on", fail)  # noqa: B010  # a method, for once
    async with in_process(machine) as client:
        answer = await client.request(method, path, **options)
    assert answer.headers["content-type"] == PROBLEM_JSON
    return row_of(answer.json())


def asked(method: str, path: str, *, failure: Exception | None = None, **options: Any) -> Break:
    """Return a function that breaks a rule: an HTTP request.

    Id, sentence, page and fault of the problem are checked.
    """
    return lambda _: run(_problem, method, path, options, failure)


async def _slowly() -> AsyncIterator[bytes]:
    yield b"{"
    await trio.sleep(11)
    yield b"}"


def _too_slow(_: Path) -> Rule:
    return run(_problem, "PATCH", ATTRIBUTES, {"content": _slowly(), "headers": JSON}, None)


def _too_long(folder: Path) -> Rule:
    async def talk() -> Rule:
        async with served(make_machine(), folder / "control.sock") as path, over_socket(path) as client:
            answer = await client.post("/v1/partitions", content=bytes(MAX_REQUEST_BODY + 1), headers=JSON)
        return row_of(answer.json())

    return trio.run(talk)


async def _uncounted() -> Rule:
    machine = make_machine()
    machine.changes.create("a", 8)
    machine.set_nvram_fault(NvramFault("full"))
    async with in_process(machine) as client:
        answer = await client.post("/v1/partitions/a/power-on")
    assert answer.status_code == 503
    return row_of(answer.json())


def _another_server(_: Path) -> Rule:
    async def talk() -> Rule:
        page = httpx.Response(200, content=b"<html>", headers={"content-type": "text/html"})
        transport = httpx.MockTransport(lambda _: page)
        call = Console(transport).call(console.show_system())
        return await refused_late(call)

    return run(talk)


def _traced(folder: Path, request: str, *, before: str | None = None) -> Rule:
    """Send a request about the trace of a partition; return the rule that refuses it."""

    async def talk() -> Rule:
        machine = traced(folder)
        async with in_process(machine) as client:
            if before:
                await client.put("/v1/partitions/alpha/trace", json={"trace": before})
            answer = await client.put("/v1/partitions/alpha/trace", json={"trace": request})
        return row_of(answer.json())

    return run(talk)


def _no_folder_for_traces(folder: Path) -> Rule:
    (folder / "traces").touch()
    return _traced(folder, "blanked")


BREAKS: Breaks = {
    "trace.word": breaks(console.set_trace, "a", "everything"),
    "trace.once": lambda folder: _traced(folder, "secrets", before="blanked"),
    "trace.begun": lambda folder: _traced(folder, "off"),
    "trace.stored": _no_folder_for_traces,
    "system.identity": asked("GET", "/v1/system", headers={"swpks-system": "0" * 32}),
    "request.form": asked("PATCH", ATTRIBUTES, json={"colour": 1}),
    "request.path": asked("GET", "/v1/nothing"),
    "request.method": asked("DELETE", "/v1/partitions/a"),
    "request.time": _too_slow,
    "request.size": _too_long,
    "request.json": asked("PATCH", ATTRIBUTES, content=b"{}", headers={"content-type": "text/plain"}),
    "request.answered": asked("POST", "/v1/partitions/a/power-on", failure=ZeroDivisionError("a bug")),
    "power.counted": lambda _: run(_uncounted),
    "fault.form": breaks(parse_fault, "READ_OBJECT"),
    "fault.call": breaks(parse_fault, "PAINT=H_BUSY"),
    "fault.status": breaks(parse_fault, "READ_OBJECT=H_PARAMETER"),
    "fault.lasting": breaks(BusyFault, READ.call, READ.status, times=1, seconds=1.0),
    "fault.count": breaks(parse_fault, "READ_OBJECT=H_BUSY,nth=0"),
    "fault.seconds": breaks(busy_fault, "READ_OBJECT", "H_BUSY", seconds=3601.0),
    "fault.plan": breaks(checked_plan, [READ] * 65),
    "trouble.known": breaks(NvramFault, "rain"),
    "trouble.stall": breaks(NvramFault, "stall", times=1),
    "trouble.count": breaks(NvramFault, "full", nth=0),
    "trouble.commits": breaks(console.set_nvram_fault, "stall", 2),
    "console.served": lambda folder: refused(
        BlockingConsole(folder / "control.sock").call, console.show_system()
    ),
    "console.answer": _another_server,
    "console.timeout": breaks(BlockingConsole, "control.sock", timeout=0),
}
