"""The OpenAPI description and the server accept and refuse the same bodies."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest

from hcall_abi.bounds import MAX_COUNT, MAX_EPOCH, MAX_FAULTS, MAX_SECONDS
from hcall_abi.control import JSON, VERBS
from hcall_abi.control_bodies import LARGEST_NUMBER, Body
from hcall_server.control_channel.openapi import description
from tests.control_channel.json_schema import REFERENCE, accepts
from tests.control_channel.rig import in_process, make_machine

SCHEMAS: Mapping[str, Any] = description()["components"]["schemas"]
BODIES = {verb.body.__name__: verb.body for verb in VERBS if verb.body}
TOKEN = "A" * 43 + "="
UUID = "01234567-89ab-cdef-0123-456789abcdef"

NUMBERS = [
    *("0", "1", "2", "-1", "-0", "33", "33.0", "0.0", "1e2", "1E0", "0.5", "-0.5", "1e400", "65535", "65536"),
    *(str(number) for edge in (MAX_COUNT, MAX_EPOCH, LARGEST_NUMBER) for number in (edge, edge + 1)),
    *(str(10**30), str(MAX_SECONDS), str(MAX_SECONDS + 1)),
]
TEXTS = [
    *("", "x", "1", "full", "none", "return", "aborted", "\n", "a\0b", "a\u2028b", "\xa0"),
    *(each * count for each in "xé🦊" for count in (255, 256)),
    *(UUID, UUID.upper(), UUID + "0", UUID + "\n", "0" * 32, "0" * 31, "0" * 33, "A" * 32, "0" * 32 + "\n"),
    *(TOKEN, TOKEN[1:], TOKEN[:-1], "A" * 44, "A", "AA", "AA==", "AB==", "AAA=", "A-==", "AA==AA=="),
    *("AAAA\n", " AAAA", "unix:", "unix:/x", "unix:/x\n", "unix:\0", "udp:h:1"),
    *(f"tcp:{place}" for place in ("::1", "[::1]:7", "[g]:7", "h:", "h:1\n", "h\n:1", "h i:1", "h:123456")),
    *(f"tcp:h:{port}" for port in ("1", "0", "00000", "65535", "65536", "65540", "66000", "99999", "09999")),
]
WRONG = ["null", "true", "false", "{}", "[]", "[0]", "[null]", *NUMBERS, *map(json.dumps, TEXTS)]
"""Values that some fields accept and others refuse."""


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema, or the schema that it refers to."""
    return SCHEMAS[schema["$ref"].removeprefix(REFERENCE)] if "$ref" in schema else schema


def good(schema: Mapping[str, Any]) -> Any:
    """Return a valid value of a schema, with only its required fields."""
    schema = resolved(schema)
    match schema.get("type"):
        case "object":
            return {name: good(schema["properties"][name]) for name in schema.get("required", ())}
        case "array":
            return [good(schema["items"])]
        case "string":
            pattern = schema.get("pattern", "")
            known = {"unix:": "tcp:[::1]:7", "{43}": TOKEN, "{8}": UUID, "{32}": "0" * 32, "{4}": "AA=="}
            return next((value for mark, value in known.items() if mark in pattern), "name")
        case "boolean":
            return True
    return schema["enum"][0] if "enum" in schema else schema.get("minimum", 1)


def known_good(name: str) -> dict[str, Any]:
    """Return a body that both sides accept."""
    return good(SCHEMAS[name]) | ({"key": "AA=="} if name == "TrustedKeySetting" else {})


def texts(name: str) -> Iterator[str]:
    """Yield bodies: valid ones, wrong values for each field, missing or unknown fields, pairs of fields."""
    base = known_good(name)
    fields: Mapping[str, Any] = SCHEMAS[name]["properties"]
    yield from (json.dumps(base), json.dumps(base | {"more": 1}), *WRONG[:10])
    for field, schema in fields.items():
        rest = {key: value for key, value in base.items() if key != field}
        yield json.dumps(rest)
        values = [*WRONG, json.dumps(good(schema))]
        if "items" in resolved(schema):
            values += [f"[{value}]" for value in WRONG]
        yield from (_with(rest, {field: value}) for value in values)
    for one, other in itertools.combinations(fields, 2):
        rest = {key: value for key, value in base.items() if key not in (one, other)}
        pairs = itertools.product(_few(fields[one]), _few(fields[other]))
        yield from (_with(rest, {one: first, other: second}) for first, second in pairs)


def _few(schema: Mapping[str, Any]) -> list[str]:
    return [json.dumps(each) for each in (None, good(schema), *resolved(schema).get("enum", ()))]


def _with(rest: Mapping[str, Any], more: dict[str, str]) -> str:
    """Return an object. The values of `more` are already JSON, so `33.0` stays `33.0`."""
    encoded = {key: json.dumps(value) for key, value in rest.items()} | more
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in encoded.items()) + "}"


def taken(body: type[Body], text: str) -> bool:
    """Return whether the server's decoder accepts a text as this body."""
    try:
        msgspec.json.Decoder(body).decode(text)
    except msgspec.DecodeError:
        return False
    return True


@pytest.mark.parametrize("name", BODIES)
def test_both_judge_a_body_alike(name: str) -> None:
    """Server and description accept or refuse each of some thousand bodies alike.

    The bodies try bounds, fractions, patterns and pairs of fields.
    """
    judged = {text: (taken(BODIES[name], text), accepts(SCHEMAS, name, text)) for text in texts(name)}
    assert {text: both for text, both in judged.items() if both[0] != both[1]} == {}
    assert judged[json.dumps(known_good(name))] == (True, True)
    assert len({taken for taken, _ in judged.values()}) == 2


@pytest.mark.parametrize(
    "text,right",
    [
        ('{"trouble": "full", "commits": 33}', True),
        ('{"trouble": "full", "commits": 33.0}', False),
        ('{"trouble": "full", "commits": 3e1}', False),
        ('{"trouble": "stall", "commits": 1}', False),
        ('{"trouble": "none", "commits": 1}', False),
        ('{"trouble": "stall"}', True),
        (f'{{"trouble": "io", "commits": {MAX_COUNT}}}', True),
        (f'{{"trouble": "io", "commits": {MAX_COUNT + 1}}}', False),
    ],
)
async def test_faults_of_nvram(text: str, right: bool) -> None:
    """The server and the description accept the same fault plans of NVRAM: examples that a user sent."""
    async with in_process(make_machine()) as client:
        answer = await client.put("/v1/nvram/fault", content=text, headers={"content-type": JSON})
    assert answer.status_code == (httpx.codes.OK if right else httpx.codes.BAD_REQUEST), answer.text
    assert accepts(SCHEMAS, "NvramFaultSetting", text) == right


async def test_the_length_of_a_fault_plan() -> None:
    """A fault plan that is too long is refused, and the description has the same bound."""
    machine = make_machine()
    machine.system.create("a", 8)
    fault = {"hcall": "READ_OBJECT", "status": "H_BUSY"}
    async with in_process(machine) as client:
        for count in (MAX_FAULTS, MAX_FAULTS + 1):
            body = {"faults": [fault] * count}
            answer = await client.put("/v1/partitions/a/faults", json=body)
            assert answer.is_success == (count <= MAX_FAULTS)
            assert accepts(SCHEMAS, "FaultPlanSetting", json.dumps(body)) == answer.is_success
