"""A string more in a flattened tree, in place."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_client.qemu.devicetree import string_list, tree_size, with_string
from hcall_client.qemu.errors import TreeUnsuitable
from tests.qemu.tree import MACHINE, RTAS, flatten

PLACE = ("/rtas", "ibm,hypertas-functions")
SHAPES = [(16, False), (16, True), (17, False), (17, True)]


@pytest.mark.parametrize("version,strings_last", SHAPES)
def test_one_string_more(version: int, strings_last: bool) -> None:
    """R-73: `hcall-pks` is in the list, everything else is as it was, and the tree has its size."""
    before = flatten(MACHINE, version=version, strings_last=strings_last)
    after = with_string(before, *PLACE, b"hcall-pks")
    assert len(after) == len(before) == tree_size(after)
    assert string_list(after, *PLACE) == [b"hcall-pft", b"hcall-term", b"hcall-pks"]
    for path, name in (("/", "model"), ("/rtas", "rtas-size"), ("/chosen", "bootargs")):
        assert string_list(after, path, name) == string_list(before, path, name)
    grown = {**MACHINE, "rtas": {**RTAS, PLACE[1]: b"hcall-pft\0hcall-term\0hcall-pks\0"}}
    whole = flatten(grown, version=version, strings_last=strings_last, padding=56)
    assert after == whole


def test_a_string_that_is_there_changes_nothing() -> None:
    once = with_string(flatten(MACHINE), *PLACE, b"hcall-pks")
    assert with_string(once, *PLACE, b"hcall-pks") == once
    assert with_string(once, *PLACE, b"hcall-pft") == once


def test_a_part_of_a_string_is_not_the_string() -> None:
    assert string_list(with_string(flatten(MACHINE), *PLACE, b"hcall"), *PLACE)[-1] == b"hcall"


@pytest.mark.parametrize("strings_last", [False, True])
def test_no_room_is_told(strings_last: bool) -> None:
    with pytest.raises(TreeUnsuitable, match="no room"):
        with_string(flatten(MACHINE, padding=4, strings_last=strings_last), *PLACE, b"hcall-pks")


def test_a_tree_without_the_property() -> None:
    with pytest.raises(TreeUnsuitable, match="no /rtas/ibm"):
        with_string(flatten({"rtas": {}}), *PLACE, b"hcall-pks")


@pytest.mark.parametrize("header", [b"", bytes(40), struct.pack(">10I", 0xD00DFEED, 40, *[0] * 8)])
def test_what_is_no_tree(header: bytes) -> None:
    with pytest.raises(TreeUnsuitable):
        tree_size(header)


@given(at=st.integers(40, 300), value=st.binary(min_size=1, max_size=8))
def test_damage_is_told_or_harmless(at: int, value: bytes) -> None:
    """A damaged tree makes no other exception than ours."""
    tree = bytearray(flatten(MACHINE))
    tree[at : at + len(value)] = value
    try:
        with_string(bytes(tree), *PLACE, b"hcall-pks")
    except TreeUnsuitable:
        pass
