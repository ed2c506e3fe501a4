"""A sealed blob opens only with the kind and owner for which it was sealed.

Any other blob is refused with the reason.
"""

import itertools
import os
import traceback
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import (
    SYSTEM_OWNER,
    NotAuthenticError,
    NotSealedError,
    SealedKind,
    SealedLengthError,
    Sealer,
    SealingError,
    SwappedError,
    UnknownLevelError,
    Unsealed,
    WrongKindError,
)
from hcall_server.sealing.formats import ASSOCIATED_DATA, ENVELOPE, ENVELOPE_HEADER
from tests.sealing import second
from tests.sealing.samples import IDENTITY, flipped

KIND = SealedKind.PARTITION
TWO, FOUR = UUID(int=2 << 96), UUID(int=4 << 96)
PLAINTEXT = b"objects of a partition " * 12


def sealer(identity: SystemIdentity = IDENTITY) -> Sealer:
    return Sealer(identity, os.urandom)


@given(
    kind=st.sampled_from(SealedKind), owner=st.uuids(), generation=st.integers(0, 2**64 - 1),
    plaintext=st.binary(max_size=300),
)  # fmt: skip
def test_a_sealed_blob_opens_in_its_place(kind: int, owner: UUID, generation: int, plaintext: bytes) -> None:
    """R-02: A blob opens with its plaintext and generation, also on a restarted system."""
    blob = sealer().seal(kind, owner, generation, plaintext)
    assert sealer().open(kind, owner, blob) == Unsealed(generation, plaintext)


def test_the_smallest_blob_holds_nothing() -> None:
    """R-02: A blob of an empty plaintext has 68 bytes and opens. One byte less is refused."""
    blob = sealer().seal(KIND, FOUR, 0, b"")
    assert len(blob) == 68
    assert sealer().open(KIND, FOUR, blob) == Unsealed(0, b"")
    with pytest.raises(SealedLengthError, match="67 bytes, fewer than the least possible"):
        sealer().open(KIND, FOUR, blob[:-1])


def test_the_second_implementation_opens_what_is_sealed_now() -> None:
    """R-02, R-47: Both implementations agree on each key, nonce, tag and byte, for any partition."""
    for owner in FOUR, SYSTEM_OWNER, uuid4():
        blob = sealer().seal(KIND, owner, 9, PLAINTEXT)
        opened = second.open_blob(2, (IDENTITY.system_id, IDENTITY.root_key), KIND, owner.bytes, blob)
        assert opened == (9, PLAINTEXT)


def test_nothing_of_the_plaintext_shows() -> None:
    """R-02: No part of the plaintext is readable in a blob."""
    blob = sealer().seal(KIND, FOUR, 1, PLAINTEXT)
    assert not any(PLAINTEXT[n : n + 8] in blob for n in range(len(PLAINTEXT) - 8))


def test_every_sealing_has_a_key_of_its_own() -> None:
    """R-02: two sealings of one plaintext differ in salt, ciphertext and tag."""
    one, two = (ENVELOPE.parse(sealer().seal(KIND, FOUR, 1, PLAINTEXT)) for _ in range(2))
    assert one.header.salt != two.header.salt
    assert not any(a == b for a, b in zip(blocks(one.sealed), blocks(two.sealed), strict=True))


def blocks(data: bytes) -> list[bytes]:
    return [data[n : n + 16] for n in range(0, len(data) - 15, 16)]


def test_every_flipped_bit_is_detected() -> None:
    """R-02: A blob with any flipped bit, also in its header, is refused."""
    mine = sealer()
    blob = mine.seal(KIND, FOUR, 3, PLAINTEXT)
    for bit in range(8 * len(blob)):
        with pytest.raises(SealingError, match=f"the record of partition {FOUR}: "):
            mine.open(KIND, FOUR, flipped(blob, bit))


def test_every_changed_byte_of_a_large_image_is_detected() -> None:
    """R-02: A blob of 4 KiB with any changed byte is refused."""
    mine = sealer()
    blob = mine.seal(KIND, FOUR, 3, os.urandom(4096))
    for byte in range(len(blob)):
        with pytest.raises(SealingError):
            mine.open(KIND, FOUR, flipped(blob, 8 * byte + byte % 8))


def test_truncation_and_extension_are_named() -> None:
    """R-02: A blob of another length is refused before a key is used, and the error says so."""
    mine = sealer()
    blob = mine.seal(KIND, FOUR, 3, PLAINTEXT)
    for length in range(len(blob)):
        with pytest.raises(SealedLengthError, match=f"partition {FOUR}: truncated"):
            mine.open(KIND, FOUR, blob[:length])
    with pytest.raises(SealedLengthError, match="3 bytes too many"):
        mine.open(KIND, FOUR, blob + b"abc")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason(junk: bytes) -> None:
    """R-02: Any bytes raise a SealingError and no other error."""
    for blob in junk, b"SPKS" + junk, b"SPKS\x02\x04\x00\x00" + junk:
        with pytest.raises(SealingError):
            sealer().open(KIND, FOUR, blob)


