"""The small records: a partition's profile and the system's own record (spec/sealed.md).

They are written seldom and read at start, so Construct itself parses and builds them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from construct import ConstructError

from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.formats import PROFILE, SYSTEM, SealedKind
from hcall_server.sealing.sealer import Sealer

_SECURE_BOOT_MODES = (0, 1, 2)


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


class ProfileRecord(NamedTuple):
    """A profile as it was read back; the fields are those of `Profile`."""

    number: int
    name: str
    kbytes: int
    ipl_count: int
    secure_boot: int
    auto_start: bool


class SystemRecord(NamedTuple):
    """What is kept of the managed system: the name of its firmware level and its PKS total in KiB."""

    firmware: str
    total_kbytes: int


def encode_profile(profile: Profile) -> bytes:
    """Return the plaintext of a profile."""
    fields = {field: getattr(profile, field) for field in ProfileRecord._fields}
    return bytes(PROFILE.build(fields))


def decode_profile(plaintext: bytes) -> ProfileRecord:
    """Return the profile that `plaintext` holds; raises PlaintextError for anything else."""
    found = _parsed(PROFILE, plaintext, "partition-profile")
    record = ProfileRecord(
        found.number, found.name, found.kbytes, found.ipl_count, found.secure_boot, bool(found.auto_start)
    )
    if record.secure_boot not in _SECURE_BOOT_MODES or found.auto_start not in {0, 1} or not record.name:
        raise PlaintextError(
            "a field has a value outside its range",
            rule="secure boot is 0 to 2, auto start 0 or 1, and a partition has a name",
            heading="partition-profile",
        )
    return record


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
    return bytes(SYSTEM.build(record._asdict()))


def decode_system(plaintext: bytes) -> SystemRecord:
    """Return the system record that `plaintext` holds; raises PlaintextError for anything else."""
    found = _parsed(SYSTEM, plaintext, "system-record")
    return SystemRecord(found.firmware, found.total_kbytes)


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
    """Return what Construct makes of `plaintext`, all of it; names have to be UTF-8."""
    try:
        return definition.parse(plaintext)
    except (ConstructError, UnicodeDecodeError) as error:
        raise PlaintextError(
            f"does not have the layout of its level ({type(error).__name__})",
            rule="the plaintext has a known level, zero reserved bytes and no trailing bytes",
            heading=heading,
        ) from None
