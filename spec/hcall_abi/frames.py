"""The frames of the data channel: Construct definitions, and frames as named tuples.

The Construct definitions decide; spec/protocol.md shows the same bytes as tables.  Every reserved field is
checked, and no byte may follow the last field of a body.  A `repr` never shows a field that may hold a
password, a proof or object data.

`hcall_abi.codec` converts bytes to these tuples, and back.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from construct import (
    Array,
    Bytes,
    Check,
    Const,
    Int8ub,
    Int16ub,
    Int32sb,
    Int32ub,
    Int64sb,
    Int64ub,
    OneOf,
    PascalString,
    Struct,
    Terminated,
    this,
)

MAGIC = b"HCAL"
VERSION = 1
NONCE_SIZE = 32
PROOF_SIZE = 32
MAX_BODY = 256 * 1024
"""Largest body that this server accepts, in bytes: a write of a whole 128 KiB store fits twice."""
ADDRESS_SPACE = 1 << 64


class FrameType(IntEnum):
    """The type byte of a frame header."""

    HELLO = 1
    OPEN = 2
    OPENED = 3
    HCALL = 4
    HRETURN = 5
    GOODBYE = 6


class OpenStatus(IntEnum):
    """The server's answer to OPEN."""

    OPENED = 0
    NO_SUCH_PARTITION = 1
    NOT_AUTHORISED = 2
    NOT_ACTIVATED = 3
    VERSION_NOT_SUPPORTED = 4
    TOO_MANY_SESSIONS = 5


class GoodbyeReason(IntEnum):
    """Why one end ends a session."""

    DONE = 0
    PROTOCOL_ERROR = 1
    IPL_OR_POWER_OFF = 2
    MIGRATED = 3
    SERVER_STOPPING = 4
    IDLE_TOO_LONG = 5
    TOO_SLOW_TO_READ = 6


class ProofKind(IntEnum):
    """How a client proves that it may act for a partition."""

    NONE = 0
    HMAC_SHA256 = 1


class Access(IntEnum):
    """The access of an h-call to a segment of guest memory."""

    IN = 1
    OUT = 2
    BOTH = 3


_ACCESSES = frozenset(int(access) for access in Access)


class Hello(NamedTuple):
    """HELLO: versions and largest body of the server.

    The server sends it as soon as it has accepted a connection.
    """

    lowest: int
    highest: int
    max_body: int
    features: int
    nonce: bytes
    name: str


new_tuple = tuple.__new__
"""Makes a named tuple from the tuple of its values: for the frames of every h-call, at half the price."""


class Open(NamedTuple):
    """OPEN: the partition that the client opens, and its proof."""

    tag: int
    partition: int
    proof_kind: int
    nonce: bytes
    proof: bytes
    name: str

    def __repr__(self) -> str:
        return (
            f"Open(tag={self.tag}, partition={self.partition}, proof_kind={self.proof_kind}, {self.name!r})"
        )


class Opened(NamedTuple):
    """OPENED: the answer to OPEN; after a status other than 0 the server closes."""

    tag: int
    status: int
    partition: int
    ipl_count: int
    proof: bytes
    level: str

    def __repr__(self) -> str:
        return (
            f"Opened(tag={self.tag}, status={self.status}, partition={self.partition}, "
            f"ipl_count={self.ipl_count}, level={self.level!r})"
        )


Piece = tuple[int, int, int, bytes]
"""A `Segment` as it comes off the wire: an exact tuple, which costs a tenth of a named one.  Unlike a
`Segment` it would show its data in a `repr`, so it stays inside an `HCall`, which does not."""


class Segment(NamedTuple):
    """A piece of guest memory that a call may touch; `data` is empty where access is OUT."""

    address: int
    length: int
    access: int
    data: bytes

    @classmethod
    def read(cls, address: int, data: bytes) -> Segment:
        """Return a segment that the call reads."""
        return cls(address, len(data), Access.IN, data)

    @classmethod
    def written(cls, address: int, length: int) -> Segment:
        """Return a segment that the call may write; its bytes do not travel with the call."""
        return cls(address, length, Access.OUT, b"")

    def __repr__(self) -> str:
        return f"Segment(0x{self.address:X}, {self.length} bytes, access {int(self.access)})"


class HCall(NamedTuple):
    """HCALL: an h-call with its registers r4 to r12 and the guest memory that it may touch."""

    tag: int
    opcode: int
    registers: tuple[int, ...]
    segments: tuple[Piece, ...]

    def __repr__(self) -> str:
        segments = [Segment(*piece) for piece in self.segments]
        return f"HCall(tag={self.tag}, opcode=0x{self.opcode:X}, segments={segments})"


class Write(NamedTuple):
    """Bytes that an h-call wrote to guest memory."""

    address: int
    data: bytes

    def __repr__(self) -> str:
        return f"Write(0x{self.address:X}, {len(self.data)} bytes)"


