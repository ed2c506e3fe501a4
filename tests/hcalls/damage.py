"""Every wrong form of every argument of an h-call, by the argument's kind, from the table of calls.

Relaxed memory accepts the `STRICT` damages (R-76).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Segment
from hcall_server.keystore.image import StoredObject
from tests.guest import IN, OUT, SYSTEM, WRAPPING, Layout, auth_block, lay_out
from tests.wrapping.second import LEAST_FLAGS, wrap

PASSWORD = b"the right password, of 32 bytes."
LABEL = b"label"
KEY_LABEL = b"wrapping key"
KEY = bytes(range(32))
KEY_OBJECT = StoredObject(SYSTEM, KEY_LABEL, WRAPPING, KEY)
GUID = "9dd2af4adf68ee498aa9347d375665a7"
PK_LABEL = bytes(9) + b"\2\x10" + bytes(5) + b"P\0K\0"
NO_PK = bytes(16) + struct.pack("<IHH", 25, 0x0200, 0x0EF1) + bytes.fromhex(GUID) + b"?"
"""An update that deletes PK, unsigned, as the armed latch allows it."""
GOOD: dict[Opcode, dict[str, int | bytes]] = {
    Opcode.GET_CONFIG: {"config": 520},
    Opcode.SET_PASSWORD: {"consumer": 1, "password": PASSWORD},
    Opcode.GEN_PASSWORD: {"consumer": 2, "password": 32},
    Opcode.GET_OBJECTLABELS: {"labels": 4096},
    Opcode.WRITE_OBJECT: {"label": b"new", "data": b"data"},
    Opcode.READ_OBJECT: {"label": LABEL, "data": 4096},
    Opcode.REMOVE_OBJECT: {"label": LABEL},
    Opcode.CONFIRM_OBJECT_FLUSHED: {"label": LABEL},
    Opcode.GEN_KEY: {"label": b"new key", "key": 48},
    Opcode.WRAP_OBJECT: {"label": KEY_LABEL, "flags": LEAST_FLAGS, "input": b"secret", "output": 1030},
    Opcode.UNWRAP_OBJECT: {"input": wrap(KEY, b"secret"), "output": 6},
    Opcode.REVOKE_OBJECT: {"label": KEY_LABEL},
    Opcode.UNREVOKE_OBJECT: {"label": KEY_LABEL},
    Opcode.SIGNED_UPDATE: {"label": PK_LABEL, "policy": 0x0100_0000, "data": NO_PK},
}
"""Arguments of a successful call, by h-call.

