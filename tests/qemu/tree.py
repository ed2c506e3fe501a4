"""Flattened device trees like those that Linux's prom_init makes: version 16 or 17, blocks in any order."""

import struct
from collections.abc import Mapping

Node = Mapping[str, "Node | bytes"]


def flatten(
    root: Node, *, version: int = 17, padding: int = 64, strings_last: bool = False, gap: int = 0
) -> bytes:
    """Return the bytes of the tree.

    `padding` free bytes follow the structure block, `gap` free bytes follow the strings.
    """
    names: dict[str, int] = {}
    structure = _node("", root, names) + struct.pack(">I", 9)
    strings = b"".join(name.encode() + b"\0" for name in names)
    reservations = bytes(16)
    room = structure + bytes(padding)
    at = 40 + len(reservations)
    if strings_last:
        structure_at, strings_at, body = at, at + len(room), room + strings + bytes(gap)
    else:
        gap += -(len(strings) + gap) % 4
        strings_at, structure_at, body = at, at + len(strings) + gap, strings + bytes(gap) + room
    size = len(structure) if version >= 17 else 0
    head = struct.pack(
        ">10I", 0xD00DFEED, at + len(body), structure_at, strings_at, 40, version, 16, 0, len(strings), size
    )
    return head + reservations + body


def _node(name: str, node: Node, names: dict[str, int]) -> bytes:
    out = struct.pack(">I", 1) + _padded(name.encode() + b"\0")
    for key, value in node.items():
        if isinstance(value, bytes):
            at = names.setdefault(key, sum(len(each) + 1 for each in names))
            out += struct.pack(">3I", 3, len(value), at) + _padded(value)
    out += struct.pack(">I", 4)
    for key, value in node.items():
        if not isinstance(value, bytes):
            out += _node(key, value, names)
    return out + struct.pack(">I", 2)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


RTAS: Node = {"ibm,hypertas-functions": b"hcall-pft\0hcall-term\0", "rtas-size": b"\0\0\x10\0"}
MACHINE: Node = {
    "model": b"IBM pSeries (emulated by qemu)\0",
    "rtas": RTAS,
    "chosen": {"bootargs": b"console=hvc0\0"},
}
