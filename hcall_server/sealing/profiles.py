"""The small records: a partition's profile and the system's own record (spec/sealed.md).

A profile goes with every flush, so it is built by the codec derived from its Construct definition.
All are read at start only, by Construct itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from construct import ConstructError

from hcall_abi.consumers import SecureBoot
from hcall_abi.layout import FixedLayout
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


class Profile(Protocol):
    """What a profile record keeps of a partition: `platform.partition.PartitionProfile` is one."""

    @property
    def number(self) -> int:
        """The partition's number, 1 to 65535."""

    @property
    def name(self) -> str:
        """Its name, at most 255 bytes of UTF-8."""

    @property
    def kbytes(self) -> int:
        """The size of its keystore in KiB, 0 when PKS is off."""

    @property
    def ipl_count(self) -> int:
        """How often it was IPLed."""

    @property
    def secure_boot(self) -> int:
        """Its secure-boot mode, a `hcall_abi.consumers.SecureBoot`."""

    @property
    def auto_start(self) -> bool:
        """Whether it is activated when the system starts."""

    @property
    def image_generation(self) -> int:
        """The generation of the image that was committed with it: an older one in its place is noticed."""

    @property
    def signed_updates(self) -> bool:
        """Whether it may use signed updates."""

    @property
    def without_verification(self) -> bool:
        """Whether one PK is to be taken without verification."""

    @property
    def dynamic_keys(self) -> bool:
        """Whether its secure boot takes keys from the keystore."""


class ProfileRecord(NamedTuple):
    """A profile as it was read back; the fields are those of `Profile`.

    Level 1 had no attributes: a record of it says that all are off.
    """

    number: int
    name: str
    kbytes: int
    ipl_count: int
    secure_boot: int
    auto_start: bool
    image_generation: int
    signed_updates: bool = False
    without_verification: bool = False
    dynamic_keys: bool = False


class SystemRecord(NamedTuple):
    """What is kept of the managed system: the name of its firmware level and its PKS total in KiB."""

    firmware: str
    total_kbytes: int


def encode_profile(profile: Profile) -> bytes:
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


def decode_profile(plaintext: bytes) -> ProfileRecord:
    """Return the profile that `plaintext` holds, of any level; raises PlaintextError for anything else."""
    old = plaintext.startswith(_PROFILE_1_START)
    found = _parsed(PROFILE_1 if old else PROFILE, plaintext, "partition-profile")
    header = found.header
    attributes = 0 if old else header.attributes
    _check_ranges(header, found.name, attributes)
    return ProfileRecord(
        header.number,
        _text(found.name, "partition-profile"),
        header.kbytes,
        header.ipl_count,
        header.secure_boot,
        bool(header.auto_start),
        header.image_generation,
        *(bool(attributes & bit) for bit in ProfileAttribute),
    )


def _attributes(profile: Profile) -> int:
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


def seal_profile(sealer: Sealer, profile: Profile, generation: int = 0) -> bytes:
    """Return the sealed blob of a partition's profile."""
    return sealer.seal(SealedKind.PARTITION_PROFILE, profile.number, generation, encode_profile(profile))


def open_profile(sealer: Sealer, partition: int, blob: bytes) -> ProfileRecord:
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
