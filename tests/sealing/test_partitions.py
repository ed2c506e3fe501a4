"""Partition records with profile and image: read whole and in range, or refused with the reason."""

import contextlib
import struct
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from construct import ConstructError
from hypothesis import example, given
from hypothesis import strategies as st

from hcall_abi.console import ATTRIBUTES, SWITCH
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import storage as rules
from hcall_server.platform.custody import STORED, Custody
from hcall_server.sealing import (
    PartitionRecord,
    PlaintextError,
    SealedKind,
    SealingError,
    UndecodableError,
    decode_partition,
    encode_image,
    encode_partition,
    open_partition,
    seal_partition,
)
from hcall_server.sealing.formats import PARTITION, PARTITION_HEADER
from hcall_server.sealing.partitions import parsed
from tests.sealing import second_records
from tests.sealing.samples import FOUR, OFF, PROFILE, RECORD, SEALER, SWITCHES, flipped, put, records

PLAINTEXT = encode_partition(RECORD)
LATER = 50 + len(PROFILE.name)
"""Where the tagged list begins in PLAINTEXT."""


def decoded(plaintext: bytes) -> PartitionRecord:
    return decode_partition(plaintext, FOUR, 99)


@given(records)
def test_a_partition_record_comes_back(record: PartitionRecord) -> None:
    """R-21, R-22, R-47: A sealed record opens with the same profile, image, UUID and generation."""
    assert open_partition(SEALER, record.profile.uuid, seal_partition(SEALER, record)) == record


@given(records)
def test_the_plaintext_has_the_documented_layout(record: PartitionRecord) -> None:
    """R-02: The Construct definition and the second implementation read the bytes of the package."""
    plaintext = encode_partition(record)
    found = PARTITION.parse(plaintext)
    assert (found.header.number, found.name.decode()) == (record.profile.number, record.profile.name)
    assert found.image == (encode_image(record.image) if record.image else b"")
    profile, objects = second_records.partition_of(plaintext)
    assert second_records.partition(profile, objects) == plaintext
    assert profile["access_key"] == record.profile.access_key.hex()
    assert objects is None if record.image is None else len(objects or []) == len(record.image.objects)


def found_by(parse: Callable[[bytes], Any], plaintext: bytes) -> object:
    """Return the parts that a parser finds in a plaintext, or the kind of its error."""
    try:
        found = parse(plaintext)
    except ConstructError as error:
        return type(error)
    header = {name: found.header[name] for name in FixedLayout(PARTITION_HEADER).names}
    later = [(field.tag, field.value) for field in found.later]
    return header, found.name, later, found.image


@given(records, st.binary(max_size=6), st.data())
@example(RECORD, b"\1\0\7\0\1x", None)
def test_the_derived_codec_takes_apart_as_construct_does(
    record: PartitionRecord, junk: bytes, data: st.DataObject | None
) -> None:
    """R-02: For whole, cut or changed bytes, the package and Construct find equal parts or errors."""
    plaintext = encode_partition(record)
    at = data.draw(st.integers(0, len(plaintext))) if data else LATER
    for each in plaintext, plaintext[:at], put(plaintext, at, junk), plaintext[:at] + junk + plaintext[at:]:
        assert found_by(parsed, each) == found_by(PARTITION.parse, each)


@given(st.binary(max_size=90))
@example(b"")
def test_any_bytes_give_a_record_or_an_error(junk: bytes) -> None:
    """R-02: any bytes are decoded or refused, and only the bytes that encoding writes are accepted."""
    for plaintext in junk, b"\0\1\0\0\0\4" + junk, PLAINTEXT[:48] + b"\1" + junk, PLAINTEXT[:LATER] + junk:
        with contextlib.suppress(PlaintextError):
            assert encode_partition(decoded(plaintext)) == plaintext