The system has set `PASSWORD`, and the partition holds `LABEL` and `KEY_OBJECT`.
"""

Hurt = Callable[[Layout], None]


class Damage(NamedTuple):
    """One argument that is wrong in one way."""

    opcode: Opcode
    arg: Arg
    what: str
    hurt: Hurt
    strict: bool = False

    def __str__(self) -> str:
        return f"{self.opcode.name}-{self.arg.name}-{self.what.replace(' ', '_')}"


def good(opcode: Opcode, password: bytes = PASSWORD) -> Layout:
    """Lay out a call that succeeds."""
    values = dict(GOOD[opcode])
    if any(arg.kind is Kind.AUTHORIZATION for arg in CALLS[opcode].args):
        values["authorization"] = auth_block(SYSTEM, password)
    return lay_out(opcode, **values)


def damages() -> Iterator[Damage]:
    """Yield each damage of each argument of each call."""
    for opcode in GOOD:
        for arg in CALLS[opcode].args:
            for what, hurt, strict in _ways(opcode, arg):
                yield Damage(opcode, arg, what, hurt, strict)


Way = tuple[str, Hurt, bool]


def _ways(opcode: Opcode, arg: Arg) -> Iterator[Way]:
    match arg.kind:
        case Kind.AUTHORIZATION:
            yield from _memory_ways(arg, IN)
            yield from _block_ways(arg)
        case kind if kind.readable:
            yield from _memory_ways(arg, IN)
        case kind if kind.writable:
            yield from _memory_ways(arg, OUT)
        case kind if kind.is_length:
            yield from _length_ways(opcode, arg)
        case _:
            yield from _value_ways(opcode, arg)


def _segment(layout: Layout, name: str, **changed: int | bytes) -> None:
    layout.memory[name] = layout.memory[name]._replace(**changed)  # type: ignore[arg-type]


def _memory_ways(arg: Arg, access: int) -> Iterator[Way]:
    name = arg.name

    def nowhere(layout: Layout) -> None:
        del layout.memory[name]

    def wrong_access(layout: Layout) -> None:
        start, length, _, _ = layout.memory[name]
        other = OUT if access == IN else IN
        layout.memory[name] = Segment(start, length, other, bytes(length) if other == IN else b"")

    def too_short(layout: Layout) -> None:
        _, length, _, data = layout.memory[name]
        _segment(layout, name, length=length - 1, data=data[:-1])

    def begins_before(layout: Layout) -> None:
        _segment(layout, name, address=layout.memory[name].address + 16)

    def in_two(layout: Layout) -> None:
        start, length, _, data = layout.memory[name]
        cut = length - 1
        layout.memory[name] = Segment(start, cut, access, data[:cut])
        layout.memory[name + " tail"] = Segment(start + cut, 1, access, data[cut:])

    yield "nowhere", nowhere, False
    yield "wrong access", wrong_access, False
    yield "too short", too_short, False
    yield "begins before", begins_before, False
    yield "in two segments", in_two, False
    if arg.one_page:
        yield "crosses a page", lambda layout: _move(layout, name, 4096 - 16), True
    if arg.alignment > 1:
        yield "misaligned by 1", lambda layout: _move(layout, name, 1), True
        yield "misaligned by half", lambda layout: _move(layout, name, arg.alignment // 2), True


def _move(layout: Layout, name: str, offset: int) -> None:
    """Move a buffer to this offset in its page. A short buffer grows, so that it crosses the page."""
    start, length, access, data = layout.memory[name]
    if offset + length <= 4096 and offset > 4000:
        length, data = 32, data.ljust(32, b"x") if data else data
        layout.registers[layout.places[name].length or name] = length
    layout.memory[name] = Segment(start + offset, length, access, data)
    layout.registers[name] = start + offset


def _block_ways(arg: Arg) -> Iterator[Way]:
    def put(block: bytes) -> Hurt:
        return lambda layout: layout.readable(arg.name, block)

    right = auth_block(SYSTEM, PASSWORD)
    for version in (0, 2, 255):
        yield f"version {version}", put(auth_block(SYSTEM, PASSWORD, version=version)), False
    for consumer in (0, 4, 255):
        yield f"consumer {consumer}", put(auth_block(consumer, PASSWORD)), False
    for reserved in range(2, 14):
        yield f"reserved byte {reserved}", put(right[:reserved] + b"\1" + right[reserved + 1 :]), False
    yield "password too long", put(auth_block(SYSTEM, PASSWORD + bytes(33))), False
    yield "password beyond the segment", put(auth_block(SYSTEM, PASSWORD, length=33)), False
    yield "head alone", put(right[:16]), False
    yield "head and password in two segments", _split_block, False


def _split_block(layout: Layout) -> None:
    start, length, access, data = layout.memory["authorization"]
    layout.memory["authorization"] = Segment(start, 16, access, data[:16])
    layout.memory["password"] = Segment(start + 16, length - 16, access, data[16:])


BAD_LENGTHS = {
    (Opcode.GET_CONFIG, "config_length"): (0, 23),
    (Opcode.SET_PASSWORD, "password_length"): (0, 65),
    (Opcode.GEN_PASSWORD, "password_length"): (0, 31, 65),
    (Opcode.GET_OBJECTLABELS, "labels_length"): (0, 2 + len(LABEL) - 1),
    (Opcode.WRITE_OBJECT, "data_length"): (0, 128 * 1024 + 1),
    (Opcode.GEN_KEY, "key_length"): (0, 128 * 1024 + 1),
    (Opcode.WRAP_OBJECT, "input_length"): (0, 0x10000),
    (Opcode.WRAP_OBJECT, "output_length"): (0, 1029),
    (Opcode.UNWRAP_OBJECT, "input_length"): (0, 1024, 0x10000 + 1024),
    (Opcode.UNWRAP_OBJECT, "output_length"): (0, 5),
    (Opcode.SIGNED_UPDATE, "data_length"): (0, 0x1_0000),
    # The only wrong length of READ is too small. Its status is H_TOO_BIG, so it is no damage.
    (Opcode.READ_OBJECT, "data_length"): (),
}


def _length_ways(opcode: Opcode, arg: Arg) -> Iterator[Way]:
    buffer = next(each for each in CALLS[opcode].args if each.length == arg.name)
    bad = (0, 256) if arg.name == "label_length" else BAD_LENGTHS[opcode, arg.name]

    def resize(length: int) -> Hurt:
        if buffer.kind.writable:
            return lambda layout: layout.writable(buffer.name, length)
        return lambda layout: layout.readable(buffer.name, b"x" * length)

    for length in bad:
        yield f"length {length}", resize(length), False


BAD_WRAP_FLAGS = (
    0,
    LEAST_FLAGS & ~0xF,
    LEAST_FLAGS + 1,
    LEAST_FLAGS + 0x10,
    LEAST_FLAGS & 0xF,
    LEAST_FLAGS | 0x8000_0000_0000_0000,
    LEAST_FLAGS | 0x0800_0000_0000_0000,
    LEAST_FLAGS | 0x6000_0000_0000_0000,
)
BAD_VALUES = {
    "flags": (1, 1 << 63),
    "consumer": (0, 4, 256 + 1, 1 << 63),
    "reserved": (1, 1 << 63),
    "token": (1, 99, (1 << 64) - 1),
    "policy": (0x1, 0x2, 0x8, 0x100_0000, 0x80_0000, 0x8000_0000, 1 << 32, (1 << 32) + 0x800_0000),
}
BAD_UPDATE_VALUES = {
    "flags": (1, 2, 1 << 63),
    "policy": (0, 0x180_0000, 0x100_0001, 0x100_0008, (1 << 32) + 0x100_0000),
}


def _value_ways(opcode: Opcode, arg: Arg) -> Iterator[Way]:
    def put(value: int) -> Hurt:
        return lambda layout: layout.registers.__setitem__(arg.name, value)

    bad = BAD_VALUES[arg.name]
    if opcode is Opcode.WRAP_OBJECT and arg.name == "flags":
        bad = BAD_WRAP_FLAGS
    if opcode is Opcode.SIGNED_UPDATE:
        bad = BAD_UPDATE_VALUES.get(arg.name, bad)
    if opcode is Opcode.GEN_KEY and arg.name == "policy":
        bad = (*(value for value in bad if value != WRAPPING), WRAPPING | 0x800_0000)
    for value in bad:
        yield f"value {value:#x}", put(value), False