class HReturn(NamedTuple):
    """HRETURN: r3 (signed) and r4 to r12 as the call left them, and the written bytes."""

    tag: int
    status: int
    registers: tuple[int, ...]
    writes: tuple[Write, ...]

    def __repr__(self) -> str:
        return f"HReturn(tag={self.tag}, status={self.status}, writes={self.writes})"


class Goodbye(NamedTuple):
    """GOODBYE: the last frame of a session, from either end."""

    reason: int
    text: str


Frame = Hello | Open | Opened | HCall | HReturn | Goodbye


def overlapping(segments: list[tuple[int, int]]) -> bool:
    """Return whether any two (address, length) pieces of memory share a byte or leave the address space."""
    end = 0
    # The pieces are sorted by address, so only neighbours are compared. Pieces of length 0 are no memory, and
    # may lie anywhere.
    for address, length in sorted(piece for piece in segments if piece[1]):
        if address < end:
            return True
        end = address + length
    return end > ADDRESS_SPACE


def _carried(segments: list[Any]) -> int:
    """Return how many bytes follow the segment table: those of every readable segment."""
    return sum(segment.length for segment in segments if segment.access & Access.IN)


def _accesses_known(context: Any) -> bool:
    return all(segment.access in _ACCESSES for segment in context.segments)


def _segments_apart(context: Any) -> bool:
    return not overlapping([(segment.address, segment.length) for segment in context.segments])


# The length of a name is one byte. So no name has more than 255 bytes, and no check is needed.
_NAME = PascalString(Int8ub, "utf8")

HEADER = Struct(
    "magic" / Const(MAGIC),
    "version" / Int8ub,
    "type" / Int8ub,
    "flags" / Const(0, Int16ub),
    "tag" / Int32ub,
    "length" / Int32ub,
)

HELLO = Struct(
    "lowest" / Int8ub,
    "highest" / Int8ub,
    Const(0, Int16ub),
    "max_body" / Int32ub,
    "features" / Int64ub,
    "nonce" / Bytes(NONCE_SIZE),
    "name" / _NAME,
    # Every body ends with `Terminated`. Without it Construct ignores bytes that are left over.
    Check(this.lowest <= this.highest),
    Terminated,
)

OPEN = Struct(
    "partition" / Int16ub,
    "proof_kind" / OneOf(Int8ub, list(ProofKind)),
    Const(0, Int8ub),
    "nonce" / Bytes(NONCE_SIZE),
    "proof" / Bytes(PROOF_SIZE),
    "name" / _NAME,
    # Kind 0 means that there is no proof. Nothing would check bytes in its field, so they must be zero.
    Check(lambda context: context.proof_kind != ProofKind.NONE or not any(context.proof)),
    Terminated,
)

OPENED = Struct(
    "status" / Int32sb,
    "partition" / Int16ub,
    Const(0, Int16ub),
    "ipl_count" / Int32ub,
    "proof" / Bytes(PROOF_SIZE),
    "level" / _NAME,
    Terminated,
)

HCALL_HEAD = Struct(
    "opcode" / Int64ub,
    "registers" / Array(9, Int64ub),
    "count" / Int16ub,
    Const(0, Int16ub),
    Const(0, Int32ub),
)
SEGMENT = Struct("address" / Int64ub, "length" / Int32ub, "access" / Int32ub)
HCALL = Struct(
    "head" / HCALL_HEAD,
    "segments" / Array(this.head.count, SEGMENT),
    # Both checks have names, because a CheckError has no field. `hcall_abi.breaches` finds the rule by the
    # name.
    "accesses_known" / Check(_accesses_known),
    "segments_apart" / Check(_segments_apart),
    # The segment table gives the length of the data. A second length field could contradict the table.
    "data" / Bytes(lambda context: _carried(context.segments)),
    Terminated,
)

HRETURN_HEAD = Struct(
    "status" / Int64sb,
    "registers" / Array(9, Int64ub),
    "count" / Int16ub,
    Const(0, Int16ub),
    Const(0, Int32ub),
)
WRITE = Struct("address" / Int64ub, "length" / Int32ub, Const(0, Int32ub))
HRETURN = Struct(
    "head" / HRETURN_HEAD,
    "writes" / Array(this.head.count, WRITE),
    "data" / Bytes(lambda context: sum(write.length for write in context.writes)),
    Terminated,
)

GOODBYE = Struct("reason" / Int32ub, "text" / _NAME, Terminated)

BODIES = {
    FrameType.HELLO: HELLO,
    FrameType.OPEN: OPEN,
    FrameType.OPENED: OPENED,
    FrameType.HCALL: HCALL,
    FrameType.HRETURN: HRETURN,
    FrameType.GOODBYE: GOODBYE,
}
"""The Construct definition of every body by frame type."""