@pytest.mark.parametrize("record", [RECORD, OFF], ids=["on", "off"])
def test_every_flipped_bit_gives_another_record_or_an_error(record: PartitionRecord) -> None:
    """R-02: If any bit is flipped, the record is refused or has other contents."""
    plaintext = encode_partition(record)
    for bit in range(8 * len(plaintext)):
        with contextlib.suppress(PlaintextError):
            assert decoded(flipped(plaintext, bit)) != record


def test_every_flipped_bit_of_the_blob_is_refused() -> None:
    """R-02: A blob with any flipped bit is refused, and the error names the partition."""
    blob = seal_partition(SEALER, RECORD)
    for bit in range(8 * len(blob)):
        with pytest.raises(SealingError, match=f"the record of partition {FOUR}: "):
            open_partition(SEALER, FOUR, flipped(blob, bit))


@pytest.mark.parametrize("record", [RECORD, OFF], ids=["on", "off"])
def test_a_truncated_record_is_refused(record: PartitionRecord) -> None:
    """R-02: a record of any other length is refused, also one with an extra byte."""
    plaintext = encode_partition(record)
    for wrong in *(plaintext[:length] for length in range(len(plaintext))), plaintext + b"\0":
        with pytest.raises(PlaintextError):
            decoded(wrong)


@pytest.mark.parametrize("bit", range(16))
def test_unknown_attributes_are_refused(bit: int) -> None:
    """R-02, R-36: A record with attribute bits of a later release is refused."""
    plaintext = put(PLAINTEXT, 2, (1 << bit).to_bytes(2, "big"))
    if bit < len(SWITCHES):
        known = decoded(plaintext).profile.attributes.numbers
        changed = [name for name in SWITCHES if known[name] != ATTRIBUTES[name].default]
        assert changed == [SWITCHES[bit]]
        return
    with pytest.raises(PlaintextError, match="outside its range") as caught:
        decoded(plaintext)
    assert caught.value.rule is rules.PROFILE_RANGES


@pytest.mark.parametrize(
    "at,value",
    [(4, bytes(2)), (6, b"\3"), (7, b"\2"), (8, b"\0\1\0\0"), *((48, bytes([n])) for n in (0, 4, 5, 8, 255))],
    ids=["number", "secure_boot", "auto_start", "kbytes", *(f"custody {n}" for n in (0, 4, 5, 8, 255))],
)
def test_values_outside_their_range_are_refused(at: int, value: bytes) -> None:
    """R-02, R-47: A record with a value that no release writes is refused.

    GONE and NONE (4, 5) mean that there is no store, so no record has them.
    """
    with pytest.raises(PlaintextError, match="outside its range") as caught:
        decoded(put(PLAINTEXT, at, value))
    assert caught.value.rule is rules.PROFILE_RANGES


def test_every_number_inside_a_range_is_accepted() -> None:
    """R-02: the ends of each range are inside it."""
    for at, value in (
        (4, b"\xff\xff"),
        (4, b"\0\1"),
        (6, b"\0"),
        (7, b"\0"),
        (8, b"\0\0\xff\xff"),
        (48, b"\1"),
    ):
        plaintext = put(PLAINTEXT, at, value)
        assert encode_partition(decoded(plaintext)) == plaintext
    assert decoded(PLAINTEXT).profile.custody is Custody.OWN


def test_a_partition_has_a_name() -> None:
    """R-02: A record with an empty name, or with one that is not UTF-8, is refused."""
    nameless = RECORD._replace(profile=PROFILE._replace(name=""))
    with pytest.raises(PlaintextError, match="outside its range"):
        decoded(encode_partition(nameless))
    with pytest.raises(PlaintextError, match="not UTF-8") as caught:
        decoded(put(PLAINTEXT, 50, b"\xff"))
    assert caught.value.rule is rules.PROFILE_NAME


