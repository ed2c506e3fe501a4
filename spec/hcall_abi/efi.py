"""EFI structures of signed updates: little-endian and packed.  All other memory is big-endian.

The payload of an update (EFI's "authentication 2" block), signature lists, and the form in which a variable
is stored (spec/secure-boot-variables.md).  Parsers raise `RuleBroken`.  No signature is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from construct import Bytes, Const, ConstructError, Int8ul, Int16ul, Int32ul, Struct

from hcall_abi.errors import RuleBroken
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule

GUID_PKCS7 = bytes.fromhex("9dd2af4adf68ee498aa9347d375665a7")
"""4aafd29d-68df-49ee-8aa9-347d375665a7 in the order of memory: the certificate part is PKCS#7."""
GUID_X509 = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
"""a5c059a1-94e4-4aa7-87b5-ab155c2bf072: a signature list of X.509 certificates."""
GUID_SHA256 = bytes.fromhex("2616c4c14c509240aca941f936934328")
"""c1c41626-504c-4092-aca9-41f936934328: a signature list of SHA-256 digests."""

_MOMENT = ("year", "month", "day", "hour", "minute", "second")
_TIME_FIELDS = tuple(name / kind for name, kind in zip(_MOMENT, [Int16ul] + [Int8ul] * 5, strict=True))

TIME = Struct(*_TIME_FIELDS, Const(bytes(9)))
"""EFI time.  The fields that no update uses (nanosecond, time zone, daylight, padding) are 0."""

CERTIFICATE_PART = Struct(
    "length" / Int32ul,
    "revision" / Const(0x0200, Int16ul),
    "type" / Const(0x0EF1, Int16ul),
    "guid" / Const(GUID_PKCS7),
)
"""The head of the part that holds the PKCS#7; `length` counts it too."""

LIST_HEADER = Struct(
    "type" / Bytes(16), "list_size" / Int32ul, "header_size" / Int32ul, "signature_size" / Int32ul
)
"""The head of a signature list."""

STORED_HEADER = Struct("version" / Const(0, Int8ul), *_TIME_FIELDS)
"""The header of a stored variable, before its contents."""

TIME_SIZE: int = TIME.sizeof()
PART_SIZE: int = CERTIFICATE_PART.sizeof()
HEADER_SIZE = TIME_SIZE + PART_SIZE
LIST_HEADER_SIZE: int = LIST_HEADER.sizeof()
STORED_SIZE: int = STORED_HEADER.sizeof()
OWNER_SIZE = 16
"""Bytes of the owner's GUID before the data of each signature."""

_PART_RULES = {
    "revision": rules.UPDATE_PART_REVISION,
    "type": rules.UPDATE_PART_TYPE,
    "guid": rules.UPDATE_PART_GUID,
}


class EfiTime(NamedTuple):
    """A time as updates contain it; an earlier time compares as the smaller tuple.

    No calendar is used: fields are compared as numbers, as PowerVM's library does (choice C-R).
    """

    year: int
    month: int
    day: int
    hour: int = 0
    minute: int = 0
    second: int = 0

    def __str__(self) -> str:
        return (
            f"{self.year:04}-{self.month:02}-{self.day:02} {self.hour:02}:{self.minute:02}:{self.second:02}"
        )


class UpdatePayload(NamedTuple):
    """The parts of a payload: its time, the PKCS#7 in DER, and the new contents of the variable."""

    time: EfiTime
    pkcs7: bytes
    contents: bytes

    def __repr__(self) -> str:
        return f"UpdatePayload({self.time!r}, {len(self.pkcs7)} bytes signed, {len(self.contents)} bytes)"


class SignatureList(NamedTuple):
    """A signature list: its type (a GUID), its header, and signatures of equal length.

    A signature is the 16 bytes of its owner's GUID and the data: a certificate, a digest.
    """

    type: bytes
    header: bytes
    signatures: tuple[bytes, ...]


class StoredVariable(NamedTuple):
    """A variable as it is stored: the time of its last update, and its contents."""

    time: EfiTime
    contents: bytes

    def __repr__(self) -> str:
        return f"StoredVariable({self.time!r}, {len(self.contents)} bytes)"


def build_time(time: EfiTime) -> bytes:
    """Return the 16 bytes of an EFI time."""
    return _build(TIME, time._asdict())


