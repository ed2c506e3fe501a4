"""The small records: a partition's profile and the system's own record (spec/sealed.md).

A profile goes with every flush, so it is built by the codec derived from its Construct definition.
All are read at start only, by Construct itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from construct import ConstructError

from hcall_abi.consumers import SecureBoot
from hcall_abi.layout import FixedLayout
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.formats import (
    PROFILE,
    PROFILE_1,
    PROFILE_HEADER,
    SYSTEM,
    ProfileAttribute,
    SealedKind,
)
from hcall_server.sealing.sealer import Sealer

_PROFILE_HEADER = FixedLayout(PROFILE_HEADER)
_PROFILE_1_START = (1).to_bytes(2, "big")
_ALL_ATTRIBUTES = sum(ProfileAttribute)
_SECURE_BOOT_MODES = frozenset(int(mode) for mode in SecureBoot)


class SystemRecord(NamedTuple):
    """What is kept of the managed system: the name of its firmware level and its PKS total in KiB."""

    firmware: str
    total_kbytes: int


def encode_profile(profile: PartitionProfile) -> bytes:
    """Return the plaintext of a profile."""
    name = profile.name.encode()
    header = _PROFILE_HEADER.pack(
        _attributes(profile),
        profile.number,
        profile.secure_boot,
        int(profile.auto_start),
        profile.kbytes,
        profile.ipl_count,
        profile.image_generation,
        len(name),
    )
    return header + name


def decode_profile(plaintext: bytes) -> PartitionProfile:
    """Return the profile that `plaintext` holds, of any level; raises PlaintextError for anything else.

    Level 1 had no attributes of signed updates: in such a profile all of them are off.
    """
    old = plaintext.startswith(_PROFILE_1_START)
    found = _parsed(PROFILE_1 if old else PROFILE, plaintext, "partition-profile")
    header = found.header
    attributes = 0 if old else header.attributes
    _check_ranges(header, found.name, attributes)
    return PartitionProfile(
        header.number,
        _text(found.name, "partition-profile"),
        header.kbytes,
        header.ipl_count,
        header.secure_boot,
        bool(header.auto_start),
        header.image_generation,
        *(bool(attributes & bit) for bit in ProfileAttribute),
    )


def _attributes(profile: PartitionProfile) -> int:
    return (
        profile.signed_updates * ProfileAttribute.SIGNED_UPDATES
        | profile.without_verification * ProfileAttribute.WITHOUT_VERIFICATION
        | profile.dynamic_keys * ProfileAttribute.DYNAMIC_KEYS
    )


def _check_ranges(header: Any, name: bytes, attributes: int) -> None:
    modes, switches = _SECURE_BOOT_MODES, {0, 1}
    known = attributes & ~_ALL_ATTRIBUTES == 0
    if header.secure_boot in modes and header.auto_start in switches and name and known:
        return
    raise PlaintextError(
        "a field has a value outside its range",
        rule="secure boot is 0 to 2, auto start 0 or 1, attributes are known, and a partition has a name",
        heading="partition-profile",
    )


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
            raise PlaintextError(
                f"is the profile of partition {record.number}",
                rule="a profile names the partition that it is sealed for",
                heading="partition-profile",
            )
    except PlaintextError as error:
        raise UndecodableError(kind, partition, error) from None
    return record


def encode_system(record: SystemRecord) -> bytes:
    """Return the plaintext of the system record."""
    return bytes(SYSTEM.build({"total_kbytes": record.total_kbytes, "firmware": record.firmware.encode()}))


def decode_system(plaintext: bytes) -> SystemRecord:
    """Return the system record that `plaintext` holds; raises PlaintextError for anything else."""
    found = _parsed(SYSTEM, plaintext, "system-record")
    return SystemRecord(_text(found.firmware, "system-record"), found.total_kbytes)


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


def _parsed(definition: Any, plaintext: bytes, heading: str) -> Any:
    """Return what Construct makes of `plaintext`, all of it."""
    try:
        return definition.parse(plaintext)
    except ConstructError as error:
        raise PlaintextError(
            f"does not have the layout of its level ({type(error).__name__})",
            rule="the plaintext has a known level, zero reserved bytes and no trailing bytes",
            heading=heading,
        ) from None


def _text(name: bytes, heading: str) -> str:
    """Return a stored name as text; raises PlaintextError when it is not UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise PlaintextError("a name is not UTF-8", rule="names are UTF-8", heading=heading) from None
