"""Console copies: sealed under the trusted system key, and refused with the right reason."""

import contextlib
import os
import struct
import traceback
from collections.abc import Set
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.errors import OperatorError
from hcall_server.platform.custody import STORED
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing import PartitionRecord, encode_partition
from hcall_server.sealing.copies import CopyHeader, open_copy, read_copy, seal_copy
from hcall_server.sealing.copy_errors import (
    CopyError,
    CopyLengthError,
    CopyLevelError,
    CopyNotAuthenticError,
    CopyUnreadableError,
    NotCopyError,
    OtherKeyError,
)
from hcall_server.sealing.copy_formats import COPY
from tests.sealing import second_copies
from tests.sealing.samples import FOUR, OFF, RECORD, flipped, names, put, records

KEY = TrustedSystemKey(b"CANARY-trusted-key-56789abcdefgh")
OTHER = TrustedSystemKey(bytes(range(32)))
SYSTEM_ID = bytes(range(16, 32))
FIRMWARE = "FW1110"
TIME = 1_795_000_000
START = 104
"""Bytes of the header before the firmware name."""
BEGIN = START + 1 + len(FIRMWARE) + 4
"""Where the ciphertext of `copied()` begins."""
CANARIES = b"CANARY-trusted-key-56789abcdefgh", b"CANARY-access-key-56789abcdefghi", b"CANARY-data"


def copied(record: PartitionRecord = RECORD, key: TrustedSystemKey = KEY) -> bytes:
    return seal_copy(key, record, system_id=SYSTEM_ID, firmware=FIRMWARE, time=TIME, entropy=os.urandom)


def made_of(plaintext: bytes, **facts: Any) -> bytes:
    """Seal this plaintext and these facts as a copy, even if they are invalid.

    The second implementation checks nothing, so it imitates the copy of a faulty release.
    """
    every = {
        "system_id": SYSTEM_ID.hex(), "uuid": FOUR.hex, "generation": 99, "time": TIME, "kbytes": 64,
        "firmware": FIRMWARE, "restores": 0, **facts,
    }  # fmt: skip
    return second_copies.copy(KEY.secret, every, os.urandom(32), plaintext)


@given(records, names, st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1))
def test_a_copy_opens_with_its_facts(
    record: PartitionRecord, firmware: str, system_id: bytes, time: int
) -> None:
    """A copy opens with the same header and record, on any system that has the key."""
    blob = seal_copy(KEY, record, system_id=system_id, firmware=firmware, time=time, entropy=os.urandom)
    profile = record.profile
    kbytes = profile.attributes.keystore_kbytes
    generation, restores = profile.image_generation, profile.restores
    header = CopyHeader(KEY.id, system_id, profile.uuid, generation, time, kbytes, firmware, restores)
    assert read_copy(blob) == header
    assert open_copy(KEY, blob) == (header, record._replace(profile=profile.at_home))


@given(records)
def test_the_second_implementation_opens_a_copy(record: PartitionRecord) -> None:
    """Both implementations agree about a copy: its key, nonce, tag, bytes and layout."""
    blob = copied(record)
    facts, plaintext = second_copies.copy_of(KEY.secret, blob)
    assert plaintext == encode_partition(record._replace(profile=record.profile.at_home))
    assert facts["uuid"] == record.profile.uuid.hex
    assert bytes(COPY.build(COPY.parse(blob))) == blob


@pytest.mark.parametrize("custody", [*STORED, 255])
def test_every_copy_says_custody_own(custody: int) -> None:
    """R-52, R-53: In a copy, the partition always has custody 1, no epoch and no peer."""
    later: Any = custody
    profile = RECORD.profile._replace(custody=later, epoch=7, peer=bytes(16))
    blob = copied(PartitionRecord(profile, RECORD.image))
    assert second_copies.copy_of(KEY.secret, blob)[1][48] == 1
    assert open_copy(KEY, blob).record == RECORD


def test_two_copies_share_nothing() -> None:
    """Salt, ciphertext and tag differ each time; no part of the plaintext is visible."""
    one, two = copied(), copied()
    assert one[72:104] != two[72:104]
    plaintext = encode_partition(RECORD)
    assert not any(plaintext[n : n + 8] in one for n in range(len(plaintext) - 8))
    blocks = [{blob[n : n + 16] for n in range(BEGIN, len(blob) - 15)} for blob in (one, two)]
    assert not blocks[0] & blocks[1]


def expected(offset: int) -> Set[type[CopyError]]:
    """Return the errors that are allowed if the byte at this offset of a copy is changed."""
    for end, errors in (
        (4, {NotCopyError}),
        (5, {CopyLevelError}),
        (8, {NotCopyError}),
        (16, {OtherKeyError}),
        (START, {CopyNotAuthenticError}),
        (START + 1, {CopyLengthError, NotCopyError}),
        (BEGIN - 4, {CopyNotAuthenticError, NotCopyError}),
        (BEGIN, {CopyLengthError}),
    ):
        if offset < end:
            return errors
    return {CopyNotAuthenticError}


