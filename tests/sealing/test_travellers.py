"""A migrating partition: read whole or refused with the reason, bounded, and with no secrets in errors."""

import contextlib
import hashlib
import json
import struct
import traceback
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hcall_abi.bounds import MAX_FINAL
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.errors import PeerError
from hcall_abi.levels import FW1110
from hcall_abi.rules import migration as rules
from hcall_server.keystore.contents import VOLATILE
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.keystore.limits import limits_of
from hcall_server.keystore.store import Keystore
from hcall_server.keystore.tokens import MAX_OPEN
from hcall_server.keystore.used import Listing, Password, Placed, UsedState
from hcall_server.platform.custody import Custody
from hcall_server.sealing import PartitionRecord, encode_partition
from hcall_server.sealing.traveller import Traveller, decode_traveller, encode_traveller
from tests.guest import Chance
from tests.sealing import second_travellers
from tests.sealing.samples import FOUR, OFF, PROFILE, RECORD, flipped, images, profiles, put, records, whole
from tests.sealing.test_golden import object_in_words, profile_in_words

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "travelling"
GOLDEN = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
PUBLISHED = {
    "everything": "2449a95c09e456c3e4b461bc52c82b51",
    "powered-off": "2eedaa14b3a6469840bac9a37b6fbc13",
    "running": "08c2255b5b0fb178a39bdacc3853750f",
    "without-keystore": "ab8a812d6dfcfa5e80a621e38b8d9a70",
}
"""The digest of each golden file as first published; a new file adds its row."""
TRANSIENT = 0x0200_0000
PASSWORD = Password(3, b"CANARY-password")
PLACED = Placed(1, StoredObject(3, b"passing", TRANSIENT, b"CANARY-data"))
LISTING = Listing(9, 3, (b"label", b""))
USED = UsedState((PASSWORD,), (PLACED,), (LISTING,))
TRAVELLER = Traveller(RECORD, USED, SecureBoot.AUDIT)
PLAINTEXT = encode_traveller(TRAVELLER)

passwords = st.dictionaries(st.integers(1, 3), st.binary(min_size=1, max_size=64)).map(
    lambda found: tuple(Password(*each) for each in sorted(found.items()))
)
listings = st.lists(
    st.builds(
        Listing,
        st.integers(1, 2**64 - 1),
        st.integers(1, 3),
        st.lists(st.binary(max_size=9), min_size=1, max_size=4).map(tuple),
    ),
    max_size=MAX_OPEN,
    unique_by=lambda each: each.token,
).map(tuple)


@st.composite
def travellers(draw: st.DrawFn) -> Traveller:
    """A partition in migration, with objects in any order."""
    image = draw(images)
    stored = (each._replace(policy=each.policy & ~VOLATILE) for each in image.objects)
    record = whole(draw(profiles), StoreImage.of(image.generation, stored))
    mode = draw(st.sampled_from(SecureBoot))
    if record.image is None or draw(st.booleans()):
        return Traveller(record, None, mode)
    keystore = Keystore(limits_of(FW1110, 128), Chance(), record.image)
    volatile = draw(st.lists(st.tuples(st.integers(1, 3), st.binary(min_size=13, max_size=15)), unique=True))
    placed: list[Placed] = []
    for number, (consumer, label) in enumerate(volatile):
        least = placed[-1].place + 1 if placed else 0
        place = draw(st.integers(least, len(record.image.entries) + number))
        placed.append(Placed(place, StoredObject(consumer, label, TRANSIENT, b"data")))
        if place == len(record.image.entries) + len(volatile) - 1:
            break
    keystore.take_used(UsedState(draw(passwords), tuple(placed), draw(listings)))
    return Traveller(record, keystore.used_state(), mode)


def at_home(traveller: Traveller) -> Traveller:
    record = traveller.record
    return traveller._replace(record=record._replace(profile=record.profile.at_home))


@given(travellers())
def test_it_arrives_as_it_left(traveller: Traveller) -> None:
    """R-51: A moved partition has its record, mode, passwords, TRANSIENT objects and open lists.

    Custody is not sent.
    """
    plaintext = encode_traveller(traveller)
    assert decode_traveller(plaintext) == at_home(traveller)
    values = second_travellers.traveller_of(plaintext)
    assert second_travellers.traveller(values) == plaintext
    assert (values["uuid"], values["secure_boot"]) == (
        traveller.record.profile.uuid.hex,
        traveller.secure_boot,
    )


