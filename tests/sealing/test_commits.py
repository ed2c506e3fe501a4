"""The commit record and the mark. Both have a MAC under keys that come from the root key."""

import struct
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import NO_COMMIT, CommitAuthority, CommitRecord, Sealer, seal_partition
from hcall_server.sealing.commits import COMMIT, ENTRY, MARK
from tests.sealing import second_records
from tests.sealing.samples import FOUR, IDENTITY, RECORD, SEALER, flipped

AUTHORITY = CommitAuthority(IDENTITY.root_key)
OTHER = CommitAuthority(bytes(32))

ids = st.one_of(
    st.integers(0, 5).map(lambda n: n.to_bytes(16, "big")),  # few ids, so that commits often use the same id
    st.integers(0, 5).map(lambda n: bytes([n]) + bytes(15)),
    st.binary(min_size=16, max_size=16),
)
blobs = st.binary(min_size=68, max_size=80)
histories = st.lists(st.dictionaries(ids, st.one_of(st.none(), blobs), max_size=5), max_size=8)


def blob_of(number: int) -> bytes:
    """Return bytes with their own generation and tag."""
    return bytes(40) + struct.pack(">Q", number) + bytes(4) + struct.pack(">QQ", number, ~number % 2**64)


def record_of(count: int, number: int = 7) -> CommitRecord:
    """Return a commit record that lists so many records."""
    listed = {n.to_bytes(16, "big"): blob_of(n) for n in range(count)}
    return CommitRecord(number - 1, b"").after(listed)


@given(histories)
def test_the_list_is_that_of_a_plain_dictionary(history: list[dict[bytes, bytes | None]]) -> None:
    """R-22: After any commits, the list has exactly the existing records, sorted by their ids."""
    record, there = NO_COMMIT, dict[bytes, bytes]()
    for number, changes in enumerate(history, 1):
        record = record.after(changes)
        merged: dict[bytes, bytes | None] = {**there, **changes}
        there = {each: blob for each, blob in merged.items() if blob is not None}
        assert record == (number, second_records.entries_of(there))
        assert record.records == sorted(there)
        assert all(record.lists(each, blob) for each, blob in there.items())


@given(st.dictionaries(ids, blobs, max_size=8), ids, blobs)
def test_a_list_has_what_was_put_and_nothing_else(
    there: dict[bytes, bytes], record: bytes, blob: bytes
) -> None:
    """R-02: A list detects a blob that differs, and a record that it does not have."""
    made = NO_COMMIT.after(there)
    listed = there.get(record)
    assert (record in made.records) is (listed is not None)
    same = listed is not None and (listed[40:48], listed[-16:]) == (blob[40:48], blob[-16:])
    assert made.lists(record, blob) is same


def test_what_a_list_is_made_of_stays_as_it_was() -> None:
    """R-22: A commit that fails leaves the commit record of the last commit unchanged."""
    before = record_of(3)
    kept = CommitRecord(*before)
    before.after({(1).to_bytes(16, "big"): None, b"x" * 16: blob_of(9)})
    assert before == kept


def test_an_older_record_is_noticed() -> None:
    """R-22: An older blob is not the listed one, whether its generation differs or not."""
    first, second = seal_partition(SEALER, RECORD), seal_partition(SEALER, RECORD)
    made = NO_COMMIT.after({FOUR.bytes: first}).after({FOUR.bytes: second})
    assert made.lists(FOUR.bytes, second)
    assert not made.lists(FOUR.bytes, first)


def test_generation_and_tag_both_count() -> None:
    """R-02: The list notices each flipped bit in a blob's generation or tag, and each other length.

    It need not compare the bytes between the two, because the tag covers them.
    """
    blob = seal_partition(SEALER, RECORD)
    made = NO_COMMIT.after({FOUR.bytes: blob})
    for bit in [*range(40 * 8, 48 * 8), *range(8 * len(blob) - 128, 8 * len(blob))]:
        assert not made.lists(FOUR.bytes, flipped(blob, bit))
    for cut in blob[:-1], blob[:67], b"", blob + b"\0":
        assert not made.lists(FOUR.bytes, cut)


def test_a_commit_record_comes_back_and_has_the_documented_layout() -> None:
    """R-02: A commit record is decoded to the same value. Its bytes are those of both other encoders."""
    for count, number in (0, 0), (1, 1), (3, 2**64 - 1), (1000, 77):
        record = CommitRecord(number, record_of(count).entries)
        stored = AUTHORITY.encode(record)
        assert stored == second_records.commit_record(IDENTITY.root_key, number, record.entries)
        assert AUTHORITY.decode(stored) == record
        parsed = COMMIT.parse(stored)
        assert [entry.record for entry in parsed.entries] == record.records
        assert b"".join(ENTRY.build(entry) for entry in parsed.entries) == record.entries


def test_every_flipped_bit_of_a_commit_record_is_refused() -> None:
    """R-02: A commit record with any flipped bit, in number, MAC or list, is refused."""
    stored = AUTHORITY.encode(record_of(4))
    for bit in range(8 * len(stored)):
        with pytest.raises(StorageError, match="the commit record") as caught:
            AUTHORITY.decode(flipped(stored, bit))
        assert caught.value.rule is rules.COMMIT_RECORD


