"""Bytes to frames and back.

HELLO, OPEN, OPENED and GOODBYE are sent once a session, so interpreted Construct decodes them.  HCALL and
HRETURN need `struct` codecs, which are derived from the same Construct definitions (`hcall_abi.layout`).
`decode_by_definition` decodes HCALL and HRETURN by Construct, and a property test compares both decoders.
"""

# Two codecs for one definition
#
# The Construct definitions in `hcall_abi.frames` are the contract. Interpreted Construct takes 41 to 47 us
# for a frame with nine registers, a `struct` codec 1 to 2 us. A whole call takes some tens of microseconds,
# so the two frames of a call can't afford the definition. Three ways were tried:
#
#   - Interpreted Construct for all frames: a fifth of the calls per second, or less.
#   - Compiled Construct: it accepts truncated input, so it must never see the bytes of a peer.
#   - Hand-written `struct` formats: as fast as possible, but a second definition that can drift from the
#     first.
#
# The present solution: `hcall_abi.layout` derives the formats from the definitions when the module is loaded.
# Only the order of the checks is written by hand. A property test feeds right, damaged, truncated and
# over-long bytes to both and compares frames and refusals. The other four frames are sent once a session, and
# use the definitions.
#
# The decoders check everything that the definition checks, and name the rule of the first breach. A message
# never has a byte of the body: it may be a password.

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, calcsize
from typing import Any

from construct import Construct, ConstructError

from hcall_abi.breaches import breach
from hcall_abi.errors import PeerError
from hcall_abi.frames import (
    ADDRESS_SPACE,
    BODIES,
    GOODBYE,
    HCALL_HEAD,
    HEADER,
    HELLO,
    HRETURN_HEAD,
    MAGIC,
    OPEN,
    OPENED,
    SEGMENT,
    VERSION,
    WRITE,
    Access,
    Frame,
    FrameType,
    Goodbye,
    HCall,
    Hello,
    HReturn,
    Open,
    Opened,
    Piece,
    Write,
    new_tuple,
    overlapping,
)
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import REGISTERS

HEADER_LAYOUT = FixedLayout(HEADER)
HCALL_HEAD_LAYOUT = FixedLayout(HCALL_HEAD)
SEGMENT_LAYOUT = FixedLayout(SEGMENT)
_HRETURN_HEAD = FixedLayout(HRETURN_HEAD)
_WRITE = FixedLayout(WRITE)

_IN, _OUT, _BOTH = int(Access.IN), int(Access.OUT), int(Access.BOTH)
# Each h-call uses these two functions and sizes. Python finds a name of the module faster than an attribute
# of a layout.
_HCALL_HEAD_SIZE, _unpack_hcall_head = HCALL_HEAD_LAYOUT.size, HCALL_HEAD_LAYOUT.unpack_raw
_SEGMENT_SIZE, _unpack_segments = SEGMENT_LAYOUT.size, SEGMENT_LAYOUT.iterate


_SHOWN = 255
"""The largest access of a segment that a message shows."""


class ProtocolError(PeerError):
    """The peer sent bytes that the protocol does not allow."""


def malformed(rule: Rule, frame: str, found: str) -> ProtocolError:
    """Return the error for a body that breaks `rule`; `found` has numbers, and no bytes of the memory."""
    return ProtocolError(rule, f"malformed {frame}: {found}")


def _cut(size: int, needed: int, part: str) -> str:
    """Return the finding for a body that ends before one of its parts."""
    return f"a body of {size} bytes, {part} needs {needed}"


def decode(kind: int, tag: int, data: bytes, start: int, end: int) -> Frame:
    """Return the frame whose body is `data[start:end]`.

    `kind` is one of `FrameType`.  Raises ProtocolError for a body that its definition refuses.
    """
    if kind == FrameType.HCALL:
        return decode_hcall(tag, data, start, end)
    if kind == FrameType.HRETURN:
        return decode_hreturn(tag, data, start, end)
    return decode_by_definition(kind, tag, data[start:end])


