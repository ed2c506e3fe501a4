"""Adds the properties of a partition to a kernel's flattened device tree, where QEMU's tree lacks them.

A kernel uses the keystore only if ``/rtas/ibm,hypertas-functions`` has ``hcall-pks``.  It reads its
secure-boot mode from ``/ibm,secure-boot``.  The tree is changed in place: its structure block and its strings
grow into the padding behind them, and no block moves.  Layout: the Devicetree Specification, chapter 5;
big-endian.
"""

# Why the tree is changed in place
#
# The firmware has placed the tree in memory, and the kernel has its address and its size.  The bridge cannot
# allocate guest memory for a larger tree.  But the firmware leaves padding behind the structure block and
# behind the strings.  Additions go there: the blocks keep their offsets, and the tree keeps its size.
#
# A property that becomes longer moves the rest of the structure block.  That is safe: tokens have no
# addresses in them.  A property names itself by an offset in the strings, and the strings do not move.
#
# If the padding is too small, the command ends.  A kernel without the property would have no keystore, and
# its user would look for the reason in the driver.

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from swpks.qemu.errors import TreeUnsuitable

HEADER_SIZE = 40
"""Bytes of the header of version 17; version 16 lacks the last four, the size of the structure block."""

_HEADER = struct.Struct(">9I")
_MAGIC = 0xD00DFEED
_BEGIN, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
_STRINGS_SIZE, _STRUCTURE_SIZE = 32, 36


class _Header(NamedTuple):
    total: int
    structure: int
    strings: int
    reservations: int
    version: int
    strings_size: int


class _Property(NamedTuple):
    """A property: the path of its node, its name, the offset of its length field in the tree, its value."""

    path: str
    name: str
    at: int
    value: bytes


def tree_size(header: bytes) -> int:
    """Return the size of a tree in bytes, from its first 40 bytes; TreeUnsuitable if these are no header."""
    return _header(header).total


def property_of(tree: bytes, path: str, name: str) -> bytes:
    """Return a property's value; TreeUnsuitable if the node has no such property."""
    return _find(tree, path, name).value


def string_list(tree: bytes, path: str, name: str) -> list[bytes]:
    """Return a property that is a list of strings; TreeUnsuitable if the node has no such property."""
    return property_of(tree, path, name).removesuffix(b"\0").split(b"\0")


def with_string(tree: bytes, path: str, name: str, string: bytes) -> bytes:
    """Return a tree of the same size in which one more string is appended to a property.

    The property is `name` of node `path`.  A tree that has the string already is returned unchanged.
    TreeUnsuitable if there is no room.
    """
    found = _find(tree, path, name)
    if string in found.value.removesuffix(b"\0").split(b"\0"):
        return tree
    value = found.value + string + b"\0"
    body = struct.pack(">I", len(value)) + tree[found.at + 4 : found.at + 8] + _filled(value)
    return _replaced(tree, found.at, found.at + 8 + _padded(len(found.value)), body)


def with_root_property(tree: bytes, name: str, value: bytes) -> bytes:
    """Return a tree of the same size whose root has the property `name` with this value.

    If the root has the property, its value is replaced.  TreeUnsuitable if there is no room, or if the
    present value has another size.
    """
    there, _ = _walked(tree)
    own = next((each for each in there if (each.path, each.name) == ("/", name)), None)
    if own is not None:
        # A value of another size would move the rest of the block.  The mode has four bytes in every tree.
        if len(own.value) != len(value):
            raise TreeUnsuitable(f"/{name} has {len(own.value)} bytes, not {len(value)}")
        return tree[: own.at + 8] + value + tree[own.at + 8 + len(value) :]
    if not there or there[0].path != "/":
        raise TreeUnsuitable("the device tree's root has no properties")
    start = there[0].at - 4
    tree, name_at = _with_name(tree, name.encode() + b"\0")
    return _replaced(tree, start, start, struct.pack(">3I", _PROPERTY, len(value), name_at) + _filled(value))


def _with_name(tree: bytes, name: bytes) -> tuple[bytes, int]:
    """Return a tree whose strings contain a name, and the offset of that name in the strings."""
    header = _header(tree)
    end = header.strings + header.strings_size
    # The name may be found at the end of a longer name.  That is enough: a property's name is read from its
    # offset to the zero byte.
    at = tree.find(name, header.strings, end)
    if at >= 0:
        return tree, at - header.strings
    if end + len(name) > _room(header, header.strings):
        raise TreeUnsuitable(f"no room for {len(name)} more bytes of strings")
    out = bytearray(tree)
    out[end : end + len(name)] = name
    struct.pack_into(">I", out, _STRINGS_SIZE, header.strings_size + len(name))
    return bytes(out), header.strings_size


def _replaced(tree: bytes, start: int, after: int, body: bytes) -> bytes:
    """Return a tree in which `body` replaces the bytes from `start` to `after` of the structure block."""
    header, (_, end) = _header(tree), _walked(tree)
    rest = body + tree[after:end]
    if start + len(rest) > _room(header, header.structure):
        raise TreeUnsuitable(f"no room for {len(rest) + start - end} more bytes of the structure block")
    out = bytearray(tree)
    out[start : start + len(rest)] = rest
    # Version 16 has no field for the size of the structure block: only the end token marks its end.
    if header.version >= 17:
        struct.pack_into(">I", out, _STRUCTURE_SIZE, start + len(rest) - header.structure)
    return bytes(out)


def _header(tree: bytes) -> _Header:
    if len(tree) < HEADER_SIZE:
        raise TreeUnsuitable("the device tree is shorter than its header")
    magic, total, structure, strings, reservations, version, _, _, strings_size = _HEADER.unpack_from(tree)
    if magic != _MAGIC or version < 16:
        raise TreeUnsuitable("no flattened device tree of version 16 or later")
    return _Header(total, structure, strings, reservations, version, strings_size)


def _room(header: _Header, block: int) -> int:
    """Return the end of the padding behind a block: the start of the next block, or the end of the tree."""
    others = (header.structure, header.strings, header.reservations, header.total)
    return min((offset for offset in others if offset > block), default=block)


def _find(tree: bytes, path: str, name: str) -> _Property:
    """Return the last property with this path and name; TreeUnsuitable if there is none."""
    found = [each for each in _walked(tree)[0] if (each.path, each.name) == (path, name)]
    if not found:
        raise TreeUnsuitable(f"the device tree has no {path}/{name}")
    return found[-1]


def _walked(tree: bytes) -> tuple[list[_Property], int]:
    """Return every property, and the offset of the end of the structure block."""
    found: list[_Property] = []
    end = -1
    try:
        for each in _walk(tree, _header(tree)):
            if isinstance(each, int):
                end = each
            else:
                found.append(each)
    except (struct.error, ValueError, IndexError):
        raise TreeUnsuitable("the device tree is damaged") from None
    return found, end


def _walk(tree: bytes, header: _Header) -> Iterator[_Property | int]:
    """Yield every property, then the offset of the end of the structure block."""
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


def _filled(value: bytes) -> bytes:
    return value.ljust(_padded(len(value)), b"\0")
