"""spec/control.md, the table of verbs, the OpenAPI description and the command agree."""

from __future__ import annotations

import argparse
import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import httpx
import msgspec
import pytest

from hcall_abi.bounds import (
    HEARTBEAT_SECONDS,
    MAX_COUNT,
    MAX_REQUEST_BODY,
    MAX_SECONDS,
    MAX_STREAMS,
    REQUEST_BODY_SECONDS,
)
from hcall_abi.console import ATTRIBUTES, SECURE_BOOT_MODES
from hcall_abi.consumers import SecureBoot
from hcall_abi.control import JSON, PARAMETERS, PROBLEM_JSON, VERBS, ProblemKind
from hcall_abi.control_bodies import AttributeChanges, Body
from hcall_abi.control_views import Answered, EventKind, PartitionView, Problem, View
from hcall_server.control_channel import http, serve
from hcall_server.control_channel.migration_verbs import MIGRATION as MIGRATION_VERBS
from hcall_server.control_channel.snapshot_verbs import SNAPSHOTS
from hcall_server.machine.attachment import AGAIN_SECONDS
from hcall_server.platform.power import PowerEvent
from swpks.cli import hmc
from tests.control_channel.rig import in_process, make_machine

PAGE = (Path(__file__).parents[2] / "spec" / "control.md").read_text("utf-8")


def table(head: str) -> list[list[str]]:
    """Return the rows of every table of the page with this head, without code marks."""
    found, inside = [], False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        inside = " | ".join(cells) == head or (inside and line.startswith("|"))
        if inside and set("".join(cells)) != {"-"}:
            found.append([cell.replace("`", "") for cell in cells])
    return [row for row in found if " | ".join(row) != head]


def named(body: type[Answered] | None) -> str:
    """Return the page's name for a struct, or "text" for none."""
    return body.__name__ if body else "text"


def test_the_page_has_every_verb() -> None:
    """The page has each verb in the order of the table: method, path, operation, body, answers, summary."""
    rows = [
        [
            verb.method,
            verb.path,
            verb.operation,
            verb.body.__name__ if verb.body else "-",
            ", ".join(f"{status} {named(body)}" for status, body in verb.answers.items()),
            verb.summary,
        ]
        for verb in VERBS
    ]
    assert table("method | path | operation | body | answer | effect") == rows


def test_the_page_has_every_problem() -> None:
    """The page has status, type and title of each kind of problem."""
    assert table("status | type | title") == [
        [str(kind.status), kind.type, kind.title] for kind in ProblemKind
    ]
    assert len({kind.type for kind in ProblemKind}) == len(ProblemKind)


def test_the_page_has_every_field() -> None:
    """The page has each struct of a request or answer with each of its fields, and no other."""
    shown: dict[str, list[str]] = defaultdict(list)
    for row in table("struct | field | type | meaning") + table("struct | field | meaning"):
        shown[row[0]] += row[1].split(", ")
    found = {*Body.__subclasses__(), *View.__subclasses__(), PartitionView}
    structs = {each for each in found if each.__module__.startswith("hcall_abi.")}
    there = {each.__name__: sorted(get_type_hints(each).keys()) for each in structs}
    shown = {name: [each for field in fields for each in meant(field)] for name, fields in shown.items()}
    assert {name: sorted(fields) for name, fields in shown.items()} == there


def meant(field: str) -> Sequence[str]:
    """Return the fields that a cell of the page names; it may name all attributes at once."""
    return tuple(ATTRIBUTES) if field == "all [attributes](#attributes)" else (field,)


def test_attributes_travel_as_the_vocabulary_has_them() -> None:
    """R-36: The body of attributes has the console's names, and each number has its attribute's range."""
    schema = msgspec.json.schema(AttributeChanges)["$defs"]["AttributeChanges"]["properties"]
    assert schema.keys() == ATTRIBUTES.keys()
    for name, row in ATTRIBUTES.items():
        assert (schema[name]["minimum"], schema[name]["maximum"]) == (row.numbers[0], row.numbers[-1])
    assert tuple(mode.name.lower() for mode in SecureBoot) == SECURE_BOOT_MODES


def test_every_event_of_power_is_a_verb() -> None:
    """For each power event except ARRIVE there is a verb whose path ends with that event.

    ARRIVE has no verb, because it ends a move.
    """
    ends = [verb.path.rpartition("/")[2] for verb in VERBS if verb.method == "POST" and "{name}" in verb.path]
    events = [event.value for event in PowerEvent if event is not PowerEvent.ARRIVE]
    assert sorted(ends) == sorted([*events, "rotate-key", "delete", "migration", "release"])


def test_the_page_has_every_kind_of_event() -> None:
    """The page has each kind of event, in the order of the contract."""
    assert [row[0] for row in table("kind | meaning")] == list(get_args(EventKind))