def decode_hcall(tag: int, data: bytes, start: int, end: int) -> HCall:
    """Return the HCALL in `data[start:end]`; ProtocolError if the bytes break its definition."""
    table = start + _HCALL_HEAD_SIZE
    if table > end:
        raise malformed(rules.HCALL_HEAD, "HCALL", _cut(end - start, _HCALL_HEAD_SIZE, "its head"))
    values = _unpack_hcall_head(data, start)
    # These are the two reserved fields behind opcode, nine registers and count. A set bit has a meaning that
    # this release does not know. So the frame is refused.
    if values[11] or values[12]:
        raise malformed(rules.HCALL_RESERVED, "HCALL", "a reserved field is set")
    offset = table + values[10] * _SEGMENT_SIZE
    if offset > end:
        part = f"its head with {values[10]} segments"
        raise malformed(rules.HCALL_SEGMENTS, "HCALL", _cut(end - start, offset - start, part))
    segments = []
    # The loop also finds out whether the segments ascend: then the check of overlaps needs no sort.
    previous = 0
    ordered = True
    for address, length, access in _unpack_segments(data[table:offset]):
        # The most frequent access is compared first, and two comparisons are faster than a mask. This line
        # runs for each segment.
        if access == _IN or access == _BOTH:
            segments.append((address, length, access, data[offset : offset + length]))
            offset += length
        elif access == _OUT:
            segments.append((address, length, access, b""))
        else:
            raise malformed(rules.HCALL_ACCESS, "HCALL", _odd_access(len(segments), access))
        if address < previous:
            ordered = False
        previous = address + length
    # One comparison finds both too few bytes and too many. If the data end too early, the slices are shorter
    # than stated, but `offset` is the sum of the stated lengths.
    if offset != end:
        part = f"its head with {values[10]} segments and their bytes"
        raise malformed(rules.HCALL_BYTES, "HCALL", _cut(end - start, offset - start, part))
    # Usually the segments ascend. Then the loop has shown that none overlap.
    if not (ordered and previous <= ADDRESS_SPACE) and overlapping([piece[:2] for piece in segments]):
        raise malformed(rules.HCALL_OVERLAP, "HCALL", _overlap(segments))
    return new_tuple(HCall, (tag, values[0], values[1:10], tuple(segments)))


def _odd_access(number: int, access: int) -> str:
    """Return the finding for the access of a segment; the first segment has the number 0."""
    # If the table lies elsewhere than its reader believes, the field may hold bytes of a password.  So only
    # a value that a mistaken constant has is shown.
    return f"segment {number} has the access {access if access <= _SHOWN else f'above {_SHOWN}'}"


def _overlap(segments: list[Piece]) -> str:
    """Return the finding for segments that overlap, or that end beyond 64-bit addresses."""
    end, last = 0, 0
    # Sorted as in `overlapping`: a comparison of each with each would take minutes for 65535 segments.
    for number in sorted(range(len(segments)), key=lambda at: segments[at][0]):
        address, length, *_ = segments[number]
        if length and address < end:
            return f"segments {last} and {number} overlap"
        if length:
            end, last = address + length, number
    return f"segment {last} ends beyond 64-bit addresses"


def decode_hreturn(tag: int, data: bytes, start: int, end: int) -> HReturn:
    """Return the HRETURN in `data[start:end]`; ProtocolError if the bytes break its definition."""
    table = start + _HRETURN_HEAD.size
    if table > end:
        raise malformed(rules.HRETURN_HEAD, "HRETURN", _cut(end - start, _HRETURN_HEAD.size, "its head"))
    values = _HRETURN_HEAD.unpack_raw(data, start)
    count = values[10]
    if values[11] or values[12]:
        raise malformed(rules.HRETURN_RESERVED, "HRETURN", "a reserved field is set")
    offset = table + count * _WRITE.size
    if offset > end:
        part = f"its head with {count} writes"
        raise malformed(rules.HRETURN_WRITES, "HRETURN", _cut(end - start, offset - start, part))
    writes: list[Write] = []
    for address, length, reserved in _WRITE.iterate(data[table:offset]):
        if reserved:
            raise malformed(
                rules.HRETURN_RESERVED, "HRETURN", f"a reserved field of write {len(writes)} is set"
            )
        writes.append(Write(address, data[offset : offset + length]))
        offset += length
    if offset != end:
        part = f"its head with {count} writes and their bytes"
        raise malformed(rules.HRETURN_BYTES, "HRETURN", _cut(end - start, offset - start, part))
    return HReturn(tag, values[0], values[1:10], tuple(writes))


# The property test compares this HCALL, made from the parsed definition, with that of `decode_hcall`.
def _read_hcall(tag: int, body: Any) -> HCall:
    segments, offset = [], 0
    for item in body.segments:
        length = item.length if item.access & _IN else 0
        segments.append((item.address, item.length, item.access, body.data[offset : offset + length]))
        offset += length
    return HCall(tag, body.head.opcode, tuple(body.head.registers), tuple(segments))


def _read_hreturn(tag: int, body: Any) -> HReturn:
    writes, offset = [], 0
    for item in body.writes:
        writes.append(Write(item.address, body.data[offset : offset + item.length]))
        offset += item.length
    return HReturn(tag, body.head.status, tuple(body.head.registers), tuple(writes))


_READERS: dict[int, Callable[[int, Any], Frame]] = {
    FrameType.HELLO: lambda tag, b: Hello(b.lowest, b.highest, b.max_body, b.features, b.nonce, b.name),
    FrameType.OPEN: lambda tag, b: Open(tag, b.partition, int(b.proof_kind), b.nonce, b.proof, b.name),
    FrameType.OPENED: lambda tag, b: Opened(tag, b.status, b.partition, b.ipl_count, b.proof, b.level),
    FrameType.HCALL: _read_hcall,
    FrameType.HRETURN: _read_hreturn,
    FrameType.GOODBYE: lambda tag, b: Goodbye(b.reason, b.text),
}