@given(st.binary(max_size=120))
def test_any_bytes_are_refused(junk: bytes) -> None:
    """R-02: Any bytes without a right MAC raise a StorageError and no other error."""
    for stored in junk, b"SPKC\1\0\0\0" + junk, b"SPKC\1\0\0\0" + bytes(40) + junk:
        with pytest.raises(StorageError):
            AUTHORITY.decode(stored)
        assert AUTHORITY.marked(stored) is None


def test_entries_cannot_be_cut_repeated_or_exchanged() -> None:
    """R-02: A list with entries cut, repeated or exchanged is refused: the MAC covers the whole list."""
    stored = AUTHORITY.encode(record_of(3))
    head, entries = stored[:48], stored[48:]
    for wrong in *(stored[:length] for length in range(len(stored))), stored + b"\0", stored + entries[:40]:
        with pytest.raises(StorageError):
            AUTHORITY.decode(wrong)
    with pytest.raises(StorageError, match="does not authenticate"):
        AUTHORITY.decode(head + entries[40:80] + entries[:40] + entries[80:])


def test_an_edited_commit_number_is_refused() -> None:
    """R-22: An old commit record with the number of a newer one does not authenticate."""
    older, newer = AUTHORITY.encode(record_of(3, 7)), AUTHORITY.encode(record_of(3, 8))
    for wrong in older[:8] + newer[8:16] + older[16:], newer[:16] + older[16:48] + newer[48:]:
        with pytest.raises(StorageError, match="changed, or belongs to another system or root key"):
            AUTHORITY.decode(wrong)


def test_an_authenticated_list_that_is_no_list_is_refused() -> None:
    """R-02: A list that ends within an entry is refused, even if its MAC is right."""
    stored = second_records.commit_record(IDENTITY.root_key, 7, bytes(41))
    with pytest.raises(StorageError) as caught:
        AUTHORITY.decode(stored)
    assert caught.value.rule is rules.COMMIT_RECORD


def test_other_systems_records_and_marks_are_refused() -> None:
    """R-02: Commit records and marks of another system are refused, because their keys differ."""
    with pytest.raises(StorageError, match="does not authenticate"):
        AUTHORITY.decode(OTHER.encode(record_of(2)))
    assert AUTHORITY.marked(OTHER.mark(7)) is None


def test_a_commit_record_is_no_mark_and_a_mark_no_commit_record() -> None:
    """R-02: A commit record is no mark, and a mark no commit record: the keys of their MACs differ."""
    empty, mark = AUTHORITY.encode(CommitRecord(7, b"")), AUTHORITY.mark(7)
    assert len(empty) == len(mark) == MARK.sizeof()
    assert AUTHORITY.marked(mark[:16] + empty[16:]) is None
    with pytest.raises(StorageError):
        AUTHORITY.decode(empty[:16] + mark[16:])


@given(st.integers(0, 2**64 - 1))
def test_a_mark_has_the_documented_layout(number: int) -> None:
    """R-22: The bytes of a mark are those of the Construct definition and of the second implementation."""
    slot = AUTHORITY.mark(number)
    assert slot == second_records.mark_slot(IDENTITY.root_key, number)
    assert AUTHORITY.marked(slot) == MARK.parse(slot).number == number


def test_every_flipped_bit_of_a_mark_makes_it_none() -> None:
    """R-22: If any bit of a slot is changed, the slot counts as empty."""
    slot = AUTHORITY.mark(1234)
    for bit in range(8 * len(slot)):
        assert AUTHORITY.marked(flipped(slot, bit)) is None
    for wrong in *(slot[:length] for length in range(len(slot))), bytes(48):
        assert AUTHORITY.marked(wrong) is None
    assert AUTHORITY.marked(slot + bytes(4048)) == 1234, "zeros up to the next slot must not count"
    torn = slot[:16] + AUTHORITY.mark(1235)[16:]
    assert AUTHORITY.marked(torn) is None


def test_a_mark_of_level_1_is_none() -> None:
    """R-22: A mark of level 1 is ignored here, because any program could compute its check value."""
    assert AUTHORITY.marked(struct.pack(">4sB3xQ", b"SPKM", 1, 5).ljust(48, b"\0")) is None


def test_keys_never_show() -> None:
    """R-02: No text form or error shows the root key or a derived key."""
    root_key = b"CANARY-root-key-0123456789abcdef"
    authority = CommitAuthority(root_key)
    text = f"{authority} {authority!r} {record_of(2)!r}"
    with pytest.raises(StorageError) as caught:
        authority.decode(AUTHORITY.encode(record_of(2)))
    text += f"{caught.value!r} {''.join(traceback.format_exception(caught.value))}"
    keys = [root_key, second_records.commit_key(root_key), second_records.mark_key(root_key)]
    assert not any(key.hex() in text or repr(key)[2:-1] in text for key in keys)
    assert repr(record_of(2)) == "CommitRecord(7, 2 records)"


def test_tags_of_one_system_are_those_of_its_sealer() -> None:
    """R-02: A blob of another system has another tag, so the list does not accept it."""
    made = NO_COMMIT.after({FOUR.bytes: seal_partition(SEALER, RECORD)})
    other = Sealer(SystemIdentity(bytes(16), bytes(32)), bytes)
    assert not made.lists(FOUR.bytes, seal_partition(other, RECORD))
