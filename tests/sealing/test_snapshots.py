"""Named snapshots as bytes: sealing, opening, and each reason to refuse one."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.errors import OperatorError
from hcall_abi.rules import snapshot as rules
from hcall_abi.rules.rule import Rule
from hcall_server.platform.custody import Custody
from hcall_server.sealing import PartitionRecord, snapshots
from hcall_server.sealing.snapshot_errors import SnapshotError
from hcall_server.sealing.snapshot_formats import SNAPSHOT, SNAPSHOT_CONTENTS
from hcall_server.sealing.snapshots import (
    HEAD_SIZE,
    LEAST_SNAPSHOT,
    Passphrase,
    SnapshotContents,
    SnapshotHeader,
    SnapshotKey,
    open_snapshot,
    read_head,
    seal_snapshot,
)
from tests.sealing.samples import IDENTITY, OFF, PROFILE, RECORD, SEALER, images, stays

KEY = SnapshotKey(SEALER.snapshot_secret())
WORDS = Passphrase("correct horse battery")
OTHER_UUID = PROFILE.uuid.__class__(int=5)
SECOND = PartitionRecord(OFF.profile._replace(name="lpar5", number=5, uuid=OTHER_UUID), None)
CONTENTS = SnapshotContents("sys1", 4096, (RECORD, SECOND))
FACTS: dict[str, Any] = {"system_id": IDENTITY.system_id, "firmware": "FW1110", "name": "base", "time": 77}


def sealed(key: SnapshotKey | Passphrase = KEY, contents: SnapshotContents = CONTENTS) -> bytes:
    """Return a snapshot of two partitions."""
    return seal_snapshot(key, contents, entropy=os.urandom, **FACTS)


OWN = sealed()
PORTABLE = sealed(WORDS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace scrypt by a hash: the test opens many snapshots."""
    monkeypatch.setattr(Passphrase, "derived", lambda self, salt: salt)


def refusal(blob: bytes, words: Passphrase | None = None) -> Rule:
    """Return the rule that refuses a snapshot."""
    with pytest.raises(SnapshotError) as caught:
        open_snapshot(blob, KEY, words)
    return caught.value.rule


def test_an_own_snapshot_has_all_contents_with_the_access_keys() -> None:
    """R-83: an own snapshot has settings, profiles and images.  Its header is readable without a key."""
    opened = open_snapshot(OWN, KEY, None)
    assert opened.contents == CONTENTS
    header = SnapshotHeader(False, IDENTITY.system_id, KEY.id, 77, 2, "base", "FW1110")
    assert opened.header == header
    assert read_head(OWN[:HEAD_SIZE], len(OWN)) == header
    assert SNAPSHOT.parse(OWN).header.header.partitions == 2


def test_a_portable_snapshot_has_no_access_key() -> None:
    """R-83: a portable snapshot opens with its passphrase alone, and has no access key."""
    header, contents = open_snapshot(PORTABLE, SnapshotKey(b"k" * 32), WORDS)
    assert header.portable
    assert header.key_id == bytes(8)
    assert {record.profile.access_key for record in contents.records} == {bytes(32)}
    assert contents.records[0].image == RECORD.image


def test_custody_stays_at_home() -> None:
    """R-83: a snapshot has no custody and no attempt to move."""
    moved = RECORD.profile._replace(custody=Custody.ARRIVED, epoch=4, peer=b"p" * 16)
    contents = CONTENTS._replace(records=(RECORD._replace(profile=moved),))
    assert open_snapshot(sealed(contents=contents), KEY, None).contents.records == (RECORD,)


@given(st.lists(st.tuples(stays, images), max_size=3), st.booleans())
def test_any_contents_come_back(found: list[Any], portable: bool) -> None:
    """The plaintext has the layout of the page, and what goes in comes out."""
    records = []
    for number, (profile, image) in enumerate(found, 1):
        unique = profile._replace(name=f"{number}{profile.name}", image_generation=image.generation)
        on = unique.attributes.with_numbers({"keystore_kbytes": 64})
        unique = unique._replace(attributes=on, uuid=OTHER_UUID.__class__(int=number)).at_home
        records.append(PartitionRecord(unique, image))
    contents = SnapshotContents("s", 1, tuple(records))
    plaintext = snapshots._encoded(contents, portable=portable)
    parsed = SNAPSHOT_CONTENTS.parse(plaintext)
    assert SNAPSHOT_CONTENTS.build(parsed) == plaintext
    header = SnapshotHeader(portable, b"", b"", 0, len(records), "", "")
    decoded = snapshots._decoded(plaintext, header)
    if portable:
        assert all(not any(each.profile.access_key) for each in decoded.records)
    else:
        assert decoded == contents


def test_every_changed_byte_is_refused(quick: None) -> None:
    """R-83: a snapshot with one changed byte, or cut short at any place, does not open."""
    for whole, words in ((OWN, None), (sealed(WORDS), WORDS)):
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            assert refusal(bytes(changed), words).id.startswith("snapshot.")
        for end in range(len(whole)):
            assert refusal(whole[:end], words) in (rules.SNAPSHOT_LENGTH, rules.SNAPSHOT_HEADER)
        assert refusal(whole + b"\0", words) is rules.SNAPSHOT_LENGTH


