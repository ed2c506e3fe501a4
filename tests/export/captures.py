"""Capture files for the tests of the dissector, written field by field, and the fields that tshark reads."""

import struct
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CLIENT, SERVER = (bytes([127, 0, 0, 1]), 40000), (bytes([127, 0, 0, 2]), 9870)
_EXPORTED_PDU, _ETHERNET = 252, 1
_DISSECTOR, _IP_SOURCE, _IP_TARGET, _PORT_TYPE, _PORT_SOURCE, _PORT_TARGET = 12, 20, 21, 24, 25, 26
_TCP = 2


class Shown(NamedTuple):
    """A field that tshark shows: its name, the place of its bytes in the frame, its text, and its bytes."""

    name: str
    offset: int
    size: int
    text: str
    data: bytes


def exported(path: Path, frames: Iterable[tuple[str, bytes]], *, apart: bool = False) -> Path:
    """Write a trace: each (sender, frame) is one packet that names the dissector.

    With `apart`, each frame is of a connection of its own.
    """
    packets = (_tags(sender, n * apart) + frame for n, (sender, frame) in enumerate(frames))
    return _pcap(path, _EXPORTED_PDU, packets)


def tcp(path: Path, pieces: Iterable[tuple[str, bytes]], limit: int = 1 << 20) -> Path:
    """Write TCP traffic: each (sender, bytes) is one segment of a connection.

    Of each packet, the file has the first `limit` bytes.
    """
    sequence = {"client": 1, "server": 1}

    def packets() -> Iterable[bytes]:
        for sender, data in pieces:
            peer = "server" if sender == "client" else "client"
            yield _segment(sender, sequence[sender], sequence[peer], data)
            sequence[sender] += len(data)

    return _pcap(path, _ETHERNET, packets(), limit)


def _pcap(path: Path, link_type: int, packets: Iterable[bytes], limit: int = 1 << 20) -> Path:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 20, link_type)
    records = [
        struct.pack("<IIII", n, 0, len(packet[:limit]), len(packet)) + packet[:limit]
        for n, packet in enumerate(packets)
    ]
    path.write_bytes(head + b"".join(records))
    return path


def _ends(sender: str, connection: int = 0) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    client = CLIENT[0], CLIENT[1] + connection
    return (client, SERVER) if sender == "client" else (SERVER, client)


def _tags(sender: str, connection: int) -> bytes:
    (source, source_port), (target, target_port) = _ends(sender, connection)
    tags = [
        (_DISSECTOR, b"swpks\0\0\0"),
        (_IP_SOURCE, source), (_IP_TARGET, target), (_PORT_TYPE, struct.pack(">I", _TCP)),
        (_PORT_SOURCE, struct.pack(">I", source_port)), (_PORT_TARGET, struct.pack(">I", target_port)),
        (0, b""),
    ]  # fmt: skip
    return b"".join(struct.pack(">HH", tag, len(data)) + data for tag, data in tags)


def _segment(sender: str, sequence: int, acknowledged: int, data: bytes) -> bytes:
    """Return an Ethernet frame with a TCP segment; tshark does not check the checksums."""
    (source, source_port), (target, target_port) = _ends(sender)
    head = struct.pack(
        ">HHIIBBHHH", source_port, target_port, sequence, acknowledged, 5 << 4, 0x18, 65535, 0, 0
    )
    size = 20 + len(head) + len(data)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, size, 0, 0, 64, 6, 0) + source + target
    return bytes(12) + b"\x08\x00" + ip + head + data


def shown(lua: Path, capture: Path) -> list[list[Shown]]:
    """Return the fields that the dissector shows in each packet of a capture."""
    return [[field for frame in packet for field in frame] for packet in shown_frames(lua, capture)]


def shown_frames(lua: Path, capture: Path) -> list[list[list[Shown]]]:
    """Return the fields of each frame, for each packet of a capture."""
    packets = ET.fromstring(_tshark(lua, capture, "-T", "pdml")).iter("packet")
    return [
        [_fields(proto) for proto in packet.iter("proto") if proto.get("name") == "swpks"]
        for packet in packets
    ]


def summaries(lua: Path, capture: Path) -> list[str]:
    """Return the column with the summary of each packet."""
    return _tshark(lua, capture, "-T", "fields", "-e", "_ws.col.Info").splitlines()


def _tshark(lua: Path, capture: Path, *options: str) -> str:
    """Run tshark with two passes, as the window of Wireshark has them; a Lua error is an AssertionError."""
    command = ["tshark", "-2", "-n", "-X", f"lua_script:{lua}", "-r", str(capture), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Lua" not in done.stderr, done.stderr
    assert "Lua Error" not in done.stdout
    return done.stdout


def _fields(frame: ET.Element) -> list[Shown]:
    start = int(frame.get("pos", 0))
    found = []
    for field in frame.iter("field"):
        at, size = int(field.get("pos", 0)) - start, int(field.get("size", 0))
        data = bytes.fromhex(field.get("unmaskedvalue") or field.get("value") or "")
        found.append(Shown(field.get("name", ""), at, size, field.get("show", ""), data))
    return found