@pytest.mark.parametrize(
    "offset,value,error,reason",
    [
        (0, b"HCAL", NotSealedError, "not a sealed blob"),
        (4, b"\x01", UnknownLevelError, "format level 1 where a record of level 2 belongs"),
        (
            4,
            b"\x03",
            UnknownLevelError,
            "format level 3 of a later release, and this release reads levels 1 and 2",
        ),
        (5, b"\x03", WrongKindError, f"says that it is a system record of partition {FOUR}"),
        (5, b"\x09", WrongKindError, "says that it is a record of unknown kind 9"),
        (6, b"\x00\x01", NotSealedError, "reserved bytes hold 0x0001"),
        (8, bytes(32), NotAuthenticError, "does not authenticate"),
        (40, b"\xff" * 8, NotAuthenticError, "does not authenticate"),
        (48, bytes(4), SealedLengthError, "bytes too many"),
        (48, b"\xff" * 4, SealedLengthError, "truncated"),
    ],
)
def test_the_error_names_the_reason(
    offset: int, value: bytes, error: type[SealingError], reason: str
) -> None:
    """R-02: Each field of the header has its own check and message, and the error names the record."""
    blob = sealer().seal(KIND, FOUR, 3, PLAINTEXT)
    with pytest.raises(error, match=reason) as caught:
        sealer().open(KIND, FOUR, blob[:offset] + value + blob[offset + len(value) :])
    assert (caught.value.kind, caught.value.owner) == (KIND, FOUR)
    assert caught.value.rule.page.startswith("spec/sealed.md#")


OTHER_SYSTEM = SystemIdentity(bytes(16), IDENTITY.root_key)
OTHER_KEY = SystemIdentity(IDENTITY.system_id, bytes(32))


@pytest.mark.parametrize("identity", [OTHER_SYSTEM, OTHER_KEY], ids=["other system", "other root key"])
def test_a_foreign_blob_never_opens(identity: SystemIdentity) -> None:
    """R-02: A blob of another system, or one under another root key, is refused."""
    with pytest.raises(NotAuthenticError):
        sealer().open(KIND, FOUR, sealer(identity).seal(KIND, FOUR, 3, PLAINTEXT))


def test_a_blob_opens_for_its_own_kind_partition_and_generation_alone() -> None:
    """R-02, R-47: If the header is edited to another kind or generation, the blob does not authenticate."""
    places = list(itertools.product(SealedKind, (SYSTEM_OWNER, TWO, FOUR, UUID(int=4)), (0, 3)))
    mine = sealer()
    for made, asked in itertools.product(places, places):
        blob = rewritten(mine.seal(*made, PLAINTEXT), asked)
        if made == asked:
            assert mine.open(*asked[:2], blob) == Unsealed(asked[2], PLAINTEXT)
        else:
            with pytest.raises(NotAuthenticError):
                mine.open(*asked[:2], blob)


def rewritten(blob: bytes, asked: tuple[int, UUID, int]) -> bytes:
    kind, _, generation = asked
    return blob[:5] + bytes([kind]) + blob[6:40] + generation.to_bytes(8, "big") + blob[48:]


def test_a_swapped_blob_is_named_as_such() -> None:
    """R-02: If a record is in the place of another partition's, the error says so."""
    mine = sealer()
    blob = mine.seal(KIND, FOUR, 3, PLAINTEXT)
    with pytest.raises(NotAuthenticError) as caught:
        mine.open(KIND, TWO, blob)
    explained = mine.explain(caught.value, blob, others=[TWO, FOUR])
    assert isinstance(explained, SwappedError)
    assert explained.real_owner == FOUR
    assert f"the record of partition {TWO}: swapped: this is the record of partition {FOUR}" in str(explained)


def test_what_is_merely_damaged_is_not_called_swapped() -> None:
    """A damaged blob that no other partition opens is not called swapped: the first error stays."""
    mine = sealer()
    blob = flipped(mine.seal(KIND, FOUR, 3, PLAINTEXT), 700)
    for wrong in blob, blob[:-1]:
        with pytest.raises(SealingError) as caught:
            mine.open(KIND, FOUR, wrong)
        assert mine.explain(caught.value, wrong, others=[TWO, FOUR]) is caught.value


def test_the_associated_data_is_the_documented_layout() -> None:
    """The sealer makes the bytes of `formats.ASSOCIATED_DATA` itself, for speed, and they are equal."""
    mine = sealer()
    header = mine.seal(KIND, FOUR, 3, PLAINTEXT)[: ENVELOPE_HEADER.sizeof()]
    fields = {"header": header, "system_id": IDENTITY.system_id, "uuid": FOUR.bytes}
    assert header + mine._bound(FOUR) == ASSOCIATED_DATA.build(fields)


@pytest.mark.parametrize("identity", [SystemIdentity(b"", bytes(32)), SystemIdentity(bytes(16), bytes(31))])
def test_an_identity_of_the_wrong_size_is_refused(identity: SystemIdentity) -> None:
    """A root key of another length is refused, so no weaker key is derived."""
    with pytest.raises(ValueError, match="32 bytes of root key"):
        sealer(identity)


CANARY = b"CANARY-root-key-0123456789abcdef"


def shown(thing: Any) -> str:
    return f"{thing} {thing!r} {getattr(thing, '__dict__', '')}"


def test_keys_and_plaintext_never_show() -> None:
    """R-02: no repr, str, exception or traceback has the root key, a derived key or plaintext."""
    identity = SystemIdentity(bytes(16), CANARY)
    mine = sealer(identity)
    blob = mine.seal(KIND, FOUR, 3, b"CANARY-plaintext")
    text = shown(identity) + shown(mine) + shown(mine.open(KIND, FOUR, blob))
    for wrong in flipped(blob, 500), blob[:-1], b"CANARY" + blob:
        with pytest.raises(SealingError) as caught:
            mine.open(KIND, FOUR, wrong)
        text += shown(caught.value) + "".join(traceback.format_exception(caught.value))
    secrets = [CANARY, mine._partition_key(FOUR), *mine._fresh_key(FOUR, blob[8:40])]
    assert "CANARY" not in text
    assert not any(secret.hex() in text or repr(secret)[2:-1] in text for secret in secrets)
