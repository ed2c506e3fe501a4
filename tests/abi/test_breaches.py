"""For a malformed body, both decoders of the codec report the same rule and the wrong field."""

import pytest

from hcall_abi.codec import ProtocolError, decode, decode_by_definition, encode
from hcall_abi.frames import FrameType, HCall, HReturn, Segment, Write
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from tests.abi.sessions import FRAMES, OPEN, ZEROS

HEADER, HEAD, ROW = 16, 88, 16
"""Bytes of a frame's header, of the head of an HCALL or HRETURN, and of a segment or write."""
LEFT_OVER = {
    FrameType.HELLO: rules.HELLO_END,
    FrameType.OPEN: rules.OPEN_END,
    FrameType.OPENED: rules.OPENED_END,
    FrameType.HCALL: rules.HCALL_BYTES,
    FrameType.HRETURN: rules.HRETURN_BYTES,
    FrameType.GOODBYE: rules.GOODBYE_END,
}
CALL = HCall(1, 0x434, ZEROS, (Segment.read(0, b"ab"), Segment.written(16, 4)))
RETURN = HReturn(1, 0, ZEROS, (Write(0, b"ab"), Write(16, b"c")))
PARTS = {
    FrameType.HCALL: (CALL, rules.HCALL_HEAD, rules.HCALL_SEGMENTS, rules.HCALL_BYTES),
    FrameType.HRETURN: (RETURN, rules.HRETURN_HEAD, rules.HRETURN_WRITES, rules.HRETURN_BYTES),
}


def slow(kind: FrameType, body: bytes) -> ProtocolError:
    """Return the error of `decode_by_definition` for this body."""
    with pytest.raises(ProtocolError) as caught:
        decode_by_definition(kind, 7, body)
    assert caught.value.message.startswith(f"malformed {kind.name}: ")
    return caught.value


def both(kind: FrameType, body: bytes) -> Rule:
    """Return the rule that both decoders name for this body; fail if they differ."""
    with pytest.raises(ProtocolError) as caught:
        decode(kind, 7, body, 0, len(body))
    assert caught.value.rule is slow(kind, body).rule
    return caught.value.rule


@pytest.mark.parametrize("kind", FrameType)
def test_bytes_left_over(kind: FrameType) -> None:
    """In every frame type, bytes after the last field break a rule."""
    body = encode(FRAMES[kind])[HEADER:] + b"\0"
    assert both(kind, body) is LEFT_OVER[kind]
    assert slow(kind, body).message == f"malformed {kind.name}: bytes left over"


@pytest.mark.parametrize("kind", PARTS)
def test_a_body_that_ends_too_early_is_told_by_the_part_that_is_cut(kind: FrameType) -> None:
    """The error of a short body names the part that is cut: the head, the table or the memory after it."""
    frame, *parts = PARTS[kind]
    body = encode(frame)[HEADER:]  # type: ignore[arg-type]
    for end in range(len(body)):
        part = 0 if end < HEAD else 1 if end < HEAD + 2 * ROW else 2
        assert both(kind, body[:end]) is parts[part], end


def test_a_proof_without_a_kind_is_named() -> None:
    """An OPEN that names no kind of proof must have no bytes of a proof."""
    body = encode(OPEN)[HEADER:].replace(OPEN.nonce + bytes(32), OPEN.nonce + bytes(31) + b"\1")
    error = slow(FrameType.OPEN, body)
    assert (error.rule, error.message) == (rules.OPEN_PROOF_ZERO, "malformed OPEN: proof")


def test_a_reserved_field_of_a_head_is_named() -> None:
    """A reserved bit in the head of an HCALL or HRETURN breaks the rule about reserved bits of that frame."""
    for kind, rule in ((FrameType.HCALL, rules.HCALL_RESERVED), (FrameType.HRETURN, rules.HRETURN_RESERVED)):
        good = encode(PARTS[kind][0])[HEADER:]  # type: ignore[arg-type]
        for at in range(82, HEAD):
            assert both(kind, good[:at] + b"\1" + good[at + 1 :]) is rule


def test_segments_that_overlap_break_their_own_rule() -> None:
    """For segments that overlap, both decoders name the rule of overlaps."""
    call = HCall(1, 0x434, ZEROS, (Segment.read(0, b"abcdefgh"), Segment.written(4, 8)))
    assert both(FrameType.HCALL, encode(call)[HEADER:]) is rules.HCALL_OVERLAP


SMALL = Segment.read(0, b"ab")


@pytest.mark.parametrize(
    "body,message",
    [
        (encode(CALL)[HEADER : HEADER + 80], "a body of 80 bytes, its head needs 88"),
        (encode(CALL)[HEADER : HEADER + 100], "a body of 100 bytes, its head with 2 segments needs 120"),
        (encode(CALL)[HEADER:-1], "a body of 121 bytes, its head with 2 segments and their bytes needs 122"),
        (
            encode(CALL)[HEADER:] + b"x",
            "a body of 123 bytes, its head with 2 segments and their bytes needs 122",
        ),
        (encode(CALL)[HEADER:].replace(b"\0\0\0\2" + b"ab", b"\0\0\0\7ab"), "segment 1 has the access 7"),
        (encode(CALL)[HEADER:].replace(b"\0\0\0\2" + b"ab", b"seceab"), "segment 1 has the access above 255"),
    ],
)
def test_a_malformed_call_has_its_numbers(body: bytes, message: str) -> None:
    """The message has the number of the segment and the sizes; no bytes that may be of a secret."""
    with pytest.raises(ProtocolError) as caught:
        decode(FrameType.HCALL, 7, body, 0, len(body))
    assert caught.value.message == f"malformed HCALL: {message}"


@pytest.mark.parametrize(
    "segments,message",
    [
        (
            (SMALL, Segment.written(9, 4), Segment.written(1, 0), Segment.written(1, 9)),
            "segments 0 and 3 overlap",
        ),
        ((Segment.written((1 << 64) - 1, 4), SMALL), "segment 0 ends beyond 64-bit addresses"),
    ],
)
def test_overlaps_have_their_numbers(segments: tuple[Segment, ...], message: str) -> None:
    """The message has the numbers of two segments that overlap, or of the one that ends too far."""
    body = encode(HCall(1, 0x434, ZEROS, segments))[HEADER:]
    with pytest.raises(ProtocolError) as caught:
        decode(FrameType.HCALL, 7, body, 0, len(body))
    assert caught.value.message == f"malformed HCALL: {message}"
