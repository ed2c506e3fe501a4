"""The blocks of a capture file: pcapng, with frames of the data channel as exported PDUs.  Pure.

Facts: draft-ietf-opsawg-pcapng for the blocks, epan/exported_pdu_tlvs.h of Wireshark for the tags.  Blocks
are little-endian, tags are big-endian, as both documents say or permit.
"""

# Why exported PDUs
#
# A frame needs a link type that tells Wireshark its dissector.  A DLT_USER number would need a preference at
# each reader.  TCP segments with invented headers would need a port preference, and the dissector would put
# together frames that the server has cut already.  An exported PDU (link type 252) names its dissector in a
# tag, so a file opens without any preference.
#
# Wireshark tells conversations apart by addresses and ports.  So each frame has these tags, with invented
# values.  The server is 127.0.0.1, port 1.  A client is 127.0.0.2, and its port is the number of its
# connection; the log has the same number in the field `connection`.

from __future__ import annotations

from struct import Struct, pack
from typing import NamedTuple

LINK_TYPE = 252
"""LINKTYPE_WIRESHARK_UPPER_PDU."""
DISSECTOR = b"swpks"
SERVER_ADDRESS, SERVER_PORT = bytes((127, 0, 0, 1)), 1
CLIENT_ADDRESS = bytes((127, 0, 0, 2))
SNAP_LENGTH = 0
"""No limit: each frame is recorded as a whole."""

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER = 0x1A2B3C4D
_LENGTH_UNKNOWN = 0xFFFFFFFFFFFFFFFF

# Options of blocks
_COMMENT, _APPLICATION = 1, 4
_NAME, _RESOLUTION = 2, 9
_FLAGS, _DROP_COUNT = 2, 4
_RECEIVED, _DROPPED = 4, 5
_MICROSECONDS = b"\x06"
_INBOUND, _OUTBOUND = 1, 2

# Tags of exported PDUs
_TAG_END, _TAG_DISSECTOR = 0, 12
_TAG_SOURCE, _TAG_DESTINATION = 20, 21
_TAG_PORT_TYPE, _TAG_SOURCE_PORT, _TAG_DESTINATION_PORT = 24, 25, 26
_TAG_DIRECTION = 35
_PORT_TYPE_TCP = 2
_SENT, _RECEIVED_BY_SERVER = 0, 1

_BLOCK = Struct("<II").pack
_PACKET_HEAD = Struct("<IIIII").pack
_OPTION = Struct("<HH").pack
_TAG = Struct(">HH").pack
_WORD = Struct(">I").pack


class Packet(NamedTuple):
    """One frame in the file.

    `microseconds` since 1970 (UTC).  `inbound` is true for a frame of the client.  `length` is that of the
    whole frame, of which `data` may be only the start.  `dropped` frames are missing before this one.
    """

    microseconds: int
    connection: int
    inbound: bool
    data: bytes
    length: int
    dropped: int = 0


def section(application: str, comment: str) -> bytes:
    """Return the first bytes of a file: its section header, and its one interface."""
    head = pack("<IHHQ", _BYTE_ORDER, 1, 0, _LENGTH_UNKNOWN)
    options = _options((_COMMENT, comment.encode()), (_APPLICATION, application.encode()))
    interface = pack("<HHI", LINK_TYPE, 0, SNAP_LENGTH)
    described = _options((_NAME, DISSECTOR), (_RESOLUTION, _MICROSECONDS))
    return _block(_SECTION, head + options) + _block(_INTERFACE, interface + described)


def packet(frame: Packet) -> bytes:
    """Return the block of a frame."""
    tags = _tags(frame.connection, frame.inbound)
    captured = len(tags) + len(frame.data)
    high, low = divmod(frame.microseconds, 1 << 32)
    head = _PACKET_HEAD(0, high, low, captured, len(tags) + frame.length)
    flags = pack("<I", _INBOUND if frame.inbound else _OUTBOUND)
    options = [(_FLAGS, flags), (_DROP_COUNT, pack("<Q", frame.dropped))][: 2 if frame.dropped else 1]
    return _block(_PACKET, head + _padded(tags + frame.data) + _options(*options))


def statistics(microseconds: int, received: int, dropped: int) -> bytes:
    """Return the last block of a complete file: how many frames came, and how many of them are missing."""
    head = pack("<III", 0, *divmod(microseconds, 1 << 32))
    options = _options((_RECEIVED, pack("<Q", received)), (_DROPPED, pack("<Q", dropped)))
    return _block(_STATISTICS, head + options)


def _tags(connection: int, inbound: bool) -> bytes:
    """Return the tags before a frame: its dissector, and the conversation that it belongs to."""
    client, server = (CLIENT_ADDRESS, connection), (SERVER_ADDRESS, SERVER_PORT)
    source, destination = (client, server) if inbound else (server, client)
    tags = (
        (_TAG_DISSECTOR, DISSECTOR),
        (_TAG_SOURCE, source[0]),
        (_TAG_DESTINATION, destination[0]),
        (_TAG_PORT_TYPE, _WORD(_PORT_TYPE_TCP)),
        (_TAG_SOURCE_PORT, _WORD(source[1])),
        (_TAG_DESTINATION_PORT, _WORD(destination[1])),
        (_TAG_DIRECTION, _WORD(_RECEIVED_BY_SERVER if inbound else _SENT)),
        (_TAG_END, b""),
    )
    return b"".join(_tag(number, value) for number, value in tags)


def _tag(number: int, value: bytes) -> bytes:
    # The length of a tag counts its padding: a reader goes on right behind it, and strips zeros of a text.
    padded = _padded(value)
    return _TAG(number, len(padded)) + padded


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(_OPTION(code, len(value)) + _padded(value) for code, value in options) + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return _BLOCK(kind, size) + body + pack("<I", size)


def _padded(data: bytes) -> bytes:
    """Return data, padded to a multiple of four bytes."""
    return data + bytes(-len(data) % 4)


STATISTICS_SIZE = len(statistics(0, 0, 0))
"""Bytes of the last block."""
