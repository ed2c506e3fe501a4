"""The derived `struct` codecs give the same results as the interpreted Construct definitions."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hcall_abi.codec import ProtocolError, decode, decode_by_definition, encode
from hcall_abi.frames import BODIES, Frame, FrameType, HCall, HReturn, Segment, Write, overlapping
from tests.abi import strategies as wire

HEADER = 16
ZEROS = (0,) * 9


def outcome(read: Callable[[], Frame]) -> Frame | str:
    """Return the frame, or "refused" if the body is refused.

    Messages are left out, because the two decoders may use other words for the same error.
    """
    try:
        return read()
    except ProtocolError:
        return "refused"


def both_agree(kind: int, body: bytes) -> Frame | str:
    """Decode with both decoders, alone and between other bytes; return the result, which must be the same."""
    slow = outcome(lambda: decode_by_definition(kind, 7, body))
    assert outcome(lambda: decode(kind, 7, body, 0, len(body))) == slow
    around = b"\xaa" * 16 + body + b"\xbb" * 64
    assert outcome(lambda: decode(kind, 7, around, 16, 16 + len(body))) == slow
    return slow


@given(wire.hcalls)
def test_valid_calls(frame: HCall) -> None:
    """Both decoders give the same frame for a valid HCALL. It encodes to the bytes that `struct` makes."""
    data = wire.hcall_bytes(frame)
    assert encode(frame) == data
    assert both_agree(FrameType.HCALL, data[HEADER:]) == frame._replace(tag=7)


@given(wire.hreturns)
def test_valid_returns(frame: HReturn) -> None:
    """Both decoders give the same frame for a valid HRETURN. It encodes to the bytes that `struct` makes."""
    data = wire.hreturn_bytes(frame)
    assert encode(frame) == data
    assert both_agree(FrameType.HRETURN, data[HEADER:]) == frame._replace(tag=7)


@given(wire.damaged(wire.hcalls.map(lambda frame: wire.hcall_bytes(frame)[HEADER:])))
def test_damaged_calls(body: bytes) -> None:
    """For flipped bits, cuts, insertions and tails, both decoders give the same frame or both refuse."""
    both_agree(FrameType.HCALL, body)


@given(wire.damaged(wire.hreturns.map(lambda frame: wire.hreturn_bytes(frame)[HEADER:])))
def test_damaged_returns(body: bytes) -> None:
    """For a damaged HRETURN, both decoders give the same frame or both refuse."""
    both_agree(FrameType.HRETURN, body)


@given(st.sampled_from([4, 5]), st.binary(max_size=200))
def test_arbitrary_bodies(kind: int, body: bytes) -> None:
    """For any bytes, both decoders give the same frame or both refuse."""
    both_agree(kind, body)


small = st.integers(0, 40)
rows = st.lists(st.tuples(small, st.integers(0, 12), st.integers(0, 4)), max_size=5)


@given(rows, st.binary(max_size=60))
@example([(10, 5, 1), (12, 0, 2)], b"12345")
@example([(10, 0, 1), (10, 0, 1)], b"")
def test_crowded_segments(table: list[tuple[int, int, int]], data: bytes) -> None:
    """Both decoders agree on segments that overlap, touch, are empty, or have a wrong access or length."""
    carried = sum(length for _, length, access in table if access & 1)
    for content in (data, data[:carried].ljust(carried, b"x")):
        both_agree(FrameType.HCALL, wire.raw_hcall(0x434, ZEROS, table, content))


@given(st.lists(st.tuples(small, st.integers(0, 12)), max_size=5))
def test_overlap_by_counting_bytes(pieces: list[tuple[int, int]]) -> None:
    """`overlapping` is True exactly if some byte address occurs twice."""
    taken = [byte for start, length in pieces for byte in range(start, start + length)]
    assert overlapping(pieces) == (len(taken) != len(set(taken)))


@pytest.mark.parametrize("length,refused", [(4096, False), (4097, True)])
def test_the_end_of_the_address_space(length: int, refused: bool) -> None:
    """A segment may reach the last byte of the address space, but not pass it."""
    table = [(2**64 - 4096, length, 2)]
    assert (both_agree(FrameType.HCALL, wire.raw_hcall(1, ZEROS, table, b"")) == "refused") is refused
    assert overlapping([(2**64 - 4096, length)]) is refused


@pytest.mark.parametrize("kind,size,count_at", [(4, 88, 80), (5, 88, 80)])
def test_every_cut_and_every_reserved_bit(kind: int, size: int, count_at: int) -> None:
    """Both decoders agree if a head is cut at any byte, and if any reserved bit is set."""
    frames = {
        4: wire.hcall_bytes(HCall(1, 0x434, ZEROS, (Segment.read(0, b"ab"), Segment.written(16, 4))))[
            HEADER:
        ],
        5: wire.hreturn_bytes(HReturn(1, -4, ZEROS, (Write(0, b"ab"), Write(16, b""))))[HEADER:],
    }
    body = frames[kind]
    assert len(body) == size + 2 * 16 + 2
    for end in range(len(body)):
        assert both_agree(kind, body[:end]) == "refused"
    reserved = range(8 * (count_at + 2), 8 * (count_at + 8))
    last = range(8 * (size + 12), 8 * (size + 16)) if kind == 5 else range(0)
    for bit in (*reserved, *last):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        assert both_agree(kind, bytes(flipped)) == "refused"


def test_a_count_beyond_the_body_is_refused_without_a_table() -> None:
    """A body that claims 65535 segments, but has no table of them, is refused."""
    for kind in (4, 5):
        assert both_agree(kind, bytes(80) + struct.pack(">HHI", 0xFFFF, 0, 0)) == "refused"


@given(st.one_of(wire.hellos, wire.opens, wire.openeds, wire.goodbyes))
def test_the_other_frames_match_plain_struct(frame: Frame) -> None:
    """HELLO, OPEN, OPENED and GOODBYE encode to the bytes that `struct` makes, and decode back."""
    kind = FrameType[type(frame).__name__.upper()]
    data = getattr(wire, f"{kind.name.lower()}_bytes")(frame)
    assert encode(frame) == data
    tag = frame[0] if kind in (FrameType.OPEN, FrameType.OPENED) else 0
    assert decode(kind, tag, data, HEADER, len(data)) == frame


greetings = st.one_of(
    wire.hellos.map(wire.hello_bytes),
    wire.opens.map(wire.open_bytes),
    wire.openeds.map(wire.opened_bytes),
    wire.goodbyes.map(wire.goodbye_bytes),
)


@given(greetings, st.data())
def test_the_other_frames_damaged(frame: bytes, data: st.DataObject) -> None:
    """A damaged body is refused, or its frame encodes to exactly the damaged bytes."""
    kind, body = frame[5], data.draw(wire.damaged(st.just(frame[HEADER:])))
    try:
        read = decode(kind, 0, body, 0, len(body))
    except ProtocolError:
        return
    assert encode(read)[HEADER:] == body


def test_every_frame_type_has_a_definition() -> None:
    """The table of bodies has every frame type."""
    assert set(BODIES) == set(FrameType)
