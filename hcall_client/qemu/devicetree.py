"""The flattened device tree that a kernel is started with: one more string in a list of strings.

A kernel asks for the keystore only where ``/rtas/ibm,hypertas-functions`` has ``hcall-pks``.  QEMU's
tree does not have it.  The tree is changed in place: its structure block grows into the padding
behind it, and no other block moves.  Layout: the Devicetree Specification, chapter 5; big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hcall_client.qemu.errors import TreeUnsuitable

HEADER_SIZE = 40
"""Bytes of the header of version 17; version 16 lacks the last four, the size of the structure block."""

_HEADER = struct.Struct(">9I")
_MAGIC = 0xD00DFEED
_BEGIN, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
_STRUCTURE_SIZE = 36


class _Header(NamedTuple):
    total: int
    structure: int
    strings: int
    reservations: int
    version: int
    strings_size: int


class _Property(NamedTuple):
    """A property: the path of its node, its name, and where in the tree its length field lies."""

    path: str
    name: str
    at: int
    value: bytes


def tree_size(header: bytes) -> int:
    """Return the size of a tree in bytes from its first 40; TreeUnsuitable if it is none."""
    return _header(header).total


def string_list(tree: bytes, path: str, name: str) -> list[bytes]:
    """Return a property that is a list of strings; TreeUnsuitable where the node has no such property."""
    return _find(tree, path, name)[0].value.removesuffix(b"\0").split(b"\0")


def with_string(tree: bytes, path: str, name: str, string: bytes) -> bytes:
    """Return a tree of the same size whose property `name` of node `path` ends in one more string.

    One that has the string already comes back as it is; TreeUnsuitable where there is no room.
    """
    found, end = _find(tree, path, name)
    if string in found.value.removesuffix(b"\0").split(b"\0"):
        return tree
    header = _header(tree)
    value = found.value + string + b"\0"
    start, after = found.at + 8, found.at + 8 + _padded(len(found.value))
    rest = value.ljust(_padded(len(value)), b"\0") + tree[after:end]
    if start + len(rest) > _room(header):
        raise TreeUnsuitable(f"no room for {len(rest) + start - end} more bytes of the structure block")
    out = bytearray(tree)
    out[start : start + len(rest)] = rest
    struct.pack_into(">I", out, found.at, len(value))
    if header.version >= 17:
        struct.pack_into(">I", out, _STRUCTURE_SIZE, start + len(rest) - header.structure)
    return bytes(out)


def _header(tree: bytes) -> _Header:
    if len(tree) < HEADER_SIZE:
        raise TreeUnsuitable("the device tree is shorter than its header")
    magic, total, structure, strings, reservations, version, _, _, size = _HEADER.unpack_from(tree)
    if magic != _MAGIC or version < 16:
        raise TreeUnsuitable("no flattened device tree of version 16 or later")
    return _Header(total, structure, strings, reservations, version, size)


def _room(header: _Header) -> int:
    """Return where the padding behind the structure block ends: at the next block, or the tree's end."""
    others = (header.strings, header.reservations, header.total)
    return min(offset for offset in others if offset > header.structure)


def _find(tree: bytes, path: str, name: str) -> tuple[_Property, int]:
    """Return a property and where the structure block ends."""
    found = None
    at = -1
    try:
        for each in _walk(tree, _header(tree)):
            if isinstance(each, int):
                at = each
            elif (each.path, each.name) == (path, name):
                found = each
    except (struct.error, ValueError, IndexError):
        raise TreeUnsuitable("the device tree is damaged") from None
    if found is None:
        raise TreeUnsuitable(f"the device tree has no {path}/{name}")
    return found, at


def _walk(tree: bytes, header: _Header) -> Iterator[_Property | int]:
    """Yield every property, and at last the end of the structure block."""
    path: list[str] = []
    at = header.structure
    while True:
        (token,) = struct.unpack_from(">I", tree, at)
        at += 4
        if token == _BEGIN:
            name = tree[at : tree.index(b"\0", at)]
            path.append(name.decode("latin-1"))
            at += _padded(len(name) + 1)
        elif token == _PROPERTY:
            length, name_at = struct.unpack_from(">2I", tree, at)
            yield _Property("/".join(path) or "/", _name(tree, header, name_at), at, _value(tree, at, length))
            at += 8 + _padded(length)
        elif token == _END_NODE:
            path.pop()
        elif token == _END:
            yield at
            return
        elif token != _NOP:
            raise ValueError("an unknown token")


def _name(tree: bytes, header: _Header, at: int) -> str:
    start = header.strings + at
    return tree[start : tree.index(b"\0", start)].decode("latin-1")


def _value(tree: bytes, at: int, length: int) -> bytes:
    value = tree[at + 8 : at + 8 + length]
    if len(value) != length:
        raise ValueError("a property is cut off")
    return value


def _padded(length: int) -> int:
    return (length + 3) & ~3
