"""Partition images: the codec agrees with the Construct definition. Any bytes give an image or an error."""

import struct
from uuid import UUID

import pytest
from construct import ConstructError
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.sealing import (
    PartitionRecord,
    PlaintextError,
    SealedKind,
    UndecodableError,
    decode_image,
    encode_image,
    encode_partition,
    open_partition,
    seal_partition,
)
from hcall_server.sealing.formats import IMAGE
from tests.sealing.samples import PROFILE, SEALER, images

SIX = PROFILE._replace(number=6, name="lpar6", uuid=UUID(int=6 << 96))


def by_construct(image: StoreImage) -> bytes:
    """Encode by Construct, the oracle."""
    fields = [
        {
            "header": {"consumer": o.consumer, "policy": o.policy, "label_length": len(o.label),
                       "data_length": len(o.data)},
            "label": o.label,
            "data": o.data,
        }
        for o in image.objects
    ]  # fmt: skip
    return bytes(IMAGE.build({"header": {"count": len(fields)}, "objects": fields}))


def read_by_construct(plaintext: bytes) -> tuple[StoredObject, ...] | None:
    """Decode by Construct, the oracle, then apply the two rules that Construct can't express."""
    try:
        found = IMAGE.parse(plaintext).objects
    except ConstructError:
        return None
    stored = tuple(StoredObject(o.header.consumer, o.label, o.header.policy, o.data) for o in found)
    names = {(o.consumer, o.label) for o in stored}
    known = all(o.consumer in {1, 2, 3} for o in stored)
    return stored if known and len(names) == len(stored) else None


def read(plaintext: bytes) -> tuple[StoredObject, ...] | None:
    try:
        return decode_image(plaintext, 0).objects
    except PlaintextError:
        return None


@given(images)
def test_an_image_comes_back_and_has_the_documented_layout(image: StoreImage) -> None:
    """R-02, R-22: decoding returns an equal image, and the bytes are those of the Construct definition."""
    plaintext = encode_image(image)
    assert plaintext == by_construct(image)
    assert decode_image(plaintext, image.generation) == image


@given(images, st.data())
def test_damaged_plaintext_is_judged_as_construct_judges_it(image: StoreImage, data: st.DataObject) -> None:
    """R-02: If bytes are damaged, the decoder accepts them exactly if the Construct definition does."""
    plaintext = bytearray(encode_image(image))
    at = data.draw(st.integers(0, len(plaintext)))
    junk = data.draw(st.binary(max_size=6))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "overwrite"])):
        case "flip" if at < len(plaintext):
            plaintext[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del plaintext[at:]
        case "insert":
            plaintext[at:at] = junk
        case "overwrite":
            plaintext[at : at + len(junk)] = junk
    assert read(bytes(plaintext)) == read_by_construct(bytes(plaintext))


@given(st.binary(max_size=120))
@example(b"")
@example(struct.pack(">HHI", 1, 0, 0xFFFFFFFF))
def test_any_bytes_give_an_image_or_an_error(junk: bytes) -> None:
    """R-02: Any bytes are decoded or refused. A count of four thousand million objects costs no memory."""
    for plaintext in junk, struct.pack(">HHI", 1, 0, junk.count(0)) + junk:
        assert read(plaintext) == read_by_construct(plaintext)


HEADER = struct.pack(">HHI", 1, 0, 1)


@pytest.mark.parametrize(
    "plaintext,reason",
    [
        (HEADER[:7], "truncated in its header"),
        (
            struct.pack(">HHI", 2, 0, 0),
            "the image has level 2 of a later release, and this release reads level 1; start",
        ),
        (struct.pack(">HHI", 1, 3, 0), "reserved bytes hold 0x0003"),
        (struct.pack(">HHI", 1, 0, 2) + bytes(12), "2 objects can't be in 20 bytes"),
        (HEADER + struct.pack(">BBHII", 4, 0, 0, 0, 0), "object 0: consumer 4, reserved byte 0"),
        (HEADER + struct.pack(">BBHII", 1, 1, 0, 0, 0), "reserved byte 1"),
        (HEADER + struct.pack(">BBHII", 1, 0, 1, 0, 0), "truncated in object 0"),
        (HEADER + struct.pack(">BBHII", 1, 0, 0, 0, 0) + b"x", "1 bytes after the last object"),
        (
            struct.pack(">HHI", 1, 0, 2) + 2 * struct.pack(">BBHII", 1, 0, 0, 0, 0),
            "object 1 repeats a label of its consumer",
        ),
        (struct.pack(">HHI", 1, 0, 2) + struct.pack(">BBHII12x", 1, 0, 1, 0, 0), "header of object 1"),
    ],
)
def test_each_rule_of_the_image_has_its_words(plaintext: bytes, reason: str) -> None:
    """R-02: The error of a bad image names the broken rule.

    In a sealed record it also names the partition.
    """
    with pytest.raises(PlaintextError, match=reason):
        decode_image(plaintext, 1)
    whole = encode_partition(PartitionRecord(SIX, None)) + plaintext
    blob = SEALER.seal(SealedKind.PARTITION, SIX.uuid, 1, whole)
    message = f"the record of partition {SIX.uuid}: authentic but unreadable: .*{reason}"
    with pytest.raises(UndecodableError, match=message):
        open_partition(SEALER, SIX.uuid, blob)


@given(images)
def test_a_sealed_image_keeps_its_generation(image: StoreImage) -> None:
    """R-02, R-22: A sealed image opens with its generation and its objects."""
    record = PartitionRecord(SIX._replace(image_generation=image.generation), image)
    assert open_partition(SEALER, SIX.uuid, seal_partition(SEALER, record)) == record


@given(images)
def test_no_error_shows_object_data(image: StoreImage) -> None:
    """R-02: the error for an unreadable image has the place and no contents."""
    canary = StoredObject(1, b"", 0, b"CANARY" * 3)
    assume(all(o.label for o in image.objects))
    plaintext = encode_image(StoreImage.of(1, (*image.objects, canary)))
    for wrong in plaintext[:-1], plaintext + b"CANARY":
        with pytest.raises(PlaintextError) as caught:
            decode_image(wrong, 1)
        assert "CANARY" not in str(caught.value) + repr(caught.value)
