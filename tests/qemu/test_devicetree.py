"""A flattened device tree gets one more string or property, in place."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swpks.qemu.devicetree import property_of, string_list, tree_size, with_root_property, with_string
from swpks.qemu.errors import TreeUnsuitable
from tests.qemu.tree import MACHINE, RTAS, flatten

PLACE = ("/rtas", "ibm,hypertas-functions")
SHAPES = [(16, False), (16, True), (17, False), (17, True)]


@pytest.mark.parametrize("version,strings_last", SHAPES)
def test_one_string_more(version: int, strings_last: bool) -> None:
    """R-73: `hcall-pks` is added to the list of strings.

    Nothing else changes, and the tree keeps its size.
    """
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
    """A damaged tree raises TreeUnsuitable, or is accepted without an error."""
    tree = bytearray(flatten(MACHINE))
    tree[at : at + len(value)] = value
    try:
        with_string(bytes(tree), *PLACE, b"hcall-pks")
    except TreeUnsuitable:
        pass


MODE = "ibm,secure-boot"
ENFORCE = b"\0\0\0\2"


@pytest.mark.parametrize("version,strings_last", SHAPES)
def test_a_property_of_the_root(version: int, strings_last: bool) -> None:
    """R-35: the root gets the property. Nothing else changes, and the tree keeps its size."""
    before = flatten(MACHINE, version=version, strings_last=strings_last, gap=20)
    after = with_root_property(with_string(before, *PLACE, b"hcall-pks"), MODE, ENFORCE)
    assert len(after) == len(before) == tree_size(after)
    assert property_of(after, "/", MODE) == ENFORCE
    assert string_list(after, *PLACE)[-1] == b"hcall-pks"
    for path, name in (("/", "model"), ("/rtas", "rtas-size"), ("/chosen", "bootargs")):
        assert property_of(after, path, name) == property_of(before, path, name)
    assert with_root_property(after, MODE, ENFORCE) == after
    assert property_of(with_root_property(after, MODE, bytes(4)), "/", MODE) == bytes(4)


def test_a_name_that_is_there_takes_no_room() -> None:
    tree = flatten({**MACHINE, "chosen": {MODE: b"another node's"}})
    after = with_root_property(tree, MODE, ENFORCE)
    assert property_of(after, "/", MODE) == ENFORCE
    assert property_of(after, "/chosen", MODE) == b"another node's"


def test_no_room_for_a_property_is_told() -> None:
    with pytest.raises(TreeUnsuitable, match="no room for 16 more bytes of strings"):
        with_root_property(flatten(MACHINE, gap=8), MODE, ENFORCE)
    with pytest.raises(TreeUnsuitable, match="no room for 16 more bytes of the structure"):
        with_root_property(flatten(MACHINE, gap=32, padding=12), MODE, ENFORCE)
    with pytest.raises(TreeUnsuitable, match="14 bytes, not 4"):
        with_root_property(flatten({**MACHINE, MODE: b"something else"}), MODE, ENFORCE)


def test_a_root_without_properties() -> None:
    with pytest.raises(TreeUnsuitable, match="root has no properties"):
        with_root_property(flatten({"rtas": RTAS}, gap=32), MODE, ENFORCE)


@given(at=st.integers(0, 300), value=st.binary(min_size=1, max_size=8))
def test_damage_to_the_root_is_told_or_harmless(at: int, value: bytes) -> None:
    tree = bytearray(flatten(MACHINE, gap=32))
    tree[at : at + len(value)] = value
    try:
        with_root_property(bytes(tree), MODE, ENFORCE)
    except TreeUnsuitable:
        pass
