"""The registers of a stub, from the XML with which it describes them.

The stub's target.xml includes a file for each part of the processor.  Registers are numbered from 0
in the order of the files, unless one says its number; `p` and `P` packets take these numbers.
QEMU's files name some registers twice, such as lr among the special ones: the first one counts.
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
    """Return each element's name and attributes.

    Plain expat, because QEMU uses the prefix ``xi:`` without declaring it, which parsers that know
    of namespaces refuse.
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
                # The number counts up for a repeated name too: later registers would be off by one otherwise.
                registers.setdefault(attributes.get("name", ""), GuestRegister(number, size))
                number += 1
    return registers


def _number(text: str | None, otherwise: int) -> int:
    try:
        return otherwise if text is None else int(text)
    except ValueError:
        raise StubError(f"the stub describes a register with {text!r} for a number") from None


def is_little_endian(msr: bytes) -> bool:
    """Return whether the bytes of MSR are in little-endian order: its lowest bit is LE, its highest SF.

    A little-endian MSR starts with its lowest byte.  A big-endian one starts with its highest, whose
    lowest bit no processor uses.
    """
    return bool(msr[0] & LITTLE_ENDIAN)