def test_golden_files_are_what_the_second_implementation_makes() -> None:
    """R-02: The second implementation makes each golden file again, and none has changed."""
    assert second_travellers.every_vector() == GOLDEN
    assert {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in FOLDER.iterdir()
    } == PUBLISHED


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_golden_partition_arrives(name: str) -> None:
    """R-51: The bytes of an old release are read, and today's writer makes the same bytes."""
    golden = GOLDEN[name]
    plaintext = bytes.fromhex(golden["bytes"])
    found = decode_traveller(plaintext)
    profile, image = found.record
    words = profile_in_words(profile) | {"access_key": profile.access_key.hex()}
    assert (words.pop("uuid").hex, words.pop("image_generation")) == (golden["uuid"], golden["generation"])
    assert words == golden["profile"]
    assert (image and [object_in_words(each) for each in image.objects]) == golden["stored"]
    assert found.secure_boot == golden["secure_boot"]
    assert (found.used is None) == (golden["used"] is None)
    assert encode_traveller(found) == plaintext
    assert second_travellers.traveller_of(plaintext) | {"bytes": plaintext.hex()} == golden


@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_give_a_partition_or_an_error(junk: bytes) -> None:
    """Any bytes are decoded or refused, and only the bytes that encoding writes are accepted."""
    for plaintext in junk, PLAINTEXT[:28] + junk, PLAINTEXT[: -len(junk) or None] + junk:
        with contextlib.suppress(PeerError):
            assert encode_traveller(decode_traveller(plaintext)) == plaintext


def test_every_flipped_bit_gives_another_partition_or_an_error() -> None:
    """If any bit is flipped, the partition is refused or has other contents."""
    for bit in range(8 * len(PLAINTEXT)):
        with contextlib.suppress(PeerError):
            assert decode_traveller(flipped(PLAINTEXT, bit)) != TRAVELLER


def test_a_truncated_partition_is_refused() -> None:
    """A record of any other length is refused, also one with an extra byte."""
    for wrong in *(PLAINTEXT[:length] for length in range(len(PLAINTEXT))), PLAINTEXT + b"\0":
        with pytest.raises(PeerError) as caught:
            decode_traveller(wrong)
        assert caught.value.rule is rules.MOBILITY_FORM


WRONG = {
    "a password twice": USED._replace(passwords=(PASSWORD, PASSWORD)),
    "passwords in another order": USED._replace(passwords=(PASSWORD, Password(1, b"one"))),
    "an empty password": USED._replace(passwords=(Password(3, b""),)),
    "a password of nobody": USED._replace(passwords=(Password(4, b"four"),)),
    "a token twice": USED._replace(listings=(LISTING, LISTING)),
    "the token 0": USED._replace(listings=(LISTING._replace(token=0),)),
    "too many lists": USED._replace(listings=tuple(Listing(n + 1, 3, (b"",)) for n in range(MAX_OPEN + 1))),
    "a list of nobody": USED._replace(listings=(LISTING._replace(consumer=0),)),
    "a list without labels": USED._replace(listings=(LISTING._replace(labels=()),)),
    "a persistent object": USED._replace(objects=(PLACED._replace(object=PLACED.object._replace(policy=0)),)),
    "a label that is taken": USED._replace(
        objects=(PLACED._replace(object=PLACED.object._replace(label=b"label")),)
    ),
    "a place beyond the end": USED._replace(objects=(PLACED._replace(place=2),)),
    "places that go back": USED._replace(
        objects=(PLACED, Placed(0, PLACED.object._replace(label=b"another")))
    ),
    "one place for two": USED._replace(objects=(PLACED, Placed(1, PLACED.object._replace(label=b"another")))),
    "a label twice": USED._replace(objects=(PLACED, PLACED._replace(place=2))),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_state_that_no_keystore_has_is_refused(wrong: str) -> None:
    """A state that no keystore can have is refused by one rule. No error shows its contents."""
    with pytest.raises(PeerError) as caught:
        decode_traveller(encode_traveller(TRAVELLER._replace(used=WRONG[wrong])))
    assert caught.value.rule is rules.MOBILITY_FORM
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))


