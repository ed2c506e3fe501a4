"""Sealed level 1, which this release only reads: records of older releases open, and no other bytes do.

The second implementation makes the records, because the package has no writer of level 1.
"""

import contextlib
import os
import struct
import traceback
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_abi.rules import storage as rules
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import (
    NotAuthenticError,
    PlaintextError,
    SealedKind,
    SealedLengthError,
    SealingError,
    SwappedError,
    SystemRecord,
    UndecodableError,
    UnknownLevelError,
    WrongKindError,
    open_partition,
    seal_partition,
)
from hcall_server.sealing.envelope import read_label
from hcall_server.sealing.level_1 import (
    OldProfile,
    OldSealer,
    decode_profile,
    old_marked,
    open_image,
    open_profile,
    open_system,
)
from hcall_server.sealing.level_1_formats import (
    ASSOCIATED_DATA,
    ENVELOPE_HEADER,
    MARK_1,
    PROFILE_1,
    PROFILE_2,
)
from tests.sealing import second, second_records
from tests.sealing.samples import (
    FOUR,
    IDENTITY,
    RECORD,
    SEALER,
    SWITCHES,
    attributes,
    flipped,
    images,
    names,
    put,
)

IMAGE, PROFILE, SYSTEM = (
    SealedKind.PARTITION_IMAGE,
    SealedKind.PARTITION_PROFILE,
    SealedKind.SYSTEM_RECORD,
)
OLD = OldSealer(IDENTITY)
VALUES = {
    "number": 4, "name": "lpar4", "kbytes": 64, "ipl_count": 3, "secure_boot": 2, "auto_start": True,
    "image_generation": 99,
}  # fmt: skip
OF_LEVEL_1 = second_records.old_profile(VALUES)
OF_LEVEL_2 = second_records.old_profile(
    VALUES | {"signed_updates": True, "without_verification": False, "dynamic_keys": True}
)
STORED = StoreImage.of(5, (StoredObject(3, b"label", 0, b"CANARY-data"), StoredObject(1, b"", 2, b"")))

profiles = st.builds(
    OldProfile,
    number=st.integers(1, 0xFFFF),
    name=names,
    attributes=attributes.map(lambda found: found.with_numbers({"simplified_remote_restart_capable": 1})),
    auto_start=st.booleans(),
    ipl_count=st.integers(0, 2**32 - 1),
    image_generation=st.integers(0, 2**64 - 1),
)


def sealed(kind: int, owner: int, generation: int, plaintext: bytes, salt: bytes | None = None) -> bytes:
    """Return a blob as a release of level 1 made it."""
    identity = IDENTITY.system_id, IDENTITY.root_key
    return second.seal(1, identity, kind, owner, generation, salt or os.urandom(32), plaintext)


def values_of(profile: OldProfile) -> dict[str, Any]:
    """Return a profile in the form of the second implementation, with its switches."""
    numbers = profile.attributes.numbers
    values = {name: getattr(profile, name) for name in VALUES if hasattr(profile, name)}
    values |= {"kbytes": numbers["keystore_kbytes"], "secure_boot": numbers["secure_boot"]}
    return values | {
        word: bool(numbers[name]) for word, name in zip(second_records.SWITCHES, SWITCHES[:3], strict=True)
    }


def image_bytes(image: StoreImage) -> bytes:
    """Return the bytes of an image as the second implementation encodes it."""
    return second_records.image(
        [o._asdict() | {"label": o.label.hex(), "data": o.data.hex()} for o in image.objects]
    )


@given(profiles)
def test_a_profile_of_level_2_is_read(profile: OldProfile) -> None:
    """R-21: all values of the profile are read, with its switches."""
    plaintext = second_records.old_profile(values_of(profile))
    assert decode_profile(plaintext) == profile
    assert PROFILE_2.parse(plaintext).header.number == profile.number