def parse_update(payload: bytes) -> UpdatePayload:
    """Split a payload into its parts; RuleBroken names the first broken rule."""
    if len(payload) < HEADER_SIZE:
        raise RuleBroken(rules.UPDATE_HEADER, f"a payload of {len(payload)} bytes")
    try:
        time = _time(TIME.parse(payload))
    except ConstructError:
        raise RuleBroken(rules.UPDATE_TIME_RESERVED, "a reserved field of the time is not 0") from None
    # The length is checked before the part is parsed: a wrong length breaks a rule of its own.
    length = int.from_bytes(payload[TIME_SIZE : TIME_SIZE + 4], "little")
    end = TIME_SIZE + length
    if length <= PART_SIZE:
        raise RuleBroken(rules.UPDATE_PART_LENGTH, f"a certificate part of {length} bytes")
    if end > len(payload):
        raise RuleBroken(rules.UPDATE_PART_WITHIN, f"{length} bytes, {len(payload) - TIME_SIZE} are there")
    try:
        CERTIFICATE_PART.parse(payload[TIME_SIZE:])
    except ConstructError as error:
        # The last word of Construct's path is the name of the field.
        name = (error.path or "").rpartition(" ")[2]
        raise RuleBroken(_PART_RULES[name], f"the certificate part's {name} is another") from None
    return UpdatePayload(time, payload[HEADER_SIZE:end], payload[end:])


def build_update(update: UpdatePayload) -> bytes:
    """Return the payload of an update."""
    part = _build(CERTIFICATE_PART, {"length": PART_SIZE + len(update.pkcs7)})
    return build_time(update.time) + part + update.pkcs7 + update.contents


def parse_lists(data: bytes, rule: Rule) -> list[SignatureList]:
    """Return the signature lists in `data`, which may be empty.

    The lists follow each other without a gap, and no byte follows the last one.  Every list has at least one
    signature, and every signature at least one byte after its owner.  RuleBroken with `rule` for anything
    else.
    """
    lists: list[SignatureList] = []
    at = 0
    while at < len(data):
        found, at = _parse_list(data, at, rule)
        lists.append(found)
    return lists


def _parse_list(data: bytes, at: int, rule: Rule) -> tuple[SignatureList, int]:
    left = len(data) - at
    if left < LIST_HEADER_SIZE:
        raise RuleBroken(rule, f"{left} bytes where a signature list has {LIST_HEADER_SIZE} and more")
    head = LIST_HEADER.parse(data[at : at + LIST_HEADER_SIZE])
    first = LIST_HEADER_SIZE + head.header_size
    room, size = head.list_size - first, head.signature_size
    if head.list_size > left:
        raise RuleBroken(rule, f"a signature list of {head.list_size} bytes, {left} are there")
    # The sender chose the sizes. A `size` of 0 is refused first, so the remainder never divides by it.
    if size <= OWNER_SIZE or room < size or room % size:
        raise RuleBroken(rule, f"{room} bytes of signatures of {size} bytes each")
    end = at + head.list_size
    start = at + first
    signatures = tuple(data[n : n + size] for n in range(start, end, size))
    return SignatureList(head.type, data[at + LIST_HEADER_SIZE : start], signatures), end


def build_lists(lists: Iterable[SignatureList]) -> bytes:
    """Return the bytes of signature lists, one after the other."""
    return b"".join(_build_list(each) for each in lists)


def _build_list(each: SignatureList) -> bytes:
    size = len(each.signatures[0])
    body = each.header + b"".join(each.signatures)
    sizes = {
        "list_size": LIST_HEADER_SIZE + len(body),
        "header_size": len(each.header),
        "signature_size": size,
    }
    return _build(LIST_HEADER, {"type": each.type, **sizes}) + body


def parse_stored(data: bytes) -> StoredVariable | None:
    """Return the parts of a stored variable; None for bytes of another form."""
    try:
        fields = STORED_HEADER.parse(data)
    except ConstructError:
        return None
    return StoredVariable(_time(fields), data[STORED_SIZE:])


def build_stored(variable: StoredVariable) -> bytes:
    """Return a variable in the form in which it is stored and read back."""
    return _build(STORED_HEADER, variable.time._asdict()) + variable.contents


def _time(fields: Any) -> EfiTime:
    return EfiTime(*(fields[name] for name in _MOMENT))


def _build(definition: Struct, values: dict[str, Any]) -> bytes:
    built: bytes = definition.build(values)
    return built
