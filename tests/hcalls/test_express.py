"""The express way decodes a client's frame to the same arguments as the ordinary way, or returns None."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.codec import ProtocolError, decode_hcall, decode_hreturn, encode
from hcall_abi.frames import HCall, HReturn, Segment, new_tuple
from hcall_client.calls import (
    confirm_object_flushed,
    get_object_labels,
    read_object,
    remove_object,
    write_object,
)
from hcall_client.request import Authorization, Request
from hcall_server.hcalls import dispatch
from hcall_server.hcalls.context import Context
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.hcalls.express import SERVED, express_of, source_of
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.hcalls.refusals import Refusal
from hcall_server.platform.partition import Partition
from tests.guest import make_partition

HEADER = 16
TABLE = 88
"""Bytes of an HCALL body before its segments."""
EXPRESS = {opcode: express_of(CALLS[opcode], HANDLERS[opcode].arguments) for opcode in SERVED}
PARTITION = make_partition("NEXT", 64)
OLD_PARTITION = make_partition("FW950", 64)

passwords = st.binary(max_size=40)
labels = st.binary(min_size=1, max_size=40)


@st.composite
def requests(draw: st.DrawFn) -> Request[Any]:
    """A call of the client library that has an express way, with any contents."""
    who = Authorization(draw(st.integers(1, 3)), draw(passwords))
    label = draw(labels)
    make: list[Callable[[], Request[Any]]] = [
        lambda: read_object(who, label, draw(st.sampled_from([0, 1, 64, 4096, 70_000]))),
        lambda: write_object(who, label, draw(st.binary(min_size=1, max_size=80))),
        lambda: remove_object(who, label),
        lambda: confirm_object_flushed(who, label),
        lambda: get_object_labels(who, size=draw(st.sampled_from([1, 64, 4096]))),
    ]
    return draw(st.sampled_from(make))()


NUMBERS = st.one_of(
    st.integers(0, 70),
    st.sampled_from([4095, 4096, 4097, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)


@st.composite
def bent(draw: st.DrawFn, call: HCall) -> HCall:
    """The call with changed numbers: registers, addresses, lengths, accesses, the order of segments."""
    registers, segments = list(call.registers), list(call.segments)
    for _ in range(draw(st.integers(0, 2))):
        registers[draw(st.integers(0, 8))] = draw(NUMBERS)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(segments) - 1))
        address, length, access, data = segments[place]
        move = draw(st.sampled_from([-4096, -16, -1, 0, 1, 8, 16, 4096]))
        address = max(0, address + move)
        access = draw(st.sampled_from([access, access, 1, 2, 3]))
        if not access & 1:
            data = b""
        elif len(data) != length:
            data = bytes(length)
        segments[place] = Segment(address, length, access, data)
        # In half of the cases the register gets the new address too.
        if draw(st.booleans()):
            registers = [address if each == address - move else each for each in registers]
    if draw(st.booleans()):
        segments = draw(st.permutations(segments))
    return HCall(call.tag, call.opcode, tuple(registers), tuple(segments))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """The body of a frame: good, with changed numbers or bytes, too short, or too long."""
    call = draw(bent(draw(requests()).frame(7)))
    body = bytearray(encode(call)[HEADER:])
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.one_of(st.integers(0, len(body) - 1), st.integers(TABLE - 8, TABLE + 80)))
        if place < len(body):
            body[place] = draw(st.one_of(st.integers(0, 3), st.integers(0, 255)))
    cut = draw(st.sampled_from([0, 0, 0, 0, 1, 7, 40, len(body)]))
    return bytes(body[: len(body) - cut]) + draw(st.sampled_from([b"", b"", b"", b"x"]))


def context(partition: Partition, strict: bool) -> Context:
    """Return the context that the ordinary way uses."""
    keystore = partition.keystore
    assert keystore is not None
    return Context(
        keystore.contents.limits, keystore.listings, keystore.continuations, strict, page_aligned=strict
    )


def ordinary(data: bytes, start: int, end: int, known: Context) -> tuple[object, ...] | None:
    """Return the arguments by decoding and checking, or None for a refused frame."""
    try:
        call = decode_hcall(7, data, start, end)
        handler = HANDLERS[Opcode(call.opcode)]
        return new_tuple(handler.arguments, handler.collect(call.registers, call.segments, known))
    except (ProtocolError, Refusal):
        return None


@given(
    bodies(),
    st.binary(max_size=20),
    st.binary(max_size=200),
    st.booleans(),
    st.sampled_from([PARTITION, OLD_PARTITION]),
)
def test_none_or_what_the_ordinary_way_gives(
    body: bytes, before: bytes, behind: bytes, strict: bool, partition: Partition
) -> None:
    """For any frame and any rules, the express way returns None or the arguments of the ordinary way."""
    if len(body) < 8 or int.from_bytes(body[:8], "big") not in SERVED:
        return
    opcode = Opcode(int.from_bytes(body[:8], "big"))
    known = context(partition, strict)
    data, start, end = before + body + behind, len(before), len(before) + len(body)
    found = EXPRESS[opcode](data, start, end, known.limits)
    if found is not None:
        expected = ordinary(data, start, end, known)
        assert expected == found
        assert type(expected) is type(found)
        assert [type(each) for each in expected] == [type(each) for each in found]


OF_THE_CLIENT: dict[Opcode, Callable[[Authorization], Request[Any]]] = {
    Opcode.READ_OBJECT: lambda who: read_object(who, b"label"),
    Opcode.WRITE_OBJECT: lambda who: write_object(who, b"label", b"data"),
    Opcode.REMOVE_OBJECT: lambda who: remove_object(who, b"label"),
    Opcode.CONFIRM_OBJECT_FLUSHED: lambda who: confirm_object_flushed(who, b"label"),
    Opcode.GET_OBJECTLABELS: get_object_labels,
}


@pytest.mark.parametrize("opcode", SERVED)
@pytest.mark.parametrize("size", [0, 12, 64])
def test_the_frames_of_the_client_take_it(opcode: Opcode, size: int) -> None:
    """Frames of the client library take the express way, with passwords up to the longest."""
    known = context(PARTITION, strict=True)
    data = encode(OF_THE_CLIENT[opcode](Authorization(3, bytes(size))).frame(1))
    found = EXPRESS[opcode](data, HEADER, len(data), known.limits)
    assert found is not None
    assert found == ordinary(data, HEADER, len(data), known)


@pytest.mark.parametrize("opcode", SERVED)
def test_a_frame_of_another_shape_does_not(opcode: Opcode) -> None:
    """A valid frame with one more segment does not take the express way; the ordinary way accepts it."""
    known = context(PARTITION, strict=True)
    call = OF_THE_CLIENT[opcode](Authorization(3)).frame(1)
    data = encode(call._replace(segments=(*call.segments, Segment.read(1 << 40, b"more"))))
    assert EXPRESS[opcode](data, HEADER, len(data), known.limits) is None
    assert ordinary(data, HEADER, len(data), known) is not None


@pytest.mark.parametrize("opcode", SERVED)
def test_its_source_can_be_read(opcode: Opcode) -> None:
    """The generated source is one function whose checks name registers, segments and limits."""
    source = source_of(CALLS[opcode])
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert function.name == opcode.name.lower()
    for part in ("a0 == r4", "limits.max_password_size", "consumer in CONSUMERS", "return new(arguments, ("):
        assert part in source


@pytest.mark.parametrize("opcode", set(Opcode) - set(SERVED))
def test_a_call_of_another_shape_has_none(opcode: Opcode) -> None:
    """A call with another layout has no express way."""
    with pytest.raises(TypeError, match="no express way"):
        source_of(CALLS[opcode])


@given(bodies())
def test_an_answer_by_either_way_is_the_same_frame(body: bytes) -> None:
    """`answer` gives the same frame, refusal and count as the codec and `execute`."""
    reported: list[tuple[str, int]] = []
    counts: Counter[tuple[int, int]] = Counter()
    calls = HypervisorCalls(
        PARTITION, lambda refusal, opcode: reported.append((str(refusal), opcode)), counts
    )
    calls.begin()
    try:
        call = decode_hcall(7, body, 0, len(body))
    except ProtocolError as error:
        with pytest.raises(ProtocolError, match=f"^{re.escape(str(error))}$"):
            calls.answer(7, body, 0, len(body))
        return
    if call.opcode in (Opcode.WRITE_OBJECT, Opcode.REMOVE_OBJECT):
        return  # A second run of these calls would have another result.
    parts = calls.answer(7, body, 0, len(body))
    assert parts is not None
    by_answer = reported.copy()
    reported.clear()
    expected = calls.execute(call)
    assert b"".join(parts) == encode(expected)
    assert by_answer == reported
    known = call.opcode if call.opcode in CALLS else 0
    assert counts == {(known, expected.status): 1}


def answered(calls: HypervisorCalls, call: HCall, *, hold: bool = False) -> HReturn | None:
    """Return the decoded answer to a call, or None if a CONFIRM is held."""
    data = encode(call)
    parts = calls.answer(call.tag, data, HEADER, len(data), hold)
    if parts is None:
        return None
    frame = b"".join(parts)
    return decode_hreturn(call.tag, frame, HEADER, len(frame))


@pytest.mark.parametrize("opcode", SERVED)
def test_an_answer_takes_it(opcode: Opcode, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `begin`, the client's frames are answered without decoding. Before it, they are decoded."""
    calls = HypervisorCalls(make_partition("NEXT", 64))
    call = OF_THE_CLIENT[opcode](Authorization(3)).frame(1)
    before = answered(calls, call)
    decoded: list[int] = []

    def noted(tag: int, data: bytes, start: int, end: int) -> HCall:
        decoded.append(tag)
        return decode_hcall(tag, data, start, end)

    monkeypatch.setattr(dispatch, "decode_hcall", noted)
    fresh = HypervisorCalls(make_partition("NEXT", 64))
    fresh.begin()
    assert answered(fresh, call) == before
    assert decoded == []
    answered(HypervisorCalls(make_partition("NEXT", 64)), call)
    assert decoded == [1]


@pytest.mark.parametrize("shape", ["plain", "other"])
def test_a_confirm_is_held_if_it_may_be(shape: str) -> None:
    """With `hold`, both ways return None for a waiting CONFIRM and count nothing.

    Without it, both say "not yet".
    """
    counts: Counter[tuple[int, int]] = Counter()
    calls = HypervisorCalls(make_partition("NEXT", 64), counts=counts)
    calls.begin()
    who = Authorization(3)
    answered(calls, write_object(who, b"label", b"data").frame(1))
    confirm = confirm_object_flushed(who, b"label").frame(2)
    if shape == "other":
        confirm = confirm._replace(segments=(*confirm.segments, Segment.read(1 << 40, b"more")))
    counts.clear()
    assert answered(calls, confirm, hold=True) is None
    assert counts == {}
    answer = answered(calls, confirm)
    assert answer is not None
    assert (answer.status, answer.registers[0]) == (0, 0)
    assert counts == {(confirm.opcode, 0): 1}