@given(profiles)
def test_a_profile_of_level_1_is_read_with_its_switches_off(profile: OldProfile) -> None:
    """R-21: a profile of level 1 has no switches."""
    values = values_of(profile)
    plaintext = second_records.old_profile({name: values[name] for name in VALUES})
    off = dict.fromkeys(SWITCHES[:3], 0)
    assert decode_profile(plaintext) == profile._replace(attributes=profile.attributes.with_numbers(off))
    assert PROFILE_1.parse(plaintext).header.number == profile.number


def test_records_of_level_1_open_in_their_place() -> None:
    """R-02, R-21: Image, profile and system record of level 1 open under their own kind and number."""
    assert open_image(OLD, 4, sealed(IMAGE, 4, 5, image_bytes(STORED))) == STORED
    assert open_profile(OLD, 4, sealed(PROFILE, 4, 0, OF_LEVEL_2)).number == 4
    system = second_records.old_system({"firmware": "FW950", "total_kbytes": 1024})
    assert open_system(OLD, sealed(SYSTEM, 0, 0, system)) == SystemRecord("FW950", 1024, ())


@given(images)
@settings(max_examples=20)
def test_an_image_of_level_1_has_the_layout_of_today(image: StoreImage) -> None:
    """R-22: An image of level 1 is read with generation and objects in their order."""
    blob = sealed(IMAGE, 0xFFFF, image.generation, image_bytes(image))
    assert open_image(OLD, 0xFFFF, blob) == image


def test_every_flipped_bit_of_a_blob_is_refused() -> None:
    """R-02: A blob of level 1 with any flipped bit is refused, and the error names the partition."""
    blob = sealed(PROFILE, 4, 3, OF_LEVEL_2)
    for bit in range(8 * len(blob)):
        with pytest.raises(SealingError, match="the profile of partition 4: "):
            open_profile(OLD, 4, flipped(blob, bit))


def test_truncation_and_extension_are_named() -> None:
    """R-02: A blob of another length is refused, and the error says so."""
    blob = sealed(PROFILE, 4, 3, OF_LEVEL_2)
    for length in range(len(blob)):
        with pytest.raises(SealedLengthError, match="partition 4: truncated"):
            open_profile(OLD, 4, blob[:length])
    with pytest.raises(SealedLengthError, match="1 bytes too many"):
        open_profile(OLD, 4, blob + b"x")


def test_a_blob_opens_for_its_own_kind_and_partition_alone() -> None:
    """R-02: A blob of another kind, partition or generation is refused, also if its header was edited."""
    blob = sealed(IMAGE, 4, 3, image_bytes(STORED))
    for kind, partition, lie in (IMAGE, 5, blob), (PROFILE, 4, put(blob, 5, b"\2")), (IMAGE, 0x0400, blob):
        with pytest.raises(NotAuthenticError):
            OLD.open(kind, partition, lie)
    with pytest.raises(NotAuthenticError):
        OLD.open(IMAGE, 4, put(blob, 40, bytes(8)))
    with pytest.raises(WrongKindError, match="says that it is the image of partition 4"):
        open_profile(OLD, 4, blob)


@pytest.mark.parametrize(
    "identity",
    [SystemIdentity(bytes(16), IDENTITY.root_key), SystemIdentity(IDENTITY.system_id, bytes(32))],
    ids=["other system", "other root key"],
)
def test_a_foreign_blob_never_opens(identity: SystemIdentity) -> None:
    """R-02: A blob of another system, or one under another root key, is refused."""
    with pytest.raises(NotAuthenticError):
        open_image(OldSealer(identity), 4, sealed(IMAGE, 4, 5, image_bytes(STORED)))


def test_the_levels_are_never_taken_for_each_other() -> None:
    """R-02: A record of level 1 is refused where level 2 belongs, and the other way round.

    An edited level does not help: the record does not authenticate then.
    """
    old, new = sealed(SealedKind.PARTITION, 4, 99, b""), seal_partition(SEALER, RECORD)
    with pytest.raises(UnknownLevelError, match="format level 1 where a record of level 2 belongs"):
        open_partition(SEALER, FOUR, old)
    with pytest.raises(UnknownLevelError, match="format level 2 where a record of level 1 belongs"):
        OLD.open(SealedKind.PARTITION, 4, new)
    with pytest.raises(NotAuthenticError):
        open_partition(SEALER, FOUR, put(old, 4, b"\2"))
    with pytest.raises(NotAuthenticError):
        OLD.open(SealedKind.PARTITION, 4, put(new, 4, b"\1"))