def decode_by_definition(kind: int, tag: int, body: bytes) -> Frame:
    """Return the frame in `body`, by interpreted Construct alone; ProtocolError if Construct refuses it."""
    try:
        return _READERS[kind](tag, BODIES[FrameType(kind)].parse(body))
    except (ConstructError, UnicodeDecodeError) as error:
        # Construct's own texts hold bytes of the frame: neither they nor the cause may be shown.
        raise ProtocolError(*breach(FrameType(kind), error, body)) from None


def _framed(kind: FrameType, tag: int, body: bytes) -> bytes:
    return HEADER_LAYOUT.pack(VERSION, int(kind), tag, len(body)) + body


def _built(kind: FrameType, definition: Construct[Any, Any], frame: Any, tag: int = 0) -> bytes:
    return _framed(kind, tag, definition.build(frame._asdict()))


def encode(frame: Frame) -> bytes:
    """Return the whole frame, header included, as bytes."""
    match frame:
        case HReturn():
            return encode_hreturn(frame)
        case HCall():
            return encode_hcall(frame)
        case Hello():
            return _built(FrameType.HELLO, HELLO, frame)
        case Open():
            return _built(FrameType.OPEN, OPEN, frame, frame.tag)
        case Opened():
            return _built(FrameType.OPENED, OPENED, frame, frame.tag)
        case Goodbye():
            return _built(FrameType.GOODBYE, GOODBYE, frame)


_HCALL_FRAME = Struct(HEADER_LAYOUT.format + HCALL_HEAD_LAYOUT.format[1:])
# Magic, version, type and flags of every HRETURN are the same 8 bytes; packing them as one item is faster.
_HRETURN_START = HEADER_LAYOUT.pack(VERSION, int(FrameType.HRETURN), 0, 0)[:8]
_HRETURN_FRAME = f">{len(_HRETURN_START)}sII" + _HRETURN_HEAD.format[1:]
_WRITE_ITEM = _WRITE.format[1:]
_HRETURN_SIZE, _WRITE_SIZE = _HRETURN_HEAD.size, _WRITE.size


def _packs(layout: str) -> tuple[Callable[..., bytes], ...]:
    """Return functions that pack an answer; function number N takes N registers.

    It writes 0 for the other registers.
    """
    # Most answers have few results. A format with padding writes the zeros, so no tuple of nine numbers
    # is made.
    registers, size = f"{REGISTERS}Q", calcsize(">Q")
    if registers not in layout:
        raise TypeError(f"no {registers} in {layout}")
    fewer = [f"{n}Q{size * (REGISTERS - n)}x" for n in range(REGISTERS + 1)]
    return tuple(Struct(layout.replace(registers, each)).pack for each in fewer)


_pack_answer, _pack_answer_one_write = _packs(_HRETURN_FRAME), _packs(_HRETURN_FRAME + _WRITE_ITEM)


def answer_parts(
    tag: int, status: int, registers: tuple[int, ...], writes: tuple[Write, ...]
) -> tuple[bytes, bytes]:
    """Return the two parts of an HRETURN frame: fields and data.

    The parts are separate, so that a join of frames copies them only once.  `registers` are the values from
    r4 on; the other registers are 0.
    """
    count = len(registers)
    if len(writes) == 1:  # the answer to most reads
        ((address, data),) = writes
        length = len(data)
        size = _HRETURN_SIZE + _WRITE_SIZE + length
        head = (_HRETURN_START, tag, size, status, *registers, 1, 0, 0, address, length, 0)
        return _pack_answer_one_write[count](*head), data
    # A list is faster than a generator here: join would first make a list of it.
    table = b"".join([_WRITE.pack_raw(address, len(data), 0) for address, data in writes])
    data = b"".join([data for _, data in writes])
    size = _HRETURN_SIZE + len(table) + len(data)
    head = (_HRETURN_START, tag, size, status, *registers, len(writes), 0, 0)
    return _pack_answer[count](*head) + table, data


def answered(parts: tuple[bytes, bytes]) -> HReturn:
    """Return the HRETURN frame whose parts `answer_parts` has made."""
    frame = b"".join(parts)
    tag = HEADER_LAYOUT.unpack(frame)[HEADER_LAYOUT.names.index("tag")]
    return decode_hreturn(tag, frame, HEADER_LAYOUT.size, len(frame))


def encode_hreturn(frame: HReturn) -> bytes:
    """Return an HRETURN frame as bytes."""
    return b"".join(answer_parts(*frame))


def encode_hcall(frame: HCall) -> bytes:
    """Return an HCALL frame as bytes."""
    tag, opcode, registers, segments = frame
    table = b"".join([SEGMENT_LAYOUT.pack_raw(*piece[:3]) for piece in segments])
    data = b"".join([piece[3] for piece in segments])
    size = HCALL_HEAD_LAYOUT.size + len(table) + len(data)
    head = _HCALL_FRAME.pack(MAGIC, VERSION, 4, 0, tag, size, opcode, *registers, len(segments), 0, 0)
    return b"".join((head, table, data))