def test_another_level_of_the_record_is_refused() -> None:
    """R-02: a record of a newer release is refused."""
    for level, found, rule in (
        (0, "layout of its level", rules.PROFILE_LAYOUT),
        (2, "level 2 of a later release", rules.STATE_LEVEL),
        (0x0100, "level 256 of a later release", rules.STATE_LEVEL),
    ):
        with pytest.raises(PlaintextError, match=found) as caught:
            decoded(put(PLAINTEXT, 0, level.to_bytes(2, "big")))
        assert caught.value.rule is rule


def with_later(*fields: tuple[int, bytes]) -> bytes:
    """Return PLAINTEXT with these later fields."""
    encoded = b"".join(struct.pack(">HH", tag, len(value)) + value for tag, value in fields)
    return PLAINTEXT[:LATER] + bytes([len(fields)]) + encoded + PLAINTEXT[LATER + 1 :]


@pytest.mark.parametrize("tag", [0, 4, 300, 0xFFFF])
def test_a_later_field_is_refused_by_its_tag(tag: int) -> None:
    """R-02: A record with an unknown later field is refused: the field may forbid something."""
    for value in b"", b"CANARY", bytes(300):
        with pytest.raises(PlaintextError, match=rf"unknown tag {tag}\b") as caught:
            decoded(with_later((tag, value), (7, b"")))
        assert caught.value.rule is rules.SEALED_FIELD
    blob = SEALER.seal(SealedKind.PARTITION, FOUR, 99, with_later((tag, b"CANARY")))
    with pytest.raises(UndecodableError, match=rf"{FOUR}: authentic but unreadable: .* unknown tag {tag}\b"):
        open_partition(SEALER, FOUR, blob)


def test_a_store_that_was_never_restored_has_no_field_for_it() -> None:
    """R-02: The record of a store that was never restored has no field for restores.

    So it has the same bytes as in older releases. A field with the value zero is refused.
    """
    assert PLAINTEXT[LATER] == 0
    restored = PartitionRecord(RECORD.profile._replace(restores=7), RECORD.image)
    plaintext = encode_partition(restored)
    assert plaintext == with_later((1, b"\0\0\0\7"))
    assert decoded(plaintext) == restored
    for wrong in b"", b"\0\0\0\0", b"\0\0\0\0\7", b"\7":
        with pytest.raises(PlaintextError, match="count of restores") as caught:
            decoded(with_later((1, wrong)))
        assert caught.value.rule is rules.SEALED_FIELD


@pytest.mark.parametrize("custody", sorted(STORED))
def test_every_custody_with_a_store_has_a_record(custody: Custody) -> None:
    """R-51: Custody, attempt and peer are read back. Any custody but OWN needs the number of its attempt."""
    moved = RECORD._replace(profile=PROFILE._replace(custody=custody, epoch=7, peer=b"p" * 16))
    assert decoded(encode_partition(moved)) == moved
    never = put(PLAINTEXT, 48, bytes([custody]))
    if custody is Custody.OWN:
        assert decoded(never) == RECORD
        return
    with pytest.raises(PlaintextError, match="outside its range"):
        decoded(never)


def test_a_store_that_never_moved_has_no_fields_of_attempts() -> None:
    """R-02: The record of a store that never moved has no fields of attempts.

    So it has the same bytes as in older releases. A field with attempt zero or an empty peer is refused.
    """
    assert PLAINTEXT[LATER] == 0
    epoch, peer = (2, b"\0\0\0\0\0\0\0\7"), (3, bytes(16))
    moved = RECORD._replace(profile=PROFILE._replace(epoch=7, peer=bytes(16)))
    assert encode_partition(moved) == with_later(epoch, peer)
    assert decoded(with_later(epoch, peer)) == moved
    wrongs: list[tuple[tuple[int, bytes], ...]] = [
        ((2, wrong),) for wrong in (b"", bytes(8), b"\7", bytes(8) + b"\7")
    ]
    wrongs += [(epoch, (3, wrong)) for wrong in (b"", bytes(15), bytes(17))]
    for wrong in (*wrongs, (peer, epoch), (epoch, epoch)):
        with pytest.raises(PlaintextError) as caught:
            decoded(with_later(*wrong))
        assert caught.value.rule is rules.SEALED_FIELD