def test_a_swapped_blob_is_named_as_such() -> None:
    """R-02: If the image of partition 4 is in the place of partition 2, the error says so."""
    blob = sealed(IMAGE, 4, 5, image_bytes(STORED))
    with pytest.raises(NotAuthenticError) as caught:
        open_image(OLD, 2, blob)
    explained = OLD.explain(caught.value, blob, others=range(1, 9))
    assert isinstance(explained, SwappedError)
    assert explained.real_owner == 4
    assert "the image of partition 2: swapped: this is the image of partition 4" in str(explained)


def test_what_is_merely_damaged_is_not_called_swapped() -> None:
    """A damaged blob that no other partition opens is not called swapped: the first error stays."""
    blob = flipped(sealed(IMAGE, 4, 5, image_bytes(STORED)), 700)
    for wrong in blob, blob[:-1]:
        with pytest.raises(SealingError) as caught:
            open_image(OLD, 4, wrong)
        assert OLD.explain(caught.value, wrong, others=range(1, 9)) is caught.value


@given(st.binary(max_size=60))
def test_any_bytes_give_a_profile_or_an_error(junk: bytes) -> None:
    """R-02: Any bytes are decoded or refused. What is decoded has the second implementation's bytes."""
    for plaintext in junk, b"\0\2\0\0" + junk, b"\0\1\0\0" + junk:
        with contextlib.suppress(PlaintextError):
            values = values_of(decode_profile(plaintext))
            kept = values if plaintext[1] == 2 else {name: values[name] for name in VALUES}
            assert second_records.old_profile(kept) == plaintext


@pytest.mark.parametrize("plaintext", [OF_LEVEL_1, OF_LEVEL_2], ids=["level 1", "level 2"])
def test_every_flipped_bit_gives_another_profile_or_an_error(plaintext: bytes) -> None:
    """R-02: If any bit is flipped, the profile is refused or has other contents."""
    for bit in range(8 * len(plaintext)):
        with contextlib.suppress(PlaintextError):
            assert decode_profile(flipped(plaintext, bit)) != decode_profile(plaintext)


@pytest.mark.parametrize("bit", range(16))
def test_unknown_attributes_are_refused(bit: int) -> None:
    """R-02, R-36: A profile with attribute bits that no release wrote is refused."""
    plaintext = put(OF_LEVEL_2, 2, (1 << bit).to_bytes(2, "big"))
    if bit < len(SWITCHES[:3]):
        known = decode_profile(plaintext).attributes.numbers
        assert [name for name in SWITCHES[:3] if known[name]] == [SWITCHES[bit]]
    else:
        with pytest.raises(PlaintextError, match="outside its range"):
            decode_profile(plaintext)
    with pytest.raises(PlaintextError, match="layout of its level"):
        decode_profile(put(plaintext, 0, b"\0\1"))


@pytest.mark.parametrize("plaintext", [OF_LEVEL_1, OF_LEVEL_2], ids=["level 1", "level 2"])
def test_a_truncated_profile_is_refused(plaintext: bytes) -> None:
    """R-02: a profile of any other length is refused, also one with an extra byte."""
    for wrong in *(plaintext[:length] for length in range(len(plaintext))), plaintext + b"\0":
        with pytest.raises(PlaintextError):
            decode_profile(wrong)


@pytest.mark.parametrize("at,value", [(6, 3), (7, 2), (9, 1)], ids=["secure_boot", "auto_start", "kbytes"])
def test_values_outside_their_range_are_refused(at: int, value: int) -> None:
    """R-02: A profile with a value that no release wrote is refused."""
    with pytest.raises(PlaintextError, match="outside its range"):
        decode_profile(put(OF_LEVEL_2, at, bytes([value])))


