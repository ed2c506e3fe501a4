"""The small records: a partition's profile and the system's own record (spec/sealed.md).

A profile goes with every flush, so it is built by the codec derived from its Construct definition.
All are read at start only, by Construct itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from construct import ConstructError

from hcall_abi.console import AT_FIRST, ATTRIBUTES, SWITCH
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.formats import (
    PROFILE,
    PROFILE_1,
    PROFILE_HEADER,
    SYSTEM,
    SealedKind,
)
from hcall_server.sealing.sealer import Sealer

_PROFILE_HEADER = FixedLayout(PROFILE_HEADER)
_PROFILE_1_START = (1).to_bytes(2, "big")
_FIELDS = {name: row.sealed for name, row in ATTRIBUTES.items() if isinstance(row.sealed, str)}
"""Console attributes with a field of their own in the header."""
_BITS = {name: row.sealed for name, row in ATTRIBUTES.items() if isinstance(row.sealed, int)}
"""Switches of the console, each a bit of the header's `attributes`."""


class SystemRecord(NamedTuple):
    """What is kept of the managed system: the name of its firmware level and its PKS total in KiB."""

    firmware: str
    total_kbytes: int


def encode_profile(profile: PartitionProfile) -> bytes:
    """Return the plaintext of a profile."""
    numbers, name = profile.attributes.numbers, profile.name.encode()
    fields = {field: numbers[attribute] for attribute, field in _FIELDS.items()} | {
        "attributes": sum(bit for attribute, bit in _BITS.items() if numbers[attribute]),
        "number": profile.number,
        "auto_start": int(profile.auto_start),
        "ipl_count": profile.ipl_count,
        "image_generation": profile.image_generation,
        "name_length": len(name),
    }
    return _PROFILE_HEADER.pack(*(fields[field] for field in _PROFILE_HEADER.names)) + name


def decode_profile(plaintext: bytes) -> PartitionProfile:
    """Return the profile that `plaintext` holds, of any level; raises PlaintextError for anything else.

    Level 1 had no switches: in such a profile all of them are off.
    """
    old = plaintext.startswith(_PROFILE_1_START)
    found = _parsed(PROFILE_1 if old else PROFILE, plaintext, rules.PROFILE_LAYOUT)
    header = found.header
    switches = 0 if old else header.attributes
    numbers = {attribute: getattr(header, field) for attribute, field in _FIELDS.items()}
    numbers |= {attribute: int(bool(switches & bit)) for attribute, bit in _BITS.items()}
    _check_ranges(numbers, header.auto_start, found.name, switches)
    return PartitionProfile(
        number=header.number,
        name=_text(found.name, rules.PROFILE_NAME),
        attributes=AT_FIRST.with_numbers(numbers),
        auto_start=bool(header.auto_start),
        ipl_count=header.ipl_count,
        image_generation=header.image_generation,
    )


def _check_ranges(numbers: dict[str, int], auto_start: int, name: bytes, switches: int) -> None:
    known = switches & ~sum(_BITS.values()) == 0
    inside = all(numbers[attribute] in row.numbers for attribute, row in ATTRIBUTES.items())
    if not (inside and auto_start in SWITCH and name and known):
        raise PlaintextError(rules.PROFILE_RANGES, "a field has a value outside its range")


def seal_profile(sealer: Sealer, profile: PartitionProfile, generation: int = 0) -> bytes:
    """Return the sealed blob of a partition's profile."""
    return sealer.seal(SealedKind.PARTITION_PROFILE, profile.number, generation, encode_profile(profile))


def open_profile(sealer: Sealer, partition: int, blob: bytes) -> PartitionProfile:
    """Return the profile in a sealed blob; raises SealingError with the reason."""
    kind = SealedKind.PARTITION_PROFILE
    _, plaintext = sealer.open(kind, partition, blob)
    try:
        record = decode_profile(plaintext)
        if record.number != partition:
            raise PlaintextError(rules.PROFILE_OWNER, f"is the profile of partition {record.number}")
    except PlaintextError as error:
        raise UndecodableError(kind, partition, error) from None
    return record


def encode_system(record: SystemRecord) -> bytes:
    """Return the plaintext of the system record."""
    return bytes(SYSTEM.build({"total_kbytes": record.total_kbytes, "firmware": record.firmware.encode()}))


def decode_system(plaintext: bytes) -> SystemRecord:
    """Return the system record that `plaintext` holds; raises PlaintextError for anything else."""
    found = _parsed(SYSTEM, plaintext, rules.SYSTEM_LAYOUT)
    return SystemRecord(_text(found.firmware, rules.SYSTEM_NAME), found.total_kbytes)


def seal_system(sealer: Sealer, record: SystemRecord, generation: int = 0) -> bytes:
    """Return the sealed blob of the system record."""
    return sealer.seal(SealedKind.SYSTEM_RECORD, 0, generation, encode_system(record))


def open_system(sealer: Sealer, blob: bytes) -> SystemRecord:
    """Return the system record in a sealed blob; raises SealingError with the reason."""
    _, plaintext = sealer.open(SealedKind.SYSTEM_RECORD, 0, blob)
    try:
        return decode_system(plaintext)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.SYSTEM_RECORD, 0, error) from None


def _parsed(definition: Any, plaintext: bytes, rule: Rule) -> Any:
    """Return what Construct makes of `plaintext`, all of it."""
    try:
        return definition.parse(plaintext)
    except ConstructError as error:
        message = f"does not have the layout of its level ({type(error).__name__})"
        raise PlaintextError(rule, message) from None


def _text(name: bytes, rule: Rule) -> str:
    """Return a stored name as text; raises PlaintextError when it is not UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise PlaintextError(rule, "a name is not UTF-8") from None