def test_the_page_has_the_bounds() -> None:
    """The sizes and seconds on the page are those of the code."""
    text = " ".join(PAGE.split())
    config = http._config()
    for words in (
        f"at most {MAX_REQUEST_BODY} bytes",
        f"within {REQUEST_BODY_SECONDS:.0f} seconds of its header",
        f"at most {http.HEADER_BYTES // 1024} KiB or",
        f"closed after {config.keep_alive_timeout:.0f} seconds",
        f"after {http.SEND_SECONDS:.0f} seconds in which its client reads no byte",
        f"longer than {serve.LIFETIME_SECONDS / 60:.0f} minutes",
        f"{serve.MAX_CONNECTIONS} connections are",
        f"have {serve.GRACE_SECONDS:.0f} seconds",
        f"At most {MAX_STREAMS} streams",
        f"after {HEARTBEAT_SECONDS:.0f} seconds without an event",
        f"asked again {AGAIN_SECONDS:.0f} seconds later",
    ):
        assert words in text, words


async def test_the_page_has_every_metric() -> None:
    """For each metric the page has its name, its labels, and the meaning of its value."""
    machine = make_machine()
    machine.system.create("a", 8)
    await machine.attachment.attach(bytes(16), "hmc1")
    copied = machine.system.find("a")
    await machine.attachment.keep(copied, copied.profile.uuid, restores=0, generation=0, time=0)
    machine.counters.calls[1][0x41C, 0] += 1
    machine.counters.opens[0] += 1
    machine.counters.goodbyes[0] += 1
    machine.noise.of("a").left_out["session.opened"] += 1
    async with in_process(machine) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    samples = [re.fullmatch(r"(\w+)(?:{(.*)})? \S+", line) for line in lines if not line.startswith("#")]
    labels = {found[1]: sorted(re.findall(r'(\w+)="', found[2] or "")) for found in samples if found}
    assert None not in samples
    shown = dict(line.split(" ", 3)[2:] for line in lines if line.startswith("# HELP "))
    rows = table("metric | labels | figure")
    assert {row[0]: [] if row[1] == "-" else sorted(row[1].split(", ")) for row in rows} == labels
    assert {row[0]: row[2] for row in rows if row[0] != "swpks_info"} == {
        name: text for name, text in shown.items() if name != "swpks_info"
    }


def parsed(*words: str) -> argparse.Namespace:
    """Return the request of a console's command line."""
    parser = argparse.ArgumentParser()
    hmc.add_parser(parser.add_subparsers())
    return parser.parse_args(["hmc", *words])


COMMANDS = table("command | request")
MIGRATION = tuple(MIGRATION_VERBS)


@pytest.mark.parametrize("command,request_line", COMMANDS, ids=[row[0] for row in COMMANDS])
def test_the_command_asks_what_the_page_says(command, request_line, tmp_path: Path) -> None:
    """Each command of the page parses, and sends a verb of the table with a body of its struct."""
    example = command.replace("ATTRIBUTE=VALUE ...", "keystore_signed_updates=1 secure_boot=audit")
    example = example.replace("--id N", "--id 5")
    example = example.replace("FAULT ...", "READ_OBJECT=H_BUSY WRAP_OBJECT=H_BUSY,seconds=2")
    words = re.sub(r"[\[\]]", "", example).replace("\\|", "|").split()[2:]
    (tmp_path / "key").write_bytes(bytes(32))
    values = {"KBYTES": "8", "COMMITS": "3", "FILE": str(tmp_path / "key")}
    request = hmc.ask_of(parsed(*(values.get(word, word).split("|")[0] for word in words))).request
    assert f"{request.verb.method} {request.path.replace('NAME', '{name}')}" == request_line
    assert type(request.body) is (request.verb.body or type(None))
    if request.content:
        assert request.verb.body
        msgspec.json.decode(request.content, type=request.verb.body)


def test_every_verb_has_a_command() -> None:
    """Each verb has a command, but not the verbs of the console's link and of migrations.

    Those of snapshots have a command of their own; tests/snapshots uses it.
    """
    link = ("watchEvents", "attachConsole", "detachConsole", "keepCopy", "forgetCopies")
    others = (*link, *MIGRATION, *SNAPSHOTS)
    asked_for = {f"{verb.method} {verb.path}" for verb in VERBS if verb.operation not in others}
    assert {row[1] for row in COMMANDS} == asked_for
    assert f"({', '.join(link)}) have no command" in PAGE
    assert f"({', '.join(MIGRATION)}) have none" in PAGE
    assert {row[0].split()[2] for row in COMMANDS} == set(hmc._VERBS)


@pytest.fixture
async def description() -> dict:
    async with in_process(make_machine()) as client:
        answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def references(node) -> set[str]:
    """Return every $ref below a node."""
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