def test_state_and_keystore_go_together() -> None:
    """A partition without a keystore has no state. A flag that contradicts the state is refused."""
    for wrong in (
        encode_traveller(Traveller(OFF, UsedState())),
        put(PLAINTEXT, 3, b"\0"),
        put(PLAINTEXT, 3, b"\2"),
        put(PLAINTEXT, 2, b"\3"),
    ):
        with pytest.raises(PeerError) as caught:
            decode_traveller(wrong)
        assert caught.value.rule is rules.MOBILITY_FORM


@given(records.filter(lambda record: record.profile != record.profile.at_home))
def test_custody_does_not_travel(record: PartitionRecord) -> None:
    """R-51: Custody is not sent, so the tables at each end decide which system may serve."""
    assert decode_traveller(encode_traveller(Traveller(record))).record.profile.custody is Custody.OWN
    plain = encode_traveller(Traveller(record))
    encoded = encode_partition(record)
    wrong = plain[:28] + struct.pack(">I", len(encoded)) + encoded + plain[-18:]
    with pytest.raises(PeerError, match="says something of custody"):
        decode_traveller(wrong)


@pytest.mark.parametrize("size", [1, 255])
@pytest.mark.parametrize("policy", [0, TRANSIENT])
def test_a_full_store_of_128_kib_fits(policy: int, size: int) -> None:
    """R-51: A full store of 128 KiB fits, with any labels, policies and as many lists as fit."""
    keystore = Keystore(limits_of(FW1110, 128), Chance(), StoreImage(7, ()))
    number = 0
    while keystore.contents.used + size + 3 + 32 <= 128 * 1024:
        label = number.to_bytes(3, "big") + bytes(size - 1)
        keystore.contents.put((Consumer.OPERATING_SYSTEM, label[:255]), policy, b"")
        number += 1
    labels = keystore.contents.labels(Consumer.OPERATING_SYSTEM)
    for _ in range(MAX_OPEN):
        keystore.listings.keep(Consumer.OPERATING_SYSTEM, 0, labels)
    for consumer in Consumer:
        keystore.generate_password(consumer, 64)
    profile = PROFILE._replace(
        attributes=PROFILE.attributes.with_numbers({"keystore_kbytes": 128}), image_generation=0
    )
    image = keystore.contents.snapshot()
    record = PartitionRecord(profile._replace(image_generation=image.generation), image)
    plaintext = encode_traveller(Traveller(record, keystore.used_state()))
    assert len(plaintext) <= MAX_FINAL
    found = decode_traveller(plaintext)
    assert found.record == record
    assert found.used is not None
    whole = keystore.used_state()
    kept = found.used.listings
    assert found.used == whole._replace(listings=whole.listings[MAX_OPEN - len(kept) :])
    assert len(kept) >= 1


def test_the_oldest_lists_stay_behind() -> None:
    """R-51: Only the newest lists that fit are sent. A token of any other list is stale afterwards."""
    labels = tuple(bytes(255) for _ in range(300))
    many = USED._replace(listings=tuple(Listing(n + 1, 3, labels) for n in range(5)))
    found = decode_traveller(encode_traveller(TRAVELLER._replace(used=many))).used
    assert found is not None
    assert [each.token for each in found.listings] == [3, 4, 5]


def test_more_than_256_kib_is_refused_at_both_ends() -> None:
    """More than 256 KiB is refused: by the writer before it sends, by the reader before it decodes."""
    image = StoreImage.of(99, (StoredObject(3, b"large", 0, bytes(MAX_FINAL)),))
    with pytest.raises(PeerError, match=r"lpar4 has 262\d\d\d bytes") as caught:
        encode_traveller(Traveller(PartitionRecord(PROFILE, image)))
    assert caught.value.rule is rules.MOBILITY_SIZE
    with pytest.raises(PeerError, match=f"has {MAX_FINAL + 1} bytes") as caught:
        decode_traveller(bytes(MAX_FINAL + 1))
    assert caught.value.rule is rules.MOBILITY_SIZE


def test_no_text_form_shows_a_secret() -> None:
    """R-02: Neither the text of a partition nor an error about it shows a secret."""
    text = f"{TRAVELLER} {TRAVELLER!r} {[TRAVELLER]}"
    for wrong in PLAINTEXT[:-1], put(PLAINTEXT, 40, bytes(8)):
        with pytest.raises(PeerError) as caught:
            decode_traveller(wrong)
        text += "".join(traceback.format_exception(caught.value))
    assert "CANARY" not in text
    assert str(FOUR) in repr(TRAVELLER)
    assert isinstance(TRAVELLER.record.profile.uuid, UUID)
