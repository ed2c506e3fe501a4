"""A reader of capture files that shares no code with the writer: blocks, options and tags."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
TAGS = {
    0: "end", 12: "dissector", 20: "source", 21: "destination", 24: "port type", 25: "source port",
    26: "destination port", 35: "direction",
}  # fmt: skip


class Recorded(NamedTuple):
    """One frame of a file."""

    seconds: float
    tags: dict[str, bytes]
    data: bytes
    length: int
    dropped: int

    @property
    def connection(self) -> int:
        """The number of its connection: the port of the client."""
        source, destination = (self.tags[f"{end} port"] for end in ("source", "destination"))
        return int.from_bytes(source if self.inbound else destination)

    @property
    def inbound(self) -> bool:
        """Whether the client has sent it."""
        return self.tags["direction"] == bytes((0, 0, 0, 1))

    @property
    def kind(self) -> int:
        """The type of the frame."""
        return self.data[5]

    @property
    def body(self) -> bytes:
        """The bytes behind the header."""
        return self.data[16:]


class Capture(NamedTuple):
    """A whole file: its comment, its frames, and the numbers of its last block if it has one."""

    comment: str
    frames: list[Recorded]
    received: int | None
    dropped: int | None


def read_capture(path: Path) -> Capture:
    """Read a file; it must consist of whole blocks, in the order that the page promises."""
    blocks = list(_blocks(path.read_bytes()))
    kinds = [kind for kind, _ in blocks]
    assert kinds[:2] == [SECTION, INTERFACE]
    section, interface, *rest = (body for _, body in blocks)
    assert struct.unpack_from("<IHHQ", section) == (0x1A2B3C4D, 1, 0, (1 << 64) - 1)
    assert struct.unpack_from("<HHI", interface) == (252, 0, 0)
    assert _options(interface, 8)[9] == b"\x06"
    counts: dict[int, bytes] = {}
    if kinds[-1] == STATISTICS:
        counts = _options(rest.pop(), 12)
        kinds.pop()
    assert set(kinds[2:]) <= {PACKET}
    numbers = [int.from_bytes(counts[code], "little") if counts else None for code in (4, 5)]
    return Capture(_options(section, 16)[1].decode(), [_frame(each) for each in rest], *numbers)


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert size % 4 == 0
        assert size <= len(data)
        assert struct.unpack_from("<I", data, size - 4) == (size,)
        yield kind, data[8 : size - 4]
        data = data[size:]


def _frame(body: bytes) -> Recorded:
    interface, high, low, captured, length = struct.unpack_from("<IIIII", body)
    assert interface == 0
    tags, size = _tags(body[20 : 20 + captured])
    options = _options(body, 20 + captured + -captured % 4)
    inbound = {1: True, 2: False}[options[2][0]]
    dropped = int.from_bytes(options.get(4, b""), "little")
    found = Recorded(
        ((high << 32) + low) / 1e6, tags, body[20 + size : 20 + captured], length - size, dropped
    )
    assert found.inbound is inbound
    return found


def _tags(data: bytes) -> tuple[dict[str, bytes], int]:
    """Return the tags before a frame by name, and their size."""
    tags, offset = {}, 0
    while "end" not in tags:
        kind, size = struct.unpack_from(">HH", data, offset)
        tags[TAGS[kind]] = data[offset + 4 : offset + 4 + size].rstrip(bytes(1) if kind == 12 else b"")
        offset += 4 + size
    return tags, offset


def _options(body: bytes, offset: int) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    while True:
        code, size = struct.unpack_from("<HH", body, offset)
        if code == 0:
            assert offset + 4 == len(body)
            return options
        options[code] = body[offset + 4 : offset + 4 + size]
        offset += 4 + size + -size % 4
