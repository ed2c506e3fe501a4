"""The system record: firmware level, total and roster, read whole or refused with the reason."""

import contextlib
import os
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.levels import LEVELS
from hcall_abi.rules import storage as rules
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import (
    SYSTEM_OWNER,
    Listed,
    NotAuthenticError,
    PlaintextError,
    SealedKind,
    SystemRecord,
    UndecodableError,
    WrongKindError,
    decode_system,
    encode_system,
    open_system,
    seal_partition,
    seal_system,
)
from hcall_server.sealing.formats import SYSTEM as LAYOUT
from tests.sealing import second_records
from tests.sealing.samples import FOUR, RECORD, SEALER, flipped, names

rosters = st.lists(
    st.builds(Listed, uuid=st.uuids(), number=st.integers(1, 0xFFFF), name=names), max_size=4
).map(tuple)
own_names = st.just("") | names.filter(lambda name: len(name.encode()) <= 31)
systems = st.builds(
    SystemRecord,
    firmware=names,
    total_kbytes=st.integers(0, 2**32 - 1),
    roster=rosters,
    name=own_names,
    moved=st.booleans(),
)
SYSTEM = SystemRecord("FW1110", 4096, (Listed(FOUR, 4, "lpar4"), Listed(UUID(int=7 << 96), 7, "zwölf")))
PLAINTEXT = encode_system(SYSTEM)
NAMED = SYSTEM._replace(name="Server-9105-22A of lab 2")
MOVED = NAMED._replace(moved=True)


@given(systems)
def test_a_system_record_comes_back(system: SystemRecord) -> None:
    """R-21, R-47: A sealed system record opens with the same values, and the roster in the same order."""
    assert open_system(SEALER, seal_system(SEALER, system)) == system


@given(systems)
def test_the_plaintext_has_the_documented_layout(system: SystemRecord) -> None:
    """R-02: the second implementation reads the bytes of the package."""
    plaintext = encode_system(system)
    found = second_records.system_of(plaintext)
    assert second_records.system(found) == plaintext
    parsed = LAYOUT.parse(plaintext)
    assert bytes(LAYOUT.build(parsed)) == plaintext
    assert [each.header.uuid for each in parsed.roster] == [each.uuid.bytes for each in system.roster]
    assert [each["name"] for each in found["roster"]] == [each.name for each in system.roster]
    assert (found.get("name", ""), found.get("moved", False)) == (system.name, system.moved)


def test_a_roster_of_every_partition_that_can_be_fits() -> None:
    """R-47: A roster of the largest number of partitions fits."""
    plaintext = encode_system(SYSTEM._replace(roster=SYSTEM.roster[:1] * 0xFFFF))
    assert plaintext[15:17] == b"\xff\xff"
    assert len(plaintext) == 15 + 2 + 0xFFFF * (16 + 2 + 1 + 5) + 1


@given(st.binary(max_size=60))
def test_any_bytes_give_a_record_or_an_error(junk: bytes) -> None:
    """R-02: any bytes are decoded or refused, and only the bytes that encoding writes are accepted."""
    for plaintext in junk, b"\0\2\0\0" + junk, PLAINTEXT[:15] + junk, PLAINTEXT[:-1] + junk:
        with contextlib.suppress(PlaintextError):
            assert encode_system(decode_system(plaintext)) == plaintext


def test_every_flipped_bit_gives_another_record_or_an_error() -> None:
    """R-02: If any bit is flipped, the record is refused or has other contents."""
    for system in SYSTEM, NAMED, MOVED:
        plaintext = encode_system(system)
        for bit in range(8 * len(plaintext)):
            with contextlib.suppress(PlaintextError):
                assert decode_system(flipped(plaintext, bit)) != system


def test_a_truncated_system_record_is_refused() -> None:
    """R-02: a record of any other length is refused, also one with an extra byte."""
    for wrong in *(PLAINTEXT[:length] for length in range(len(PLAINTEXT))), PLAINTEXT + b"\0":
        with pytest.raises(PlaintextError) as caught:
            decode_system(wrong)
        assert caught.value.rule is rules.SYSTEM_LAYOUT