def test_a_profile_has_a_name() -> None:
    """R-02: A profile with an empty name, or with one that is not UTF-8, is refused."""
    with pytest.raises(PlaintextError, match="outside its range"):
        decode_profile(second_records.old_profile(VALUES | {"name": ""}))
    with pytest.raises(PlaintextError, match="not UTF-8") as caught:
        decode_profile(put(OF_LEVEL_1, 25, b"\xff"))
    assert caught.value.rule is rules.PROFILE_NAME


def test_a_profile_is_that_of_its_partition() -> None:
    """R-01: an authentic profile with the number of another partition is refused, and the error names it."""
    with pytest.raises(UndecodableError, match=r"partition 5: .*is the profile of partition 4") as caught:
        open_profile(OLD, 5, sealed(PROFILE, 5, 0, OF_LEVEL_2))
    assert caught.value.rule is rules.PROFILE_OWNER


def test_unreadable_records_are_named() -> None:
    """R-02: A record that authenticates but has no known layout is refused, and the error names it."""
    with pytest.raises(UndecodableError, match="the system record: authentic but unreadable"):
        open_system(OLD, sealed(SYSTEM, 0, 0, b"\0\1"))
    with pytest.raises(UndecodableError, match=r"the system record: .*not UTF-8"):
        open_system(OLD, sealed(SYSTEM, 0, 0, b"\0\1\0\0" + bytes(4) + b"\1\xff"))
    with pytest.raises(UndecodableError, match="the image of partition 4: authentic but unreadable"):
        open_image(OLD, 4, sealed(IMAGE, 4, 0, b"\0\1"))


def test_the_associated_data_is_the_documented_layout() -> None:
    """The reader authenticates the data of `level_1_formats.ASSOCIATED_DATA`, with its header of 52 bytes."""
    blob = sealed(IMAGE, 4, 5, b"plain", salt=bytes(32))
    fields = {"header": blob[:52], "system_id": IDENTITY.system_id, "partition": 4}
    built = ASSOCIATED_DATA.build(fields)
    keys = second.derive(1, IDENTITY.root_key, IDENTITY.system_id, 4, bytes(32))
    assert second.Gcm(keys.key, keys.nonce).decrypt(blob[52:], built) == b"plain"
    assert ENVELOPE_HEADER.parse(blob).generation == read_label(1, IMAGE, 4, blob).generation == 5


def test_keys_and_data_never_show() -> None:
    """R-02: no text form of the reader or of its errors has a key or data."""
    old = OldSealer(SystemIdentity(bytes(16), b"CANARY-root-key-0123456789abcdef"))
    text = f"{old} {old!r} {STORED!r}"
    blob = sealed(IMAGE, 4, 5, image_bytes(STORED))
    for reader, wrong in (old, blob), (OLD, blob[:-1]), (OLD, flipped(blob, 700)):
        with pytest.raises(SealingError) as caught:
            open_image(reader, 4, wrong)
        text += f"{caught.value!r} {''.join(traceback.format_exception(caught.value))}"
    assert "CANARY" not in text


def test_a_mark_comes_back_and_every_bit_of_it_counts() -> None:
    """R-22: A mark that is damaged, cut or too long has no number."""
    for number in (0, 5, 2**64 - 1):
        body = struct.pack(">4sB3xQ", b"SPKM", 1, number)
        slot = body + zlib.crc32(body).to_bytes(4, "big")
        assert old_marked(slot) == MARK_1.parse(slot).number == number
        for wrong in *(flipped(slot, bit) for bit in range(8 * len(slot))), slot + b"\0", slot[:-1], b"":
            assert old_marked(wrong) is None


def test_a_mark_of_another_level_is_none() -> None:
    """R-22: A mark with another level is ignored, even if its check value is right."""
    for start in (b"SPKM\2", b"SPKM\1\0\1", b"SPKN\1"):
        body = start.ljust(16, b"\0")
        assert old_marked(body + zlib.crc32(body).to_bytes(4, "big")) is None
