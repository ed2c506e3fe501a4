"""Packets of the GDB remote serial protocol, without I/O.

A packet is ``$payload#cc``; `cc` is the sum of the payload's bytes modulo 256 in two hexadecimal digits.
``}`` escapes the byte after it (xor 0x20).  In answers, ``*`` repeats the byte before it.  The receiver
acknowledges a packet with ``+`` or refuses it with ``-``, until both ends agree to leave that out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from swpks.qemu.errors import StubError

MAX_PACKET = 1 << 20
"""Longest packet in bytes that is received; QEMU's are some 4 KiB."""

_ESCAPE, _REPEAT = 0x7D, 0x2A
_SPECIAL = re.compile(rb"[$#}*]")
_REPEAT_BIAS = 29
"""A repeat count is sent as a printable byte: the count of further copies plus this number."""


class Sign(Enum):
    """An event in the stream that is no packet."""

    ACK = b"+"
    NACK = b"-"
    DAMAGED = b""
    """A packet came with a wrong checksum; the other end has to send it again."""


Event = bytes | Sign
"""The payload of a packet, or a sign."""


def checksum(raw: bytes) -> bytes:
    """Return the two hexadecimal digits that end a packet."""
    return b"%02x" % (sum(raw) & 0xFF)


def encode(payload: bytes) -> bytes:
    """Return a packet that carries a payload; bytes with a special meaning are escaped."""
    raw = _SPECIAL.sub(lambda found: bytes((_ESCAPE, found[0][0] ^ 0x20)), payload)
    return b"$" + raw + b"#" + checksum(raw)


def expand(raw: bytes) -> bytes:
    """Return a payload with escapes and repeats undone; StubError if it ends inside of one."""
    out = bytearray()
    rest = iter(raw)
    try:
        for byte in rest:
            if byte == _ESCAPE:
                out.append(next(rest) ^ 0x20)
            elif byte == _REPEAT:
                out += out[-1:] * _repeats(next(rest), len(out))
            else:
                out.append(byte)
    except StopIteration:
        raise StubError("a packet ends in the middle of an escape or a repeat") from None
    return bytes(out)


def _repeats(byte: int, before: int) -> int:
    count = byte - _REPEAT_BIAS
    if count < 1 or not before:
        raise StubError(f"a packet repeats {'nothing' if not before else f'a byte {count} times'}")
    return count


class Decoder:
    """Finds signs and packets in a stream of bytes, in whatever pieces the bytes come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Add the next bytes of the stream."""
        self._buffer += data

    def events(self) -> Iterator[Event]:
        """Yield complete events; skip bytes that belong to no packet, as the protocol demands."""
        while self._buffer:
            # Signs occur only outside of packets: inside, + and - are ordinary bytes.
            first = bytes(self._buffer[:1])
            if first in {b"+", b"-"}:
                del self._buffer[:1]
                yield Sign(first)
            elif first == b"$":
                event = self._packet()
                if event is None:
                    return
                yield event
            else:
                del self._buffer[:1]

    def _packet(self) -> Event | None:
        """Return the packet at the start of the buffer, or a sign of damage; None if it is not complete."""
        end = self._buffer.find(b"#")
        # A stub that never sends the end of a packet must not fill the memory.
        if max(end, 0 if end >= 0 else len(self._buffer)) > MAX_PACKET:
            raise StubError(f"a packet of more than {MAX_PACKET} bytes")
        if end < 0 or len(self._buffer) < end + 3:
            return None
        raw, digits = bytes(self._buffer[1:end]), bytes(self._buffer[end + 1 : end + 3])
        del self._buffer[: end + 3]
        # The checksum covers the bytes as sent, with escapes and repeats.
        return expand(raw) if digits.lower() == checksum(raw) else Sign.DAMAGED
