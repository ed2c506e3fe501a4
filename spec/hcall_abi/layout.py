"""Strict `struct` codecs derived from Construct definitions.

The Construct definition is the only definition of a layout. But an interpreted Construct parse costs tens
of microseconds, and compiled Construct accepts truncated input. So neither is used for every frame.
`FixedLayout` takes a Construct `Struct` with fields of fixed size. It makes one `struct.Struct` and a list
of constants to check. It refuses an unsupported construct when it is made.

Supported are big-endian integers, `Bytes(n)` with a number, `Const` of those, nested `Struct`, and `Array`
of one integer. Property tests compare each derived codec with its Construct definition. The input is valid,
damaged, truncated or over-long.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import construct

_INTEGERS = frozenset("bBhHlLqQ")


class LayoutMismatch(ValueError):
    """Bytes do not have the constants that their layout demands."""


class Field(NamedTuple):
    """One run of equal struct items: the name of its field, its format, and its constant if it has one."""

    name: str | None
    code: str
    items: int = 1
    constant: Any = None

    @property
    def packed(self) -> str:
        """The format of the whole run."""
        return self.code if self.items == 1 else f"{self.items}{self.code}"

    @property
    def size(self) -> int:
        """The size of the run in bytes."""
        return struct.calcsize(">" + self.packed)


def _fields(con: Any, name: str | None = None) -> Iterator[Field]:
    """Yield the fields of `con`, in order; TypeError for a construct without a fixed layout."""
    match con:
        case construct.Renamed():
            yield from _fields(con.subcon, con.name)
        # Only big-endian fields are supported, because one `>` covers all items. EFI structures stay with
        # Construct.
        case construct.FormatField(fmtstr=code) if code[0] == ">" and code[1:] in _INTEGERS:
            yield Field(name, code[1:])
        case construct.Bytes(length=int(length)):
            yield Field(name, f"{length}s")
        case construct.Const():
            yield Field(name, _plain(con).code, constant=con.value)
        case construct.Array(count=int(count)) if (code := _plain(con).code) in _INTEGERS:
            yield Field(name, code, count)
        case construct.Struct():
            for subcon in con.subcons:
                yield from _fields(subcon)
        # This error comes at import and not at the first frame. So no peer ever gets a frame that this module
        # would misread.
        case _:
            raise TypeError(f"no fixed layout for {con!r}")


def _plain(con: Any) -> Field:
    """Return the one field inside a `Const` or an `Array`; TypeError when it is not that simple."""
    inner = list(_fields(con.subcon))
    if len(inner) != 1 or inner[0].items != 1 or inner[0].constant is not None:
        raise TypeError(f"no fixed layout for {con!r}")
    return inner[0]


def _constant_runs(fields: list[Field]) -> list[tuple[int, bytes]]:
    """Return (start, bytes) of each stretch of constants, so that one comparison checks it."""
    runs: list[tuple[int, bytes]] = []
    at = 0
    for field in fields:
        if field.constant is not None:
            constant = struct.pack(">" + field.packed, field.constant)
            if runs and runs[-1][0] + len(runs[-1][1]) == at:
                start, before = runs.pop()
                runs.append((start, before + constant))
            else:
                runs.append((at, constant))
        at += field.size
    return runs


class FixedLayout:
    """A fixed-size Construct `Struct` as one `struct.Struct`.

    `names` are the named fields that are not constants, in order.  An array is one entry of `names`; each of
    its items is one entry of the value tuple.  `size` is in bytes.  `fields` are all runs, in order.
    """

    def __init__(self, con: Any) -> None:
        fields = list(_fields(con))
        self.format = ">" + "".join(field.packed for field in fields)
        self._struct = struct.Struct(self.format)
        self.size = self._struct.size
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in fields if field.name and field.constant is None)
        self._template = [field.constant for field in fields for _ in range(field.items)]
        self._holes = [n for n, value in enumerate(self._template) if value is None]
        self._runs = _constant_runs(fields)
        # The format has pad bytes in the place of constants. `unpack` has compared the constants as bytes, so
        # they need not become numbers.
        skipping = [field.packed if field.constant is None else f"{field.size}x" for field in fields]
        self._unpack_values = struct.Struct(">" + "".join(skipping)).unpack_from
        self.unpack_raw: Callable[..., tuple[Any, ...]] = self._struct.unpack_from
        """Unpack at an offset, constants included and unchecked: for callers that check them."""
        self.pack_raw: Callable[..., bytes] = self._struct.pack
        """Pack all items, constants included."""
        self.iterate: Callable[[bytes], Iterator[tuple[Any, ...]]] = self._struct.iter_unpack
        """Unpack records back to back, constants included and unchecked; whole records only."""

    def unpack(self, data: bytes, offset: int = 0) -> tuple[Any, ...]:
        """Return the values at `offset`, without the constants.

        Raises LayoutMismatch if there are too few bytes, or a constant has a wrong value.
        """
        if len(data) - offset < self.size:
            raise LayoutMismatch(f"{len(data) - offset} bytes where the layout has {self.size}")
        for start, constant in self._runs:
            if not data.startswith(constant, offset + start):
                raise LayoutMismatch("a fixed field differs from its constant")
        return self._unpack_values(data, offset)

    def pack(self, *values: Any) -> bytes:
        """Return the bytes for `values`, which are in the order of `unpack`."""
        items = list(self._template)
        for index, value in zip(self._holes, values, strict=True):
            items[index] = value
        return self._struct.pack(*items)
