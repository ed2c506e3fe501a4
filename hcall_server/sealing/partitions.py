"""The partition record: profile and image of one partition as one blob (spec/sealed.md#partition-record).

Both are in one blob.  So a flush seals once, and neither part can be replaced without the other.  The
envelope has the generation of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from construct import ConstructError, Container

from hcall_abi.console import AT_FIRST, LARGEST_PARTITION_ID, SWITCH
from hcall_abi.layout import FixedLayout, LayoutMismatch
from hcall_abi.rules import storage as rules
from hcall_server.keystore.image import StoreImage
from hcall_server.platform.custody import STORED, Custody
from hcall_server.platform.identity import SYSTEM_ID_SIZE
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing.attributes import FIELDS, numbers_of, out_of_range, switches_of
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.fields import (
    EPOCH_TAG,
    NO_FIELDS,
    PARTITION_TAGS,
    PEER_TAG,
    RESTORES_TAG,
    encode_fields,
    later_fields,
    layout_error,
    taken_apart,
)
from hcall_server.sealing.formats import PARTITION, PARTITION_HEADER, PARTITION_LEVEL
from hcall_server.sealing.images import decode_image, encode_image
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.sealer import Sealer
from hcall_server.sealing.text import decoded_text

_HEADER = FixedLayout(PARTITION_HEADER)
RESTORES_SIZE = 4
"""Bytes of the count of restores."""
EPOCH_SIZE = 8
"""Bytes of the number of an attempt."""


class PartitionRecord(NamedTuple):
    """The stored form of a partition; `image` is None while its keystore is off."""

    profile: PartitionProfile
    image: StoreImage | None


def encode_partition(record: PartitionRecord) -> bytes:
    """Return the plaintext of a partition record, without its UUID and generation."""
    profile, image = record
    numbers, name = profile.attributes.numbers, profile.name.encode()
    fields = {field: numbers[attribute] for attribute, field in FIELDS.items()} | {
        "attributes": switches_of(numbers),
        "number": profile.number,
        "auto_start": int(profile.auto_start),
        "ipl_count": profile.ipl_count,
        "access_key": profile.access_key,
        "custody": int(profile.custody),
        "name_length": len(name),
    }
    header = _HEADER.pack(*(fields[field] for field in _HEADER.names))
    return header + name + _later(profile) + (encode_image(image) if image else b"")


def decode_partition(plaintext: bytes, uuid: UUID, generation: int) -> PartitionRecord:
    """Return the record that `plaintext` holds; raises PlaintextError for anything else."""
    try:
        found = parsed(plaintext)
    except ConstructError as error:
        raise layout_error(plaintext, PARTITION_LEVEL, rules.PROFILE_LAYOUT, error) from None
    later = later_fields(found.later, PARTITION_TAGS)
    profile = _profile(found.header, found.name, uuid, generation)
    if later:
        profile = _with_later(profile, later)
    # A partition leaves custody OWN only by a word of an attempt, and the epoch of an attempt is above 0.
    if profile.custody is not Custody.OWN and not profile.epoch:
        raise out_of_range()
    # Even the image of an empty store has a header.  So no bytes means no image.
    if bool(found.image) != bool(profile.attributes.keystore_kbytes):
        raise PlaintextError(rules.RECORDS_WHOLE, "has an image and no keystore, or a keystore and no image")
    return PartitionRecord(profile, decode_image(found.image, generation) if found.image else None)


def parsed(plaintext: bytes) -> Any:
    """Return the result of `PARTITION.parse`, or raise its error.

    A start parses the record of every partition.  Derived codecs take a well-formed record apart, in a
    tenth of the time.  For any other record, Construct gives the result or raises the error.
    """
    try:
        header = Container(zip(_HEADER.names, _HEADER.unpack(plaintext), strict=True))
    except LayoutMismatch:
        return PARTITION.parse(plaintext)
    end = _HEADER.size + header.name_length
    fields = taken_apart(plaintext, end)
    if fields is None:
        return PARTITION.parse(plaintext)
    later, image = fields
    name = plaintext[_HEADER.size : end]
    return Container(header=header, name=name, later=later, image=plaintext[image:])


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


def _later(profile: PartitionProfile) -> bytes:
    """Return the tagged list; a profile that was never restored or moved has none of these fields."""
    restores, epoch, peer = profile.restores, profile.epoch, profile.peer
    # A field without a value is left out.  So older releases can read the record of a partition that was
    # never moved or restored.  They refuse all other records, which they could serve wrongly.
    if not (restores or epoch or peer):
        return NO_FIELDS
    fields = {
        RESTORES_TAG: restores.to_bytes(RESTORES_SIZE, "big") if restores else b"",
        EPOCH_TAG: epoch.to_bytes(EPOCH_SIZE, "big") if epoch else b"",
        PEER_TAG: peer,
    }
    return encode_fields({tag: value for tag, value in fields.items() if value})


def _with_later(profile: PartitionProfile, later: Mapping[int, bytes]) -> PartitionProfile:
    """Return a profile with the values of its later fields."""
    peer = later.get(PEER_TAG, b"")
    if PEER_TAG in later and len(peer) != SYSTEM_ID_SIZE:
        raise PlaintextError(rules.SEALED_FIELD, f"has {len(peer)} bytes as the id of another system")
    restores = _number_in(later, RESTORES_TAG, RESTORES_SIZE, "its count of restores")
    epoch = _number_in(later, EPOCH_TAG, EPOCH_SIZE, "its last attempt to move")
    return profile._replace(restores=restores, epoch=epoch, peer=peer)


def _number_in(later: Mapping[int, bytes], tag: int, size: int, what: str) -> int:
    """Return the number in a field, 0 if there is no such field.  A field never holds 0."""
    if tag not in later:
        return 0
    value = later[tag]
    number = int.from_bytes(value, "big")
    if len(value) != size or not number:
        raise PlaintextError(rules.SEALED_FIELD, f"has {len(value)} bytes or a zero as {what}")
    return number


def _check_ranges(header: Any, name: bytes) -> None:
    numbered = 1 <= header.number <= LARGEST_PARTITION_ID
    stored = header.custody in STORED
    if not (numbered and stored and name and header.auto_start in SWITCH):
        raise out_of_range()
