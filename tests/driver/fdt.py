"""Flattened device trees, made and read with libfdt as kexec and early boot do it."""

import ctypes
from ctypes import byref, c_char_p, c_int, c_void_p
from functools import cache

SIZE = 4096
PASSWORD = b"ibm,plpks-pw"


@cache
def _libfdt() -> ctypes.CDLL:
    library = ctypes.CDLL("libfdt.so.1")
    library.fdt_getprop.restype = c_void_p
    return library


def make(*, chosen: bool = True, password: bytes | None = None) -> ctypes.Array:
    """Return a tree that has a /chosen node with the password of an old kernel."""
    tree = ctypes.create_string_buffer(SIZE)
    fdt = _libfdt()
    assert fdt.fdt_create_empty_tree(tree, SIZE) == 0
    if chosen:
        node = fdt.fdt_add_subnode(tree, 0, b"chosen")
        assert node > 0
        if password is not None:
            assert fdt.fdt_setprop(tree, node, c_char_p(PASSWORD), password, len(password)) == 0
    return tree


def password(tree: ctypes.Array) -> bytes | None:
    """Return the password in the tree, or None if it has none."""
    fdt, length = _libfdt(), c_int()
    node = fdt.fdt_path_offset(tree, b"/chosen")
    found = fdt.fdt_getprop(tree, node, c_char_p(PASSWORD), byref(length))
    return ctypes.string_at(found, length.value) if found else None


def shrink(tree: ctypes.Array) -> bool:
    """Remove all free space from the tree."""
    return bool(_libfdt().fdt_pack(tree) == 0)
