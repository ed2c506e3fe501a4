"""Frames: every malformed frame of the golden vectors, frames in pieces, and the largest body."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.codec import decode, encode
from hcall_abi.frames import MAX_BODY, FrameType, GoodbyeReason, HCall, HReturn, Segment
from hcall_abi.rules import protocol as rules
from hcall_abi.statuses import REGISTERS
from swpks.conformance.case import ConformanceCase, Deviation, by_rule
from swpks.conformance.server.connection import RawConnection
from swpks.conformance.server.draft import Draft
from swpks.conformance.server.judged import Attempt, Facts, Judged, JudgedSession, opened_on
from swpks.conformance.vectors import FrameVector, frames, wrong_frames

_FRAMING = "spec/protocol.md#framing"
_HEADER, _HEAD, _SEGMENT = 16, 88, 16
"""Bytes of a frame header, of the fields before the segment table, and of one entry of it."""
_NO_PARTITION = 0xFFFF


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    for vector in wrong_frames("server"):
        yield ConformanceCase(f"frames.{vector.name}", vector.section, vector.rule_id, _refused(vector))
    for vector in frames("hcall"):
        if vector.valid:
            yield ConformanceCase(f"frames.{vector.name}", "spec/protocol.md#hcall", "", _answered(vector))
    for size in (1, 7, 16, 17):
        yield ConformanceCase(f"frames.pieces-of-{size}", _FRAMING, "", _in_pieces(size))
    yield ConformanceCase("frames.many-in-one-piece", _FRAMING, "", _many_at_once)
    yield ConformanceCase("frames.largest-body", _FRAMING, "", _largest_body)
    yield by_rule("frames.body-above-hello", rules.FRAME_LENGTH, _above_largest_body)
    yield by_rule("frames.refused-by-header-alone", rules.FRAME_LENGTH, _by_header_alone)
    yield by_rule("frames.cut-off", rules.FRAME_WHOLE, _cut_off)
    yield by_rule("frames.first-breach-ends", rules.SESSION_OVER, _dropped)


def _refused(vector: FrameVector) -> Attempt:
    """Return a case that sends this wrong frame.

    The server must end the session with GOODBYE 1, and must go on serving other sessions.
    """

    def attempt(judged: Judged) -> None:
        connection = _in_state(judged, vector.state)
        connection.send(vector.data, f"{vector.name}: {vector.hex[:48]}")
        # The server closes after a refusal, perhaps before the frame arrives.  Then no GOODBYE comes.
        if vector.state == "refused":
            connection.expect_closed()
        else:
            connection.expect_goodbye(GoodbyeReason.PROTOCOL_ERROR)
        _still_served(judged)

    return attempt


def _in_state(judged: Judged, state: str) -> RawConnection:
    """Return a connection in a state of a session: `open`, `refused`, or before OPEN."""
    connection = judged.connect()
    hello = connection.hello()
    if state == "open":
        opened = connection.open(hello)
        if opened.status:
            raise Deviation("OPENED with status 0", f"status {opened.status}")
    if state == "refused":
        opened = connection.open(hello, partition=_NO_PARTITION)
        if not opened.status:
            raise Deviation("a refusal of the partition 65535", "OPENED with status 0")
    return connection


def _still_served(judged: Judged) -> None:
    """Make a call over the main session: a connection that broke the protocol must not disturb it."""
    judged.session.call(Draft.of(Opcode.GET_CONFIG, config=24))


def _answered(vector: FrameVector) -> Attempt:
    """Return a case that sends the valid HCALL of this vector.

    The server must answer with an HRETURN that has the same tag, and any status.
    """

    def attempt(judged: Judged) -> None:
        connection = _in_state(judged, "open")
        connection.send(vector.data, f"{vector.name}: {vector.hex[:48]}")
        call = decode(FrameType.HCALL, 0, vector.data, _HEADER, len(vector.data))
        # The bytes of this WRITE are sent as they are, so `Judged.write` could not note the object for its
        # removal.
        if isinstance(call, HCall) and call.opcode == Opcode.WRITE_OBJECT:
            judged.made(next(data for address, _, _, data in call.segments if address == call.registers[1]))
        frame = connection.frame("HRETURN")
        tag = int.from_bytes(vector.data[8:12], "big")
        if not isinstance(frame, HReturn) or frame.tag != tag:
            raise Deviation(f"HRETURN with tag {tag}", repr(frame))

    return attempt


def _in_pieces(size: int) -> Attempt:
    """Return a case that sends all frames of a session in pieces of `size` bytes."""

    def attempt(judged: Judged) -> None:
        connection = judged.connect()
        hello = connection.hello()
        opening, _ = connection.opening(hello)
        _send_pieces(connection, encode(opening), size)
        if connection.opened().status:
            raise Deviation("OPENED with status 0", "a refusal")
        _send_pieces(connection, encode(Draft.of(Opcode.GET_CONFIG, config=24).frame(7)), size)
        connection.frame("HRETURN")

    return attempt


def _send_pieces(connection: RawConnection, data: bytes, size: int) -> None:
    # Each piece is sent alone.  The kernel may join pieces, so the server may read other sizes.
    for start in range(0, len(data), size):
        connection.send(data[start : start + size])


def _many_at_once(judged: Judged) -> None:
    judged.open().calls([Draft.of(Opcode.GET_CONFIG, config=24) for _ in range(50)])


def _largest_body(judged: Judged) -> None:
    """The server answers a call whose body has exactly the `max_body` of HELLO."""
    session = judged.open()
    session.connection.send(encode(_of_size(judged.facts.hello.max_body)), "HCALL with the largest body")
    session.connection.frame("HRETURN")


def _above_largest_body(judged: Judged) -> None:
    session = judged.open()
    session.connection.send(encode(_of_size(judged.facts.hello.max_body + 1)), "HCALL with one byte too many")
    session.connection.expect_goodbye(GoodbyeReason.PROTOCOL_ERROR)


def _of_size(size: int) -> HCall:
    """Return an HCALL of an unknown opcode whose body has `size` bytes.

    `size` comes from `max_body` of HELLO.  If that is out of bounds, Deviation is raised.
    """
    if not _HEAD + _SEGMENT < size <= MAX_BODY + 1:
        raise Deviation(f"a largest body of {_HEAD + _SEGMENT + 1} to {MAX_BODY} bytes in HELLO", str(size))
    data = bytes(size - _HEAD - _SEGMENT)
    return HCall(2, 0, (0,) * REGISTERS, (Segment.read(0x10000, data),))


def _by_header_alone(judged: Judged) -> None:
    """The server refuses a body that is too long as soon as it has the header."""
    # No body is sent.  A server that waits for the body has to allocate memory for it.  Any stranger could
    # then make the server allocate much memory.
    session = judged.open()
    header = encode(_of_size(judged.facts.hello.max_body + 1))[:16]
    session.connection.send(header, "the header of an HCALL with one byte too many")
    session.connection.expect_goodbye(GoodbyeReason.PROTOCOL_ERROR)


def _cut_off(judged: Judged) -> None:
    """A stream that ends inside a frame ends its session, and no other session."""
    session = judged.open()
    session.connection.send(encode(Draft.of(Opcode.GET_CONFIG, config=24).frame(2))[:40], "half an HCALL")
    session.connection.end_sending()
    session.connection.expect_closed()
    _still_served(judged)


def _dropped(judged: Judged) -> None:
    """The server does not answer a call that follows a broken frame."""
    session: JudgedSession = opened_on(judged.connect())
    bad = bytearray(encode(Draft.of(Opcode.GET_CONFIG, config=24).frame(2)))
    bad[6] = 0x80
    good = encode(Draft.of(Opcode.GET_CONFIG, config=24).frame(3))
    session.connection.send(bytes(bad) + good, "an HCALL with a flag, then a right one")
    session.connection.expect_goodbye(GoodbyeReason.PROTOCOL_ERROR)