def put(blob: bytes, at: int, new: bytes) -> bytes:
    """Return a snapshot with other bytes at a place."""
    return blob[:at] + new + blob[at + len(new) :]


@pytest.mark.parametrize(
    "change, rule",
    [
        (lambda _: b"SQLite format 3", rules.SNAPSHOT_HEADER),
        (lambda _: b"SP", rules.SNAPSHOT_LENGTH),
        (lambda blob: put(blob, 4, b"\2"), rules.SNAPSHOT_LEVEL),
        (lambda blob: put(blob, 4, b"\0"), rules.SNAPSHOT_LEVEL),
        (lambda blob: put(blob, 5, b"\3"), rules.SNAPSHOT_HEADER),
        (lambda blob: put(blob, 7, b"\1"), rules.SNAPSHOT_HEADER),
        (lambda blob: put(blob, 24, b"\1"), rules.SNAPSHOT_HEADER),
        (lambda blob: put(blob, 42, b"\x14"), rules.SNAPSHOT_PARAMETERS),
        (lambda blob: put(blob, 43, b"\x09"), rules.SNAPSHOT_PARAMETERS),
        (lambda blob: put(blob, 44, b"\xff"), rules.SNAPSHOT_PARAMETERS),
        (lambda blob: put(blob, 81, b"\xff"), rules.SNAPSHOT_HEADER),
        (lambda blob: put(blob, 48, bytes(32)), rules.SNAPSHOT_AUTHENTIC),
    ],
)
def test_each_check_has_its_rule(quick: None, change: Callable[[bytes], bytes], rule: Rule) -> None:
    """R-83: each check of the page refuses with its rule, and 1 to 7 without a key."""
    assert refusal(change(sealed(WORDS)), WORDS) is rule


def test_other_keys_are_named() -> None:
    """R-83: an own snapshot of another root key is refused by its id; a wrong passphrase by the tag."""
    with pytest.raises(SnapshotError) as caught:
        open_snapshot(OWN, SnapshotKey(b"k" * 32), None)
    assert caught.value.rule is rules.SNAPSHOT_SYSTEM
    assert IDENTITY.system_id.hex() in caught.value.message
    assert "Clear All" in caught.value.message
    assert refusal(PORTABLE, Passphrase("another passphrase")) is rules.SNAPSHOT_AUTHENTIC
    assert refusal(PORTABLE) is rules.SNAPSHOT_PASSPHRASE
    assert refusal(OWN, WORDS) is rules.SNAPSHOT_PASSPHRASE


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: put(plain, 1, b"\2"),
        lambda plain: put(plain, 2, b"\1"),
        lambda plain: plain[:-1] + b"\1",
        lambda plain: plain[:-1] + b"\1\0\7\0\0",
        lambda plain: plain[:-1],
        lambda plain: put(plain, 9, b"\xff"),
    ],
)
def test_authentic_nonsense_is_unreadable(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    """R-83: authentic contents of another level or layout are refused by name."""
    plain = change(snapshots._encoded(CONTENTS, portable=False))
    monkeypatch.setattr(snapshots, "_encoded", lambda contents, portable: plain)
    assert refusal(sealed()) is rules.SNAPSHOT_CONTENTS


@pytest.mark.parametrize("records", [(RECORD, RECORD), (RECORD,), ()])
def test_partitions_twice_or_missing(
    monkeypatch: pytest.MonkeyPatch, records: tuple[PartitionRecord, ...]
) -> None:
    """R-83: a snapshot with a partition twice, or with another number of them than its header, is refused."""
    plain = snapshots._encoded(CONTENTS._replace(records=records), portable=False)
    monkeypatch.setattr(snapshots, "_encoded", lambda contents, portable: plain)
    assert refusal(sealed()) is rules.SNAPSHOT_CONTENTS


def test_a_large_system_is_refused_and_a_poor_source_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-83: a snapshot above the bound is never written.  Its salt is never padded."""
    with pytest.raises(ValueError, match="too few"):
        seal_snapshot(KEY, CONTENTS, entropy=lambda n: b"x", **FACTS)
    monkeypatch.setattr(snapshots, "LARGEST_SNAPSHOT", 300)
    with pytest.raises(OperatorError) as caught:
        sealed()
    assert caught.value.rule is rules.SNAPSHOT_SIZE


def test_no_repr_has_a_secret() -> None:
    """R-83: keys, passphrases and data are in no repr, and in no clear byte of a snapshot."""
    shown = repr([KEY, WORDS, open_snapshot(OWN, KEY, None), read_head(OWN, len(OWN))])
    for text in (shown, repr(OWN), repr(PORTABLE)):
        assert "CANARY" not in text
        assert "horse" not in text
    assert repr(SEALER.snapshot_secret()) not in shown
    assert LEAST_SNAPSHOT == 102
