"""A client of the data channel that sends any bytes, and parses the answers with plain `struct`."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hcall_abi.calls import CALLS
from hcall_abi.frames import Segment
from hcall_client import calls
from hcall_client.calls import Authorization, Request
from hcall_client.request import check_registers

HEADER = struct.Struct(">4sBBHII")
HELLO, OPEN, OPENED, HCALL, HRETURN, GOODBYE = 1, 2, 3, 4, 5, 6
PROTOCOL_ERROR = 1


class Raw(NamedTuple):
    """A frame that the client has received."""

    kind: int
    tag: int
    body: bytes

    @property
    def reason(self) -> int:
        """Return the reason in a GOODBYE."""
        return int.from_bytes(self.body[:4], "big")


def frame(kind: int, body: bytes, tag: int = 0) -> bytes:
    return HEADER.pack(b"HCAL", 1, kind, 0, tag, len(body)) + body


def open_frame() -> bytes:
    return frame(OPEN, bytes(68) + b"\x04fuzz", 1)


def call_frame(request: Request[Any], tag: int) -> bytes:
    """Return the HCALL frame of a request."""
    segments = [Segment(*each) for each in request.segments]
    table = b"".join(struct.pack(">QII", s.address, s.length, s.access) for s in segments)
    data = b"".join(s.data for s in segments)
    registers = struct.pack(">9Q", *check_registers(request.registers))
    head = struct.pack(">Q", request.opcode) + registers + struct.pack(">HHI", len(segments), 0, 0)
    return frame(HCALL, head + table + data, tag)


def parse(data: bytes) -> tuple[list[Raw], bytes]:
    """Return the whole frames in these bytes, and the remaining bytes. Every header must be valid."""
    frames = []
    while len(data) >= HEADER.size:
        magic, version, kind, flags, tag, length = HEADER.unpack_from(data)
        assert (magic, version, flags) == (b"HCAL", 1, 0)
        if len(data) < HEADER.size + length:
            break
        frames.append(Raw(kind, tag, data[HEADER.size : HEADER.size + length]))
        data = data[HEADER.size + length :]
    return frames, data


def connect(path: Path, timeout: float = 20.0) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(str(path))
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Return everything up to the end of the stream."""
    pieces = []
    try:
        while piece := sock.recv(1 << 18):
            pieces.append(piece)
    except ConnectionError:
        pass
    return b"".join(pieces)


def read_frames(sock: socket.socket, count: int) -> list[Raw]:
    """Return exactly this number of frames; no byte after them is read."""
    data = b""
    while len(parse(data)[0]) < count:
        piece = sock.recv(1 << 16)
        assert piece, "the stream has ended"
        data += piece
    frames, rest = parse(data)
    assert (len(frames), rest) == (count, b"")
    return frames


def converse(path: Path, sent: Iterable[bytes]) -> list[Raw]:
    """Send these pieces and the end of the stream; return every frame that the server sends."""
    with connect(path) as sock:
        try:
            for piece in sent:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server has already closed the connection.
        frames, rest = parse(read_all(sock))
    assert not rest, "a frame that was begun is finished"
    return frames


def valid_stream(chance: Random) -> list[bytes]:
    """Return the frames of a conversation without an error."""
    who = Authorization(chance.randint(1, 3))
    label = chance.choice((b"x", b"a longer label"))
    requests: list[Request[Any]] = [
        calls.get_config(),
        calls.write_object(who, label, chance.randbytes(chance.choice((1, 100, 4000)))),
        calls.read_object(who, label),
        calls.confirm_object_flushed(who, label),
        calls.get_object_labels(who),
        calls.remove_object(who, label),
        calls.gen_password(who.consumer, 32),
        calls.raw_call(chance.choice(list(CALLS)), [chance.getrandbits(64) for _ in range(9)]),
    ]
    chosen = chance.choices(requests, k=chance.randint(1, 5))
    return [open_frame(), *(call_frame(each, n + 2) for n, each in enumerate(chosen))]


def damaged(chance: Random) -> bytes:
    """Return a damaged conversation.

    Its bytes are random, cut, flipped or spliced, its frames are out of order, or a length is wrong.
    """
    frames = valid_stream(chance)
    data = b"".join(frames)
    match chance.randrange(8):
        case 0:
            return chance.randbytes(chance.randint(1, 400))
        case 1:
            return data[: chance.randrange(len(data))]
        case 2:
            return _flip(chance, data, chance.randint(1, 6))
        case 3:
            start, end = sorted(chance.randrange(len(data)) for _ in range(2))
            return data[:start] + chance.randbytes(chance.randint(0, 20)) + data[end:]
        case 4:
            chance.shuffle(frames)
            return b"".join(frames * 2)
        case 5:
            kind, length = (
                chance.randint(0, 8),
                chance.choice((0, 15, 104, 1 << 18, (1 << 18) + 1, 0xFFFFFFFF)),
            )
            return frames[0] + HEADER.pack(b"HCAL", 1, kind, 0, 9, length) + chance.randbytes(200)
        case 6:
            return frames[0] + frame(HCALL, chance.randbytes(chance.randint(88, 300)), 5)
        case _:
            head = _flip(chance, frames[-1][:120], 3) + frames[-1][120:]
            return b"".join([*frames[:-1], head])


def _flip(chance: Random, data: bytes, count: int) -> bytes:
    flipped = bytearray(data)
    for _ in range(count):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)