def test_every_flipped_bit_is_refused_for_its_reason() -> None:
    """If any bit of a copy is flipped, the copy is refused. The field decides the class of the error."""
    blob = copied()
    for bit in range(8 * len(blob)):
        with pytest.raises(CopyError, match=r"^the console copy|^the file is no console copy") as caught:
            open_copy(KEY, flipped(blob, bit))
        assert type(caught.value) in expected(bit // 8), bit


def test_truncation_and_extension_are_named() -> None:
    """A copy of another length is refused before any key is used, and the error says so."""
    blob = copied()
    for length in range(len(blob)):
        with pytest.raises(CopyLengthError, match="the console copy is truncated"):
            read_copy(blob[:length])
    with pytest.raises(CopyLengthError, match="has 3 bytes too many"):
        read_copy(blob + b"abc")


@pytest.mark.parametrize(
    "offset,value,error,reason",
    [
        (0, b"SPKS", NotCopyError, "is no console copy: it begins with other bytes"),
        (
            4,
            b"\3",
            CopyLevelError,
            "has level 3 of a later release, and this release reads levels 1 and 2; use it with",
        ),
        (5, b"\3", NotCopyError, "has a wrong kind"),
        (6, b"\0\1", NotCopyError, "reserved bytes that are not zero"),
        (START, b"\xff", CopyLengthError, "its header alone needs more"),
        (START + 1, b"\xff", NotCopyError, "not UTF-8"),
        (BEGIN - 4, bytes(4), CopyLengthError, "bytes too many"),
        (BEGIN - 4, b"\xff" * 4, CopyLengthError, "truncated"),
    ],
)
def test_the_reader_without_a_key_names_the_reason(
    offset: int, value: bytes, error: type[CopyError], reason: str
) -> None:
    """Without a key, each field of the clear header has its own check and its own message."""
    with pytest.raises(error, match=reason) as caught:
        read_copy(put(copied(OFF), offset, value))
    assert isinstance(caught.value, OperatorError)
    assert caught.value.uuid is None


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason(junk: bytes) -> None:
    """Any bytes raise a CopyError and no other error. Their header may still be readable."""
    for blob in (
        junk,
        b"SPKB\1\4\0\0" + junk,
        b"SPKB\2\4\0\0" + junk,
        copied()[:START] + junk,
        copied()[:-40] + junk,
    ):
        with contextlib.suppress(CopyError):
            read_copy(blob)
        with pytest.raises(CopyError):
            open_copy(KEY, blob)


def test_another_key_is_refused_before_any_decryption() -> None:
    """A copy under another key is refused by the id of the key, before any decryption.

    The error has both ids, also if the ciphertext is damaged.
    """
    blob = copied()
    garbage = blob[:BEGIN] + os.urandom(len(blob) - BEGIN)
    for wrong in blob, garbage:
        with pytest.raises(
            OtherKeyError, match=f"{FOUR} was made under .* {KEY.id.hex()}, .* {OTHER.id.hex()}"
        ) as e:
            open_copy(OTHER, wrong)
        assert isinstance(e.value, OperatorError)
        assert (e.value.made_under, e.value.present, e.value.uuid) == (KEY.id, OTHER.id, FOUR)
    with pytest.raises(CopyNotAuthenticError):
        open_copy(KEY, garbage)


def test_the_id_alone_opens_nothing() -> None:
    """A copy with the id of the present key, but made under another key, does not authenticate."""
    with pytest.raises(CopyNotAuthenticError):
        open_copy(OTHER, put(copied(), 8, OTHER.id))


def test_a_copy_opens_for_its_own_header_alone() -> None:
    """If a fact in the clear header is changed, even to a plausible value, the copy does not authenticate."""
    one, two = copied(), copied(PartitionRecord(RECORD.profile._replace(uuid=UUID(int=7)), RECORD.image))
    with pytest.raises(CopyNotAuthenticError, match=f"partition {UUID(int=7)} does not authenticate"):
        open_copy(KEY, two[:32] + two[32:48] + one[48:])
    changes = (
        (16, bytes(16)),
        (48, b"\0" * 8),
        (56, bytes(8)),
        (64, bytes(4)),
        (68, bytes(3) + b"\1"),
        (72, bytes(32)),
        (105, b"FW1060"),
    )
    for offset, value in changes:
        with pytest.raises(CopyNotAuthenticError):
            open_copy(KEY, put(one, offset, value))


@pytest.mark.parametrize(
    "plaintext,reason",
    [
        (b"", "does not have the layout of its level"),
        (b"\0\0" + encode_partition(RECORD)[2:], "does not have the layout of its level"),
        (b"\0\2" + encode_partition(RECORD)[2:], "has level 2 of a later release"),
        (encode_partition(RECORD)[:-1], "truncated in object 0"),
        (put(encode_partition(RECORD), 48, b"\x09"), "a field has a value outside its range"),
    ],
)
def test_contents_that_are_no_record_are_refused(plaintext: bytes, reason: str) -> None:
    """A copy that authenticates and can't be decoded is refused with the place of the mistake."""
    with pytest.raises(CopyUnreadableError, match=f"{FOUR} is authentic but unreadable: .*{reason}"):
        open_copy(KEY, made_of(plaintext))


def test_header_and_record_agree_about_the_size() -> None:
    """A copy whose header and record have different sizes is refused: a console plans with the header."""
    assert open_copy(KEY, made_of(encode_partition(RECORD))).record == RECORD
    with pytest.raises(CopyUnreadableError, match="a keystore of 64 KiB, and its header says 128 KiB"):
        open_copy(KEY, made_of(encode_partition(RECORD), kbytes=128))


def test_header_and_record_agree_about_restores() -> None:
    """A copy whose header and record differ in restores is refused: a console orders copies by the header.

    At level 1 no store has been restored.
    """
    thrice = PartitionRecord(RECORD.profile._replace(restores=3), RECORD.image)
    assert open_copy(KEY, made_of(encode_partition(thrice), restores=3)).record == thrice
    for wrong in made_of(encode_partition(thrice)), of_level_1(encode_partition(thrice)):
        with pytest.raises(CopyUnreadableError, match="a store of 3 restores, and its header says 0"):
            open_copy(KEY, wrong)
    with pytest.raises(CopyUnreadableError, match="a store of 0 restores, and its header says 3"):
        open_copy(KEY, made_of(encode_partition(RECORD), restores=3))


def of_level_1(plaintext: bytes) -> bytes:
    """Return a copy as an older release made it."""
    facts = {"system_id": SYSTEM_ID.hex(), "uuid": FOUR.hex, "generation": 99, "time": TIME, "kbytes": 64}
    return second_copies.copy(KEY.secret, {**facts, "firmware": FIRMWARE}, os.urandom(32), plaintext)


def test_a_copy_of_an_older_release_opens() -> None:
    """A copy of level 1 opens, as one of a store that was never restored.

    With a flipped bit or another length it is refused.
    """
    blob = of_level_1(encode_partition(RECORD))
    header, record = open_copy(KEY, blob)
    assert (record, header.age) == (RECORD, (0, 99))
    for bit in range(8 * len(blob)):
        with pytest.raises(CopyError):
            open_copy(KEY, flipped(blob, bit))
    for length in range(len(blob)):
        with pytest.raises(CopyLengthError):
            read_copy(blob[:length])


def test_copies_are_ordered_by_restores_first() -> None:
    """A copy with fewer restores is older than one with more, whatever their generations."""
    facts = read_copy(copied())
    older, newer = facts._replace(generation=500), facts._replace(restores=1, generation=2)
    assert sorted([newer, older], key=lambda each: each.age) == [older, newer]


def test_generation_and_uuid_come_from_the_header() -> None:
    """The opened record has the UUID and the generation of the copy's header."""
    uuid = UUID(int=5)
    profile, image = open_copy(KEY, made_of(encode_partition(RECORD), generation=5, uuid=uuid.hex)).record
    assert (profile.uuid, profile.image_generation) == (uuid, 5)
    assert image is not None
    assert image.generation == 5


def shown(thing: object) -> str:
    return f"{thing} {thing!r} {getattr(thing, '__dict__', '')}"


def test_keys_and_contents_never_show() -> None:
    """No repr, error or traceback shows the key, the access key or object data.

    The copy itself does not contain them readably.
    """
    blob = copied()
    opened = open_copy(KEY, blob)
    text = shown(KEY) + repr(opened) + shown(opened.header) + shown(read_copy(blob))
    wrong = [flipped(blob, 8 * byte) for byte in range(len(blob))]
    wrong += [blob[:-1], made_of(b"CANARY-data"), made_of(encode_partition(RECORD), kbytes=1)]
    for each in wrong:
        with pytest.raises(CopyError) as caught:
            open_copy(KEY, each)
        text += shown(caught.value) + "".join(traceback.format_exception(caught.value))
    with pytest.raises(OtherKeyError) as other:
        open_copy(OTHER, blob)
    text += shown(other.value)
    secrets = *CANARIES, OTHER.secret, *second_copies.copy_keys(KEY.secret, blob[72:104], FOUR.bytes)
    assert not any(secret.hex() in text or repr(secret)[2:-1] in text for secret in secrets)
    assert not any(secret in blob for secret in CANARIES)


def test_a_short_salt_is_refused() -> None:
    """If entropy returns too few bytes, no copy is made."""
    with pytest.raises(ValueError, match="too few bytes"):
        seal_copy(KEY, RECORD, system_id=SYSTEM_ID, firmware=FIRMWARE, time=TIME, entropy=lambda _: b"short")


def test_the_largest_firmware_name_fits() -> None:
    """A firmware name of 255 bytes, the longest, fits into a copy."""
    blob = seal_copy(KEY, OFF, system_id=SYSTEM_ID, firmware="n" * 255, time=0, entropy=os.urandom)
    assert struct.unpack_from(">I", blob, START + 1 + 255) == (len(blob) - START - 1 - 255 - 4,)
    assert open_copy(KEY, blob).header.firmware == "n" * 255
