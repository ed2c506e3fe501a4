"""The small records: partition profiles and the system record."""

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.console import AT_FIRST, ATTRIBUTES, SWITCH
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing import (
    PlaintextError,
    SealedKind,
    Sealer,
    SystemRecord,
    UndecodableError,
    WrongKindError,
    decode_profile,
    decode_system,
    encode_profile,
    encode_system,
    open_profile,
    open_system,
    seal_profile,
    seal_system,
)

SEALER = Sealer(SystemIdentity(bytes(16), bytes(32)), os.urandom)
names = st.text("az-0 äé漢😀", min_size=1, max_size=60)
profiles = st.builds(
    PartitionProfile,
    number=st.integers(1, 0xFFFF),
    name=names,
    attributes=st.fixed_dictionaries(
        {name: st.integers(row.numbers[0], row.numbers[-1]) for name, row in ATTRIBUTES.items()}
    ).map(AT_FIRST.with_numbers),
    auto_start=st.booleans(),
    ipl_count=st.integers(0, 2**32 - 1),
    image_generation=st.integers(0, 2**64 - 1),
)
systems = st.builds(SystemRecord, firmware=names, total_kbytes=st.integers(0, 2**32 - 1))
PROFILE = PartitionProfile(
    number=4,
    name="lpar4",
    attributes=AT_FIRST.with_numbers(
        {
            "keystore_kbytes": 64,
            "keystore_signed_updates": 1,
            "linux_dynamic_key_secure_boot": 1,
            "secure_boot": 2,
        }
    ),
    ipl_count=3,
    image_generation=99,
)
SWITCHES = [name for name, row in ATTRIBUTES.items() if isinstance(row.sealed, int)]


@given(profiles, systems)
def test_records_come_back(profile: PartitionProfile, system: SystemRecord) -> None:
    """R-21: what is known of a partition and of the system survives sealing."""
    assert open_profile(SEALER, profile.number, seal_profile(SEALER, profile)) == profile
    assert open_system(SEALER, seal_system(SEALER, system)) == system


@given(st.binary(max_size=60))
def test_any_bytes_give_a_record_or_an_error(junk: bytes) -> None:
    """R-02: decoding is total, and only what encoding writes is accepted."""
    for plaintext in junk, b"\0\2\0\0" + junk:
        with contextlib.suppress(PlaintextError):
            assert encode_profile(decode_profile(plaintext)) in (plaintext, b"\0\2" + plaintext[2:])
    for plaintext in junk, b"\0\1\0\0" + junk:
        with contextlib.suppress(PlaintextError):
            assert encode_system(decode_system(plaintext)) == plaintext


def test_every_changed_bit_of_a_profile_gives_another_profile_or_an_error() -> None:
    """R-02: no bit of the layout is ignored."""
    plaintext = encode_profile(PROFILE)
    for bit in range(8 * len(plaintext)):
        changed = bytearray(plaintext)
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(PlaintextError):
            assert decode_profile(bytes(changed)) != PROFILE


@pytest.mark.parametrize("bit", range(16))
def test_unknown_attributes_are_refused(bit: int) -> None:
    """R-02, R-36: a release that knows more attributes is not guessed at; level 1 has none of them."""
    plaintext = bytearray(encode_profile(PROFILE))
    plaintext[2:4] = (1 << bit).to_bytes(2, "big")
    if bit < 3:
        known = decode_profile(bytes(plaintext))
        assert [name for name in SWITCHES if known.attributes.numbers[name]] == [SWITCHES[bit]]
    else:
        with pytest.raises(PlaintextError, match="outside its range"):
            decode_profile(bytes(plaintext))
    plaintext[:2] = b"\0\1"
    with pytest.raises(PlaintextError, match="layout of its level"):
        decode_profile(bytes(plaintext))


@pytest.mark.parametrize("length", range(len(encode_profile(PROFILE))))
def test_a_truncated_profile_is_refused(length: int) -> None:
    """R-02: at every length."""
    with pytest.raises(PlaintextError):
        decode_profile(encode_profile(PROFILE)[:length])


@pytest.mark.parametrize("at,value", [(6, 3), (7, 2), (9, 1)], ids=["secure_boot", "auto_start", "kbytes"])
def test_values_outside_their_range_are_refused(at: int, value: int) -> None:
    """R-02: numbers that no release writes."""
    plaintext = bytearray(encode_profile(PROFILE))
    plaintext[at] = value
    with pytest.raises(PlaintextError, match="outside its range"):
        decode_profile(bytes(plaintext))


def test_a_profile_has_a_name() -> None:
    """R-02: an empty one is out of range too."""
    with pytest.raises(PlaintextError, match="outside its range"):
        decode_profile(encode_profile(PROFILE._replace(name="")))


def test_the_switches_have_the_bits_of_the_page() -> None:
    """spec/sealed.md: each switch has a bit of its own, each other attribute a field of its own."""
    assert [ATTRIBUTES[name].sealed for name in SWITCHES] == [1 << n for n in range(len(SWITCHES))]
    assert all(ATTRIBUTES[name].numbers == SWITCH for name in SWITCHES)
    fields = [row.sealed for name, row in ATTRIBUTES.items() if name not in SWITCHES]
    assert len(set(fields)) == len(fields)


def test_a_profile_is_that_of_its_partition() -> None:
    """R-01: an authentic profile whose number is another partition's is refused and named."""
    blob = SEALER.seal(SealedKind.PARTITION_PROFILE, 5, 0, encode_profile(PROFILE))
    with pytest.raises(
        UndecodableError, match=r"the profile of partition 5: .*is the profile of partition 4"
    ):
        open_profile(SEALER, 5, blob)


def test_the_system_record_is_named() -> None:
    """R-02: an unreadable or misplaced system record is called the system record."""
    with pytest.raises(UndecodableError, match="the system record: authentic but unreadable"):
        open_system(SEALER, SEALER.seal(SealedKind.SYSTEM_RECORD, 0, 0, b"\0\2"))
    with pytest.raises(WrongKindError, match="the system record: says that it is the profile"):
        open_system(SEALER, seal_profile(SEALER, PROFILE))
