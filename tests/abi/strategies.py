"""Frames and their bytes for property tests: Hypothesis draws the values, `struct` makes the bytes.

Nothing here uses the codecs under test, so a test can compare the two.
"""

import struct
from collections.abc import Sequence

from hypothesis import strategies as st

from hcall_abi.frames import Goodbye, HCall, Hello, HReturn, Open, Opened, Segment, Write

HELLO, OPEN, OPENED, HCALL, HRETURN, GOODBYE = range(1, 7)

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 2**64 - 1)
s64 = st.integers(-(2**63), 2**63 - 1)
nonces = st.binary(min_size=32, max_size=32)
names = st.text(max_size=40)
registers = st.tuples(*[u64] * 9)


def header(
    kind: int, tag: int, length: int, *, magic: bytes = b"HCAL", version: int = 1, flags: int = 0
) -> bytes:
    """Return the 16 bytes of a frame header."""
    return struct.pack(">4sBBHII", magic, version, kind, flags, tag, length)


def framed(kind: int, body: bytes, tag: int = 0) -> bytes:
    """Return a whole frame of version 1."""
    return header(kind, tag, len(body)) + body


def text(value: str) -> bytes:
    """Return the text as UTF-8 after a length byte."""
    data = value.encode()
    return bytes([len(data)]) + data


def raw_hcall(opcode: int, regs: Sequence[int], table: Sequence[tuple[int, int, int]], data: bytes) -> bytes:
    """Return the body of an HCALL, valid or not."""
    head = struct.pack(">10QHHI", opcode, *regs, len(table), 0, 0)
    return head + b"".join(struct.pack(">QII", *row) for row in table) + data


def raw_hreturn(status: int, regs: Sequence[int], table: Sequence[tuple[int, int]], data: bytes) -> bytes:
    """Return the body of an HRETURN, valid or not."""
    head = struct.pack(">q9QHHI", status, *regs, len(table), 0, 0)
    return head + b"".join(struct.pack(">QII", address, length, 0) for address, length in table) + data


@st.composite
def segment_lists(draw: st.DrawFn) -> list[Segment]:
    """Draw lists of segments that do not overlap, in any order."""
    base = draw(st.sampled_from([0, 0x1000, 2**32 - 8, 2**63, 2**64 - 4096]))
    segments = []
    for _ in range(draw(st.integers(0, 6))):
        base += draw(st.integers(0, 64))
        data = draw(st.binary(max_size=48))
        access = draw(st.sampled_from([1, 2, 3]))
        segments.append(Segment(base, len(data), access, b"" if access == 2 else data))
        base += len(data)
    return draw(st.permutations(segments))


hellos = st.builds(
    lambda low, more, *rest: Hello(low, min(0xFF, low + more), *rest), u8, u8, u32, u64, nonces, names
)
opens = st.one_of(
    st.builds(Open, u32, u16, st.just(0), nonces, st.just(bytes(32)), names),
    st.builds(Open, u32, u16, st.just(1), nonces, nonces, names),
)
openeds = st.builds(Opened, u32, st.integers(-(2**31), 2**31 - 1), u16, u32, nonces, names)
hcalls = st.builds(lambda t, o, r, s: HCall(t, o, r, tuple(s)), u32, u64, registers, segment_lists())
writes = st.lists(st.builds(Write, u64, st.binary(max_size=48)), max_size=5).map(tuple)
hreturns = st.builds(HReturn, u32, s64, registers, writes)
goodbyes = st.builds(Goodbye, u32, names)


def hcall_bytes(frame: HCall) -> bytes:
    """Return an HCALL frame, made with `struct` alone."""
    table = [piece[:3] for piece in frame.segments]
    data = b"".join(data for *_, data in frame.segments)
    return framed(HCALL, raw_hcall(frame.opcode, frame.registers, table, data), frame.tag)


def hreturn_bytes(frame: HReturn) -> bytes:
    """Return an HRETURN frame, made with `struct` alone."""
    table = [(w.address, len(w.data)) for w in frame.writes]
    data = b"".join(w.data for w in frame.writes)
    return framed(HRETURN, raw_hreturn(frame.status, frame.registers, table, data), frame.tag)


def hello_bytes(frame: Hello) -> bytes:
    """Return a HELLO frame, made with `struct` alone."""
    head = struct.pack(">BBHIQ", frame.lowest, frame.highest, 0, frame.max_body, frame.features)
    return framed(HELLO, head + frame.nonce + text(frame.name))


def open_bytes(frame: Open) -> bytes:
    """Return an OPEN frame, made with `struct` alone."""
    head = struct.pack(">HBB", frame.partition, frame.proof_kind, 0)
    return framed(OPEN, head + frame.nonce + frame.proof + text(frame.name), frame.tag)


def opened_bytes(frame: Opened) -> bytes:
    """Return an OPENED frame, made with `struct` alone."""
    head = struct.pack(">iHHI", frame.status, frame.partition, 0, frame.ipl_count)
    return framed(OPENED, head + frame.proof + text(frame.level), frame.tag)


def goodbye_bytes(frame: Goodbye) -> bytes:
    """Return a GOODBYE frame, made with `struct` alone."""
    return framed(GOODBYE, struct.pack(">I", frame.reason) + text(frame.text))


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Draw valid bytes and damage them up to three times: flip, cut, insert, change a word, or append."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "cut", "grow", "insert", "word"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=20))
            case "word":
                data[at : at + 4] = draw(st.sampled_from([bytes(4), b"\xff" * 4, b"\0\0\0\1", b"\0\0\1\0"]))
            case _:
                data += draw(st.binary(min_size=1, max_size=40))
    return bytes(data)
