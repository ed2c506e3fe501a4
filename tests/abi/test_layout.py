"""A `FixedLayout` is derived from a Construct definition. A definition without a fixed layout is refused."""

from collections.abc import Callable
from typing import Any

import construct as cs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.codec import HEADER_LAYOUT
from hcall_abi.frames import HCALL_HEAD, HEADER, HRETURN_HEAD, SEGMENT, WRITE
from hcall_abi.layout import FixedLayout, LayoutMismatch
from hcall_abi.structures import AUTH_HEAD
from tests.abi.strategies import damaged, s64, u8, u16, u32, u64

NOT_FIXED = {
    "a length from the data": cs.Struct("n" / cs.Int8ub, "x" / cs.Bytes(cs.this.n)),
    "greedy bytes": cs.Struct("x" / cs.GreedyBytes),
    "a string": cs.Struct("x" / cs.PascalString(cs.Int8ub, "utf8")),
    "little endian": cs.Struct("x" / cs.Int16ul),
    "native order": cs.Struct("x" / cs.Int16un)
    if cs.Int16un.fmtstr[0] != ">"
    else cs.Struct("x" / cs.Int16ul),
    "a float": cs.Struct("x" / cs.Float32b),
    "a flag": cs.Struct("x" / cs.Flag),
    "an enum": cs.Struct("x" / cs.Enum(cs.Int8ub, a=1)),
    "flags": cs.Struct("x" / cs.FlagsEnum(cs.Int8ub, a=1)),
    "a check": cs.Struct("x" / cs.Int8ub, cs.Check(cs.this.x == 1)),
    "padding": cs.Struct("x" / cs.Int8ub, cs.Padding(3)),
    "the end": cs.Struct("x" / cs.Int8ub, cs.Terminated),
    "a choice": cs.Struct("x" / cs.OneOf(cs.Int8ub, [1])),
    "an array of a length from the data": cs.Struct("n" / cs.Int8ub, "x" / cs.Array(cs.this.n, cs.Int8ub)),
    "an array of bytes": cs.Struct("x" / cs.Array(2, cs.Bytes(3))),
    "an array of constants": cs.Struct("x" / cs.Array(2, cs.Const(0, cs.Int8ub))),
    "an array of arrays": cs.Struct("x" / cs.Array(2, cs.Array(2, cs.Int8ub))),
    "an array of structs": cs.Struct("x" / cs.Array(2, cs.Struct("a" / cs.Int8ub, "b" / cs.Int8ub))),
    "a constant array": cs.Struct("x" / cs.Const([1, 2], cs.Array(2, cs.Int8ub))),
    "an aligned field": cs.Struct("x" / cs.Aligned(4, cs.Int8ub)),
    "bits": cs.BitStruct("x" / cs.BitsInteger(8)),
}


@pytest.mark.parametrize("name", NOT_FIXED)
def test_what_is_not_understood_is_refused(name: str) -> None:
    """If a definition has no plain fixed layout, `FixedLayout` raises before it reads any byte."""
    with pytest.raises(TypeError, match="no fixed layout"):
        FixedLayout(NOT_FIXED[name])


NESTED = cs.Struct(
    "a" / cs.Int8sb,
    "b" / cs.Struct("c" / cs.Const(b"xy"), "d" / cs.Bytes(3)),
    "e" / cs.Array(1, cs.Int16sb),
    cs.Const(7, cs.Int32ub),
)

# definition name -> (1) the definition, (2) a strategy that draws the field values, without the constants,
# (3) a function that reads these values from a parsed container
LAYOUTS: dict[str, tuple[Any, st.SearchStrategy[tuple[Any, ...]], Callable[[Any], tuple[Any, ...]]]] = {
    "header": (HEADER, st.tuples(u8, u8, u32, u32), lambda c: (c.version, c.type, c.tag, c.length)),
    "HCALL head": (HCALL_HEAD, st.tuples(*[u64] * 10, u16), lambda c: (c.opcode, *c.registers, c.count)),
    "HRETURN head": (
        HRETURN_HEAD,
        st.tuples(s64, *[u64] * 9, u16),
        lambda c: (c.status, *c.registers, c.count),
    ),
    "segment": (SEGMENT, st.tuples(u64, u32, u32), lambda c: (c.address, c.length, c.access)),
    "write": (WRITE, st.tuples(u64, u32), lambda c: (c.address, c.length)),
    "authorization head": (AUTH_HEAD, st.tuples(u8, u16), lambda c: (c.consumer, c.password_length)),
    "nested": (
        NESTED,
        st.tuples(
            st.integers(-128, 127), st.binary(min_size=3, max_size=3), st.integers(-(2**15), 2**15 - 1)
        ),
        lambda c: (c.a, c.b.d, *c.e),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_a_layout_equals_its_definition(name: str, data: st.DataObject) -> None:
    """For any bytes, layout and definition give the same values, or both refuse.

    Both build the same bytes.
    """
    definition, valid, picked = LAYOUTS[name]
    layout = FixedLayout(definition)
    assert layout.size == definition.sizeof()
    values = data.draw(valid)
    built = layout.pack(*values)
    assert picked(definition.parse(built)) == values
    assert definition.build(definition.parse(built)) == built
    for piece in (built, data.draw(damaged(st.just(built))), built[:-1], built + b"more"):
        assert fast(layout, piece) == slow(definition, picked, piece)


def fast(layout: FixedLayout, data: bytes) -> tuple[Any, ...] | None:
    """Return the values that the layout reads, or None if it refuses."""
    try:
        return layout.unpack(data)
    except LayoutMismatch:
        return None


def slow(definition: Any, picked: Callable[[Any], tuple[Any, ...]], data: bytes) -> tuple[Any, ...] | None:
    """Return the values that Construct reads, or None if it refuses."""
    try:
        return picked(definition.parse(data))
    except cs.ConstructError:
        return None


def test_offsets_and_repetition() -> None:
    """A layout can read at an offset, and can read many records in turn."""
    data = b"..." + b"".join(HEADER_LAYOUT.pack(1, kind, 9, 0) for kind in (4, 5))
    assert HEADER_LAYOUT.unpack(data, 3) == (1, 4, 9, 0)
    assert HEADER_LAYOUT.unpack(data, 19) == (1, 5, 9, 0)
    with pytest.raises(LayoutMismatch):
        HEADER_LAYOUT.unpack(data, 20)
    with pytest.raises(LayoutMismatch):
        HEADER_LAYOUT.unpack(data, 4)
    assert len(list(FixedLayout(SEGMENT).iterate(bytes(48)))) == 3


def test_names_are_the_fields_without_the_constants() -> None:
    """`names` has the fields without constants, in the order of `pack` and `unpack`."""
    assert HEADER_LAYOUT.names == ("version", "type", "tag", "length")
    assert FixedLayout(AUTH_HEAD).names == ("consumer", "password_length")