@pytest.mark.parametrize("tag", [0, 3, 0xFFFF])
def test_a_later_field_is_refused_by_its_tag(tag: int) -> None:
    """R-02: A record with an unknown later field is refused: the field may forbid something."""
    later = PLAINTEXT[:-1] + b"\1" + struct.pack(">HH", tag, 6) + b"CANARY"
    with pytest.raises(PlaintextError, match=rf"unknown tag {tag}\b") as caught:
        decode_system(later)
    assert caught.value.rule is rules.SEALED_FIELD


def named(*names: bytes) -> bytes:
    """Return a system record with these values in the field for the system's name."""
    fields = b"".join(struct.pack(">HH", 1, len(name)) + name for name in names)
    return PLAINTEXT[:-1] + bytes([len(names)]) + fields


def test_the_name_of_the_system_is_a_later_field() -> None:
    """R-02: A name adds one later field. Without a name, the record has the bytes of older releases."""
    assert encode_system(NAMED) == named(NAMED.name.encode())
    assert decode_system(named(b"n" * 31)).name == "n" * 31
    assert decode_system(PLAINTEXT).name == ""
    with pytest.raises(PlaintextError, match="has the tag 1 after the tag 1") as caught:
        decode_system(named(b"one", b"two"))
    assert caught.value.rule is rules.SEALED_FIELD


def test_a_system_whose_partitions_have_moved_has_one_field_more() -> None:
    """R-55: If partitions have moved, the record has one later field. Releases without migration refuse it.

    Every other record has the bytes of those releases.
    """
    later = struct.pack(">BHHB", 1, 2, 1, 1)
    assert encode_system(SYSTEM._replace(moved=True)) == PLAINTEXT[:-1] + later
    assert decode_system(PLAINTEXT[:-1] + later).moved
    for value in b"", b"\0", b"\2", b"\0\1":
        wrong = struct.pack(">BHH", 1, 2, len(value)) + value
        with pytest.raises(PlaintextError, match="another value than 1") as caught:
            decode_system(PLAINTEXT[:-1] + wrong)
        assert caught.value.rule is rules.SEALED_FIELD


@pytest.mark.parametrize("name", [b"", b"n" * 32, b"n" * 31 + b"\xc3"])
def test_the_name_of_the_system_has_1_to_31_bytes(name: bytes) -> None:
    """R-02: A name of the system with 0 or more than 31 bytes is refused, in reading and writing."""
    with pytest.raises(PlaintextError, match=f"the system's name has {len(name)} bytes") as caught:
        decode_system(named(name))
    assert caught.value.rule is rules.SYSTEM_NAME
    with pytest.raises(ValueError, match="1 to 31 bytes"):
        encode_system(SYSTEM._replace(name="ü" * 16))


def test_the_record_has_the_name_of_its_system() -> None:
    """A managed system writes its name into its record."""
    level = LEVELS["FW1110"]
    system = ManagedSystem(level, bytes(16), os.urandom, name="lab 2")
    assert SystemRecord.of(system) == SystemRecord(level.name, system.total_kbytes, (), "lab 2")
    assert SystemRecord.of(ManagedSystem(level, bytes(16), os.urandom)).name == ""


@pytest.mark.parametrize("name", [b"FW1110", b"lpar4", b"lab 2"])
def test_names_are_utf_8(name: bytes) -> None:
    """R-02: The names of the firmware level, the system and the partitions must be UTF-8."""
    with pytest.raises(PlaintextError, match="not UTF-8") as caught:
        decode_system(named(b"lab 2").replace(name, b"\xff" + name[1:]))
    assert caught.value.rule is rules.SYSTEM_NAME


def test_the_system_record_is_named() -> None:
    """R-02: An unreadable or misplaced system record raises an error that names it."""
    with pytest.raises(UndecodableError, match="the system record: authentic but unreadable"):
        open_system(SEALER, SEALER.seal(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, 0, b"\0\2"))
    with pytest.raises(WrongKindError, match="the system record: says that it is the record of partition"):
        open_system(SEALER, seal_partition(SEALER, RECORD))


def test_a_system_record_belongs_to_the_system_alone() -> None:
    """R-02: A blob that is sealed for a partition does not open as the system record."""
    with pytest.raises(NotAuthenticError, match="the system record: does not authenticate"):
        open_system(SEALER, SEALER.seal(SealedKind.SYSTEM_RECORD, FOUR, 0, PLAINTEXT))
    blob = seal_system(SEALER, SYSTEM)
    assert SEALER.open(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, blob) == (0, PLAINTEXT)