def test_a_tagged_list_beyond_the_record_is_refused() -> None:
    """R-02: If the list of later fields is longer than the record, the record is refused."""
    for lie in b"\1", b"\1\0\1", b"\1\0\1\0\5abcd", b"\xff" + bytes(3):
        with pytest.raises(PlaintextError, match="layout of its level"):
            decoded(PLAINTEXT[:LATER] + lie)


def test_keystore_and_image_go_together() -> None:
    """R-22: A record with a keystore and no image is refused, and so is one with an image and no keystore."""
    stray = encode_partition(OFF._replace(image=RECORD.image))
    for wrong in stray, encode_partition(RECORD._replace(image=None)):
        with pytest.raises(
            PlaintextError, match="an image and no keystore, or a keystore and no image"
        ) as no:
            decoded(wrong)
        assert no.value.rule is rules.RECORDS_WHOLE


def test_a_record_opens_for_its_own_partition_alone() -> None:
    """R-01, R-47: A record opens only under the UUID of its partition, which is not a field of it."""
    blob = SEALER.seal(SealedKind.PARTITION, FOUR, 5, PLAINTEXT)
    profile, image = open_partition(SEALER, FOUR, blob)
    assert (profile.uuid, profile.image_generation, image and image.generation) == (FOUR, 5, 5)


def test_the_switches_have_the_bits_of_the_page() -> None:
    """spec/sealed.md: Each switch has the bit that the page gives. Each other attribute has its own field."""
    assert [ATTRIBUTES[name].sealed for name in SWITCHES] == [1 << n for n in range(len(SWITCHES))]
    assert all(ATTRIBUTES[name].numbers == SWITCH for name in SWITCHES)
    fields = [row.sealed for name, row in ATTRIBUTES.items() if name not in SWITCHES]
    assert len(set(fields)) == len(fields)


def test_a_record_of_before_may_be_restarted_remotely() -> None:
    """R-54: A partition whose record comes from an older release may be restarted remotely.

    Only a set bit forbids the remote restart, and older releases never set it.
    """
    assert PLAINTEXT[2:4] == b"\0\5"
    assert decoded(PLAINTEXT).profile.attributes.simplified_remote_restart_capable == 1
    never = PROFILE._replace(
        attributes=PROFILE.attributes.with_numbers({"simplified_remote_restart_capable": 0})
    )
    plaintext = encode_partition(RECORD._replace(profile=never))
    assert plaintext == put(PLAINTEXT, 2, b"\0\x0d")
    assert decoded(plaintext).profile == never


def test_access_key_and_data_never_show() -> None:
    """R-02: no text form of a record, and no error about one, has the access key or object data."""
    text = f"{RECORD} {RECORD!r} {PROFILE} {PROFILE!r} {[RECORD]}"
    blob = seal_partition(SEALER, RECORD)
    wrongs = [
        blob[:-1],
        flipped(blob, 700),
        SEALER.seal(SealedKind.PARTITION, FOUR, 99, with_later((7, b"CANARY"))),
        SEALER.seal(SealedKind.PARTITION, FOUR, 99, put(PLAINTEXT, 48, b"\2")),
        SEALER.seal(SealedKind.PARTITION, FOUR, 99, PLAINTEXT[:30]),
        SEALER.seal(SealedKind.PARTITION, FOUR, 99, PLAINTEXT + b"CANARY"),
    ]
    for wrong in wrongs:
        with pytest.raises(SealingError) as caught:
            open_partition(SEALER, FOUR, wrong)
        text += f"{caught.value!r} {''.join(traceback.format_exception(caught.value))}"
    assert "CANARY" not in text
    assert PROFILE.access_key.hex() not in text
