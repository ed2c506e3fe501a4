"""The system record: the stored data of the managed system itself (spec/sealed.md#system-record)."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from construct import ConstructError

from hcall_abi.bounds import SYSTEM_NAME_SIZE
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import storage as rules
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.fields import (
    SYSTEM_MOVES_TAG,
    SYSTEM_NAME_TAG,
    SYSTEM_TAGS,
    encode_fields,
    later_fields,
    layout_error,
)
from hcall_server.sealing.formats import LISTED_HEADER, SYSTEM, SYSTEM_HEADER, SYSTEM_LEVEL
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.sealer import SYSTEM_OWNER, Sealer
from hcall_server.sealing.text import decoded_text

if TYPE_CHECKING:
    from hcall_server.platform.system import ManagedSystem

COUNT_SIZE = 2
"""Bytes of the number of partitions in the roster."""
_LISTED = FixedLayout(LISTED_HEADER)
_MOVED = b"\1"


class Listed(NamedTuple):
    """A partition in the roster."""

    uuid: UUID
    number: int
    name: str


_number = attrgetter("number")


class SystemRecord(NamedTuple):
    """The stored data of the managed system: the name of its firmware level and its PKS total in KiB.

    `roster` lists its partitions.  If the record of a partition does not open, the roster still has its
    name.  `name` is the console's name of the system, "" for none.

    If `moved`, a partition has taken part in a migration.  A release without migrations refuses such a
    record.  It would not see that the partition has left, and would make it again.
    """

    firmware: str
    total_kbytes: int
    roster: tuple[Listed, ...] = ()
    name: str = ""
    moved: bool = False

    @classmethod
    def of(cls, system: ManagedSystem) -> SystemRecord:
        """Return the record of the present system.

        Partitions that were not converted from sealed level 1 have no UUID, and are left out.
        """
        profiles = (each.profile for each in system.partitions.values() if not each.name_unknown)
        known = (each for each in profiles if each.uuid.version is not None)
        roster = sorted((Listed(each.uuid, each.number, each.name) for each in known), key=_number)
        moved = bool(system.departed) or any(each.profile.epoch for each in system.partitions.values())
        return cls(system.level.name, system.total_kbytes, tuple(roster), system.name, moved)


def encode_system(record: SystemRecord) -> bytes:
    """Return the plaintext of the system record (a roster of 1,000 partitions takes about a millisecond)."""
    header = SYSTEM_HEADER.build({"total_kbytes": record.total_kbytes, "firmware": record.firmware.encode()})
    # A derived codec packs the roster.  On the event loop, Construct would interpret the layout again for
    # each partition.
    roster = b"".join(_listed(each) for each in record.roster)
    return bytes(header) + len(record.roster).to_bytes(COUNT_SIZE, "big") + roster + _later(record)


def decode_system(plaintext: bytes) -> SystemRecord:
    """Return the system record that `plaintext` holds; raises PlaintextError for anything else."""
    try:
        found = SYSTEM.parse(plaintext)
    except ConstructError as error:
        raise layout_error(plaintext, SYSTEM_LEVEL, rules.SYSTEM_LAYOUT, error) from None
    later = later_fields(found.later, SYSTEM_TAGS)
    roster = tuple(
        Listed(UUID(bytes=each.header.uuid), each.header.number, decoded_text(each.name, rules.SYSTEM_NAME))
        for each in found.roster
    )
    firmware = decoded_text(found.header.firmware, rules.SYSTEM_NAME)
    name = _own_name(later[SYSTEM_NAME_TAG]) if SYSTEM_NAME_TAG in later else ""
    moved = later.get(SYSTEM_MOVES_TAG)
    if moved not in (None, _MOVED):
        raise PlaintextError(rules.SEALED_FIELD, "has another value than 1 about partitions that have moved")
    return SystemRecord(firmware, found.header.total_kbytes, roster, name, moved is not None)


def seal_system(sealer: Sealer, record: SystemRecord) -> bytes:
    """Return the sealed blob of the system record; its generation is 0."""
    return sealer.seal(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, 0, encode_system(record))


def open_system(sealer: Sealer, blob: bytes) -> SystemRecord:
    """Return the system record in a sealed blob; raises SealingError with the reason."""
    _, plaintext = sealer.open(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, blob)
    try:
        return decode_system(plaintext)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, error) from None


def _later(record: SystemRecord) -> bytes:
    """Return the list of fields that later releases added to the system record.

    ValueError if the system's name is too long.  Every reader would refuse a record with such a name.
    """
    name = record.name.encode()
    if len(name) > SYSTEM_NAME_SIZE:
        raise ValueError(f"a system's name has 1 to {SYSTEM_NAME_SIZE} bytes")
    # An empty value has no field.  So if a system has no name and no moves, its record is the same as in
    # releases without these fields, byte for byte.
    fields = {SYSTEM_NAME_TAG: name, SYSTEM_MOVES_TAG: _MOVED if record.moved else b""}
    return encode_fields({tag: value for tag, value in fields.items() if value})


def _own_name(name: bytes) -> str:
    if not 1 <= len(name) <= SYSTEM_NAME_SIZE:
        raise PlaintextError(rules.SYSTEM_NAME, f"the system's name has {len(name)} bytes")
    return decoded_text(name, rules.SYSTEM_NAME)


def _listed(each: Listed) -> bytes:
    name = each.name.encode()
    return _LISTED.pack(each.uuid.bytes, each.number, len(name)) + name