async def test_the_description_is_whole(description) -> None:
    """OpenAPI 3.1: required fields, unique operations, parameters of every path, no dangling reference."""
    assert re.fullmatch(r"3\.1\.\d+", description["openapi"])
    assert {"title", "version"} <= description["info"].keys()
    operations = [
        (path, method, operation)
        for path, item in description["paths"].items()
        for method, operation in item.items()
    ]
    assert [(m.upper(), p, o["operationId"]) for p, m, o in operations] == [
        (verb.method, verb.path, verb.operation) for verb in sorted(VERBS, key=lambda v: _first(v.path))
    ]
    for path, _, operation in operations:
        names = {each["name"] for each in operation.get("parameters", [])}
        assert names == set(re.findall(r"{(\w+)}", path))
        assert names <= PARAMETERS.keys()
        assert all(each["in"] == "path" and each["required"] for each in operation.get("parameters", []))
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
        assert all(each["description"] for each in operation["responses"].values())
    there = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert references(description) == there


async def test_one_status_may_have_an_answer_and_problems(description) -> None:
    """Status 503 of health is the view with the reasons, or a problem.

    Status 503 of a change is a problem of one of two kinds.
    """
    health = description["paths"]["/health"]["get"]["responses"]["503"]
    assert health["content"].keys() == {JSON, PROBLEM_JSON}
    change = description["paths"]["/v1/partitions"]["post"]["responses"]["503"]
    assert change["content"].keys() == {PROBLEM_JSON}
    for kind in (ProblemKind.STORAGE, ProblemKind.SCARCITY):
        assert kind.title in change["description"]


def _first(path: str) -> int:
    """Return the first position of a path in the table, because the description groups verbs by path."""
    return next(place for place, verb in enumerate(VERBS) if verb.path == path)


async def test_the_description_is_as_strict_as_the_page(description) -> None:
    """The description forbids unknown fields in a request, and allows them in an answer."""
    bodies = {each.__name__ for each in Body.__subclasses__()}
    for name, schema in description["components"]["schemas"].items():
        assert (schema.get("additionalProperties") is False) == (name in bodies), name
        assert schema["description"], name


async def test_the_description_has_the_bounds_of_a_fault(description) -> None:
    """The description has both ends of each range of a fault."""
    fields = description["components"]["schemas"]["FaultSetting"]["properties"]
    count = {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}
    assert fields["nth"] == {**count, "default": 1}
    assert count in fields["times"]["anyOf"]
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS}
    assert seconds in fields["seconds"]["anyOf"]


async def test_answers_are_as_described() -> None:
    """Each answer in a round of all verbs decodes strictly as the struct of its status."""
    machine = make_machine()
    async with in_process(machine) as client:
        bodies_of: dict[str, object] = {
            "createPartition": {"name": "a"},
            "setAttributes": {"secure_boot": 1},
            "changePartition": {"auto_start": False, "attributes": {"secure_boot": 2}},
            "deletePartition": {"destroy": True},
            "setSystem": {"name": "another name"},
            "setNvramFault": {"trouble": "none"},
            "setFaults": {"faults": [{"hcall": "READ_OBJECT", "status": "H_BUSY"}]},
            "setTrustedKey": {"operation": "change", "key": b64encode(bytes(32)).decode()},
        }
        order = ("setTrustedKey", "createPartition", "powerOn", "ipl", "powerOff")
        # Other tests have the answers of these verbs: tests/parts, test_console, tests/custody,
        # tests/snapshots, tests/trace, in this order.
        other = {"restoreCopy", "beginRecovery", "endRecovery"}
        other |= {"watchEvents", "attachConsole", "detachConsole", "keepCopy", "forgetCopies"}
        other |= {*MIGRATION, *SNAPSHOTS, "setTrace"}
        verbs = [verb for verb in VERBS if verb.operation not in other]
        for verb in sorted(verbs, key=lambda v: order.index(v.operation) if v.operation in order else 50):
            path = verb.path.replace("{name}", "a")
            if verb.operation == "deletePartition":
                path = path.replace("/a/", "/b/")
                machine.changes.create("b")
            answer = await client.request(verb.method, path, json=bodies_of.get(verb.operation))
            struct = verb.answers[answer.status_code]
            if struct:
                msgspec.json.decode(answer.content, type=struct)
        problem = await client.post("/v1/partitions/a/ipl")
        assert problem.status_code == httpx.codes.CONFLICT
        msgspec.json.decode(problem.content, type=Problem)


def test_sections_named_by_the_rules_are_there() -> None:
    """Every page and heading that a rule of the console or a request names exists."""
    source = Path(__file__).parents[2] / "hcall_server"
    rooms = (source / "control_channel", source / "platform", source.parent / "spec" / "hcall_abi")
    text = "".join(path.read_text("utf-8") for room in rooms for path in room.rglob("*.py"))
    named_sections = set(re.findall(r"spec/control\.md#([\w-]+)", text))
    assert len(named_sections) > 4
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)}
    assert named_sections <= headings
