"""The registers of a gdb stub, from the XML in which the stub describes them.

The stub's target.xml includes a file for each part of the processor.  Registers are numbered from 0 in the
order of the files, unless an entry states its number.  `p` and `P` packets use these numbers.  QEMU's files
name some registers twice: lr is also among the special registers.  Then the first entry counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from xml.parsers import expat

from swpks.qemu.errors import StubError

LITTLE_ENDIAN = 1
"""MSR[LE]: set if the stub sends the bytes of all registers, MSR included, in little-endian order."""


class GuestRegister(NamedTuple):
    """A register's number in packets and its size in bytes."""

    number: int
    size: int


def _elements(document: bytes) -> list[tuple[str, dict[str, str]]]:
    """Return the name and the attributes of each element of an XML document.

    It uses plain expat: QEMU uses the prefix ``xi:`` without a declaration, which a parser that knows
    namespaces refuses.
    """
    found: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append((name, dict(attributes)))
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise StubError(f"the stub describes its registers by a text that is no XML: {error}") from None
    return found


def included(target: bytes) -> list[str]:
    """Return the names of the files that target.xml includes, in order."""
    return [attributes.get("href", "") for name, attributes in _elements(target) if name == "xi:include"]


def register_map(files: list[bytes]) -> Mapping[str, GuestRegister]:
    """Return the registers that the files describe, in the order in which target.xml includes them."""
    registers: dict[str, GuestRegister] = {}
    number = 0
    for document in files:
        for name, attributes in _elements(document):
            if name == "reg":
                number = _number(attributes.get("regnum"), number)
                size = _number(attributes.get("bitsize"), 0) // 8
                # A repeated name takes a number too.  Without that, the numbers of all later registers would
                # be wrong.
                registers.setdefault(attributes.get("name", ""), GuestRegister(number, size))
                number += 1
    return registers


def _number(text: str | None, otherwise: int) -> int:
    try:
        return otherwise if text is None else int(text)
    except ValueError:
        raise StubError(f"the stub describes a register with {text!r} for a number") from None


def is_little_endian(msr: bytes) -> bool:
    """Return whether these bytes of MSR are in little-endian order.

    The lowest bit of MSR is LE, its highest SF.  A little-endian MSR begins with its lowest byte.  A
    big-endian MSR begins with its highest byte, whose lowest bit no processor uses.
    """
    return bool(msr[0] & LITTLE_ENDIAN)
