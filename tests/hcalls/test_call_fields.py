"""The log line of one h-call: registers by name, the label as text, and no secret, for any call."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.arguments import Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import HCall, HReturn, Segment
from hcall_abi.statuses import status_name
from hcall_server.hcalls.call_fields import call_fields, label_text
from hcall_server.hcalls.dispatch import HypervisorCalls
from tests.guest import SYSTEM, Guest, auth_block, lay_out, make_partition
from tests.hcalls.damage import GOOD, PK_LABEL, damages, good
from tests.hcalls.test_secrecy import CANARY, with_canaries
from tests.parts.search import Search

DAMAGES = list(damages())
LINE = 1024
"""Bytes of the longest line, without the fields that the log adds (spec/service.md)."""


def run(call: HCall) -> HReturn:
    partition = make_partition("NEXT", 128)
    Guest(partition).set_password(SYSTEM, CANARY)
    return HypervisorCalls(partition).execute(call)


def leaks(*calls: HCall) -> list[str]:
    """Return the lines in which a part of the canary is visible."""
    search = Search({"canary": CANARY})
    lines = [json.dumps(call_fields(call, run(call))) for call in calls]
    return [line for line in lines if search.within(line.encode())]


def test_a_line_has_each_register_by_its_name() -> None:
    """A line has addresses in hex, lengths in decimal, the results, and the length of the password."""
    layout = lay_out(Opcode.READ_OBJECT, authorization=auth_block(SYSTEM, CANARY), label=b"disk-key", data=64)
    answer = HReturn(1, 0, (32, 0x8000_0000, 0, 0, 0, 0, 0, 0, 0), ())
    assert call_fields(layout.frame(), answer) == {
        "hcall": "READ_OBJECT",
        "consumer": "operating_system",
        "password_length": len(CANARY),
        "label": "disk-key",
        "arguments": {
            "authorization": "0x400000",
            "label": "0x500000",
            "label_length": 8,
            "data": "0x700000",
            "data_length": 64,
        },
        "status": "H_SUCCESS",
        "results": {"size": 32, "policy": "0x80000000"},
    }


@pytest.mark.parametrize("opcode", GOOD)
def test_every_call_has_its_line(opcode: Opcode) -> None:
    """For each call, the line has names in the order of the table, and the label if the call has one."""
    call = good(opcode).frame()
    answer = HypervisorCalls(make_partition("NEXT", 128)).execute(call)
    fields = call_fields(call, answer)
    spec = CALLS[opcode]
    arguments, results = fields["arguments"], fields.get("results", {})
    assert isinstance(arguments, dict)
    assert isinstance(results, dict)
    assert list(arguments) == [arg.name for arg in spec.args]
    assert list(results) == [out.name for out in spec.outputs]
    assert fields["status"] == status_name(answer.status)
    assert ("label" in fields) == any(arg.name == "label" for arg in spec.args)
    assert len(json.dumps(fields)) < LINE


@pytest.mark.parametrize(
    "label,text",
    [
        (b"disk-key", "disk-key"),
        ("clé".encode(), "clé"),
        (b"\xff\0\1", "hex:ff0001"),
        (b"bad\n", "hex:6261640a"),
        (PK_LABEL, "PK"),
        (b"sed-opal\0\2\x10" + bytes(5) + b"disk", "sed-opal:disk"),
        (b"n" * 255, "n" * 64 + "... (255 bytes)"),
    ],
)
def test_labels_as_text(label: bytes, text: str) -> None:
    """A label is shown as text, or as hex if it is no text; only its first 64 bytes are shown."""
    assert label_text(label) == text


@pytest.mark.parametrize(
    "label", [b"\xff" * 255, bytes(255), b"n" * 255, bytes(8) + b"\0\2\x10" + b"\xff" * 200]
)
def test_a_line_is_short(label: bytes) -> None:
    """A line is shorter than LINE for any label and any registers."""
    layout = lay_out(Opcode.SIGNED_UPDATE, authorization=auth_block(SYSTEM), label=label)
    call = layout.frame()
    label_length = (call.registers[1], call.registers[2])
    most = ((1 << 64) - 1,) * 9
    call = call._replace(registers=(call.registers[0], *label_length, *most[3:]))
    assert len(json.dumps(call_fields(call, HReturn(1, -4, most, ())))) < LINE


def test_a_foreign_call_shows_its_number_alone() -> None:
    """An unknown call is logged with its number only: its registers may have any bytes."""
    call = HCall(1, 0x58, (int.from_bytes(CANARY[:8], "big"),) * 9, ())
    assert call_fields(call, HReturn(1, -2, (0,) * 9, ())) == {"hcall": "0x58", "status": "H_FUNCTION"}


def test_no_secret_of_a_call_shows() -> None:
    """R-04: No line shows a right or wrong password, data or a wrapped object."""
    calls = [with_canaries(opcode, password) for opcode in GOOD for password in (CANARY, CANARY + b"!")]
    assert leaks(*calls) == []
    assert all(call_fields(call, run(call))["arguments"] for call in calls)


def test_no_secret_of_a_damaged_call_shows() -> None:
    """R-04: A wrong argument in any form makes no line show the password."""
    for damage in DAMAGES:
        layout = good(damage.opcode, CANARY)
        damage.hurt(layout)
        assert leaks(layout.frame()) == [], damage


@pytest.mark.parametrize(
    "opcode", [opcode for opcode in GOOD if "label" in {arg.name for arg in CALLS[opcode].args}]
)
def test_swapped_registers_show_no_secret(opcode: Opcode) -> None:
    """R-04: If a guest passes its block, password or data as the label, the line does not show it."""
    values = {**GOOD[opcode], "authorization": auth_block(SYSTEM, CANARY)}
    layout = lay_out(opcode, **values)
    block, label = layout.memory["authorization"], layout.memory["label"]
    calls = []
    for address, length in [
        (block.address, block.length),
        (block.address + 16, len(CANARY)),
        (block.address + 20, 9),
        (block.address + 10, 12),
    ]:
        for authorization in (block.address, label.address):
            layout.registers |= {"authorization": authorization, "label": address, "label_length": length}
            calls.append(layout.frame())
    other = layout.frame()
    # This segment holds a second copy of the password.
    twin = Segment(block.address + 0x800, len(CANARY) - 4, 1, CANARY[4:])
    registers = (block.address, twin.address, twin.length, *other.registers[3:])
    calls.append(other._replace(registers=registers, segments=(*other.segments, twin)))
    assert leaks(*calls) == []


SEGMENTS = st.builds(
    lambda address, data, access: Segment(address, len(data), access, data if access & 1 else b""),
    st.integers(0, 1 << 16).map(lambda n: n * 16) | st.integers(0, (1 << 64) - 512),
    st.sampled_from(
        [auth_block(3, CANARY), auth_block(9, CANARY), auth_block(1), auth_block(3, CANARY, length=8)]
    ),
    st.sampled_from([1, 2, 3]),
)


@st.composite
def calls(draw: st.DrawFn) -> HCall:
    """Any call; in most of them registers point into authorization blocks."""
    segments = tuple(draw(st.lists(SEGMENTS, max_size=4)))
    places = [
        number + n for each in segments for number in (each.address, each.length) for n in (0, 1, 16, 20)
    ]
    register = st.sampled_from([*places, 0, 1, 3, 32, 64]) | st.integers(0, (1 << 64) - 1)
    opcode = draw(st.sampled_from([*map(int, GOOD), 0x444]))
    return HCall(1, opcode, tuple(draw(st.lists(register, min_size=9, max_size=9))), segments)


@given(call=calls())
def test_any_call_has_a_line_without_a_secret(call: HCall) -> None:
    """R-04, R-17: For any registers, the line is made without an error and shows no authorization block."""
    line = json.dumps(call_fields(call, HReturn(call.tag, 0, (0,) * 9, ())))
    assert not Search({"canary": CANARY}).within(line.encode()), line
    assert len(line) < LINE


def test_the_search_finds_a_label_that_is_the_canary() -> None:
    """The function `leaks` finds the canary in a label. Otherwise the tests of this file could not fail."""
    call = lay_out(Opcode.READ_OBJECT, authorization=auth_block(SYSTEM), label=CANARY, data=64).frame()
    assert any(arg.kind is Kind.LABEL for arg in CALLS[Opcode.READ_OBJECT].args)
    assert leaks(call) != []
