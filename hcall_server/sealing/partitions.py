"""The partition record: profile and image of one partition as one blob (spec/sealed.md#partition-record).

There is one blob, so a flush seals once, and neither part can be replaced without the other.  The
envelope's generation is that of the image.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from construct import ConstructError, Container

from hcall_abi.console import AT_FIRST, LARGEST_PARTITION_ID, SWITCH
from hcall_abi.layout import FixedLayout, LayoutMismatch
from hcall_abi.rules import storage as rules
from hcall_server.keystore.image import StoreImage
from hcall_server.platform.custody import Custody
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing.attributes import BITS, FIELDS, numbers_of, out_of_range
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.fields import (
    NO_FIELDS,
    PARTITION_TAGS,
    RESTORES_TAG,
    encode_fields,
    later_fields,
)
from hcall_server.sealing.formats import PARTITION, PARTITION_HEADER
from hcall_server.sealing.images import decode_image, encode_image
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.sealer import Sealer
from hcall_server.sealing.text import decoded_text

_HEADER = FixedLayout(PARTITION_HEADER)
RESTORES_SIZE = 4
"""Bytes of the count of restores."""
_ONLY_RESTORES = encode_fields({RESTORES_TAG: bytes(RESTORES_SIZE)})[:-RESTORES_SIZE]
"""The tagged list with the count of restores alone, up to the count."""


class PartitionRecord(NamedTuple):
    """A partition at rest; `image` is None while its keystore is off."""

    profile: PartitionProfile
    image: StoreImage | None


def encode_partition(record: PartitionRecord) -> bytes:
    """Return the plaintext of a partition record, without its UUID and generation."""
    profile, image = record
    numbers, name = profile.attributes.numbers, profile.name.encode()
    fields = {field: numbers[attribute] for attribute, field in FIELDS.items()} | {
        "attributes": sum(bit for attribute, bit in BITS.items() if numbers[attribute]),
        "number": profile.number,
        "auto_start": int(profile.auto_start),
        "ipl_count": profile.ipl_count,
        "access_key": profile.access_key,
        "custody": int(profile.custody),
        "name_length": len(name),
    }
    header = _HEADER.pack(*(fields[field] for field in _HEADER.names))
    later = encode_fields({RESTORES_TAG: _restores(profile.restores)}) if profile.restores else NO_FIELDS
    return header + name + later + (encode_image(image) if image else b"")


def decode_partition(plaintext: bytes, uuid: UUID, generation: int) -> PartitionRecord:
    """Return the record that `plaintext` holds; raises PlaintextError for anything else."""
    try:
        found = parsed(plaintext)
    except ConstructError as error:
        reason = f"does not have the layout of its level ({type(error).__name__})"
        raise PlaintextError(rules.PROFILE_LAYOUT, reason) from None
    later = later_fields(found.later, PARTITION_TAGS)
    profile = _profile(found.header, found.name, uuid, generation)
    if RESTORES_TAG in later:
        profile = profile._replace(restores=_restores_in(later[RESTORES_TAG]))
    if bool(found.image) != bool(profile.attributes.keystore_kbytes):
        raise PlaintextError(rules.RECORDS_WHOLE, "has an image and no keystore, or a keystore and no image")
    return PartitionRecord(profile, decode_image(found.image, generation) if found.image else None)


def parsed(plaintext: bytes) -> Any:
    """Return or raise what `PARTITION.parse` does.

    A start parses the record of every partition.  So a record that has no later fields, or the count of
    restores alone, is taken apart by the derived codec, in a tenth of the time.  Construct judges all others.
    """
    try:
        header = Container(zip(_HEADER.names, _HEADER.unpack(plaintext), strict=True))
    except LayoutMismatch:
        return PARTITION.parse(plaintext)
    end = _HEADER.size + header.name_length
    name, rest = plaintext[_HEADER.size : end], plaintext[end:]
    if rest[: len(NO_FIELDS)] == NO_FIELDS:
        return Container(header=header, name=name, later=[], image=rest[len(NO_FIELDS) :])
    count, image = rest[len(_ONLY_RESTORES) :][:RESTORES_SIZE], rest[len(_ONLY_RESTORES) + RESTORES_SIZE :]
    if rest[: len(_ONLY_RESTORES)] != _ONLY_RESTORES or len(count) < RESTORES_SIZE:
        return PARTITION.parse(plaintext)
    return Container(header=header, name=name, later=[Container(tag=RESTORES_TAG, value=count)], image=image)


def seal_partition(sealer: Sealer, record: PartitionRecord) -> bytes:
    """Return the sealed blob of a partition record."""
    profile = record.profile
    return sealer.seal(SealedKind.PARTITION, profile.uuid, profile.image_generation, encode_partition(record))


def open_partition(sealer: Sealer, uuid: UUID, blob: bytes) -> PartitionRecord:
    """Return the partition record in a sealed blob; raises SealingError with the reason."""
    generation, plaintext = sealer.open(SealedKind.PARTITION, uuid, blob)
    try:
        return decode_partition(plaintext, uuid, generation)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.PARTITION, uuid, error) from None


def _profile(header: Any, name: bytes, uuid: UUID, generation: int) -> PartitionProfile:
    numbers = numbers_of(header, header.attributes)
    _check_ranges(header, name)
    return PartitionProfile(
        number=header.number,
        name=decoded_text(name, rules.PROFILE_NAME),
        uuid=uuid,
        access_key=header.access_key,
        custody=Custody(header.custody),
        attributes=AT_FIRST.with_numbers(numbers),
        auto_start=bool(header.auto_start),
        ipl_count=header.ipl_count,
        image_generation=generation,
    )


def _restores(count: int) -> bytes:
    return count.to_bytes(RESTORES_SIZE, "big")


def _restores_in(value: bytes) -> int:
    """Return the count in its field; a store that was never restored has no such field."""
    count = int.from_bytes(value, "big")
    if len(value) != RESTORES_SIZE or not count:
        raise PlaintextError(rules.SEALED_FIELD, f"has {len(value)} bytes or a zero as its count of restores")
    return count


def _check_ranges(header: Any, name: bytes) -> None:
    numbered = 1 <= header.number <= LARGEST_PARTITION_ID
    owned = header.custody in list(Custody)
    if not (numbered and owned and name and header.auto_start in SWITCH):
        raise out_of_range()
