"""EFI structures: layouts compared with `struct`, damaged lists, and merged lists."""

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi import efi, variables
from hcall_abi.efi import GUID_SHA256, GUID_X509, EfiTime, SignatureList, StoredVariable, UpdatePayload
from hcall_abi.errors import RuleBroken
from hcall_abi.rules import updates as rules
from hcall_abi.variables import POLICIES, signed_bytes, vendor_of, wide
from hcall_client.guests import authvar
from hcall_server.secvar.merge import merge

BYTE, GUID = st.integers(0, 255), st.binary(min_size=16, max_size=16)
TIMES = st.builds(EfiTime, st.integers(0, 0xFFFF), BYTE, BYTE, BYTE, BYTE, BYTE)


@st.composite
def lists(draw, types=GUID):
    """Draw a signature list of up to four signatures."""
    size = draw(st.integers(17, 24))
    signatures = st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=4)
    return SignatureList(draw(types), draw(st.binary(max_size=3)), tuple(draw(signatures)))


def test_guids_are_those_of_the_specifications() -> None:
    """R-70: in memory the first three fields of a GUID are little-endian."""
    expected = {
        efi.GUID_PKCS7: "4aafd29d-68df-49ee-8aa9-347d375665a7",
        efi.GUID_X509: "a5c059a1-94e4-4aa7-87b5-ab155c2bf072",
        efi.GUID_SHA256: "c1c41626-504c-4092-aca9-41f936934328",
        variables.VENDOR_GLOBAL: "8be4df61-93ca-11d2-aa0d-00e098032b8c",
        variables.VENDOR_SECURITY: "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
        variables.VENDOR_OTHER: "36fd7583-986a-4b15-8228-041664342d51",
    }
    assert {raw: str(uuid.UUID(bytes_le=raw)) for raw in expected} == expected


def test_names_and_their_vendors() -> None:
    """R-70: Each name of a variable has its vendor.

    PK and KEK have EFI's global vendor. The seven databases have EFI's vendor for image security. All other
    names have Power's own.
    """
    assert list(POLICIES) == [
        *("PK", "KEK", "db", "dbx", "grubdb", "grubdbx", "sbat", "moduledb", "trustedcadb")
    ]
    assert {name for name in POLICIES if vendor_of(wide(name)) == variables.VENDOR_GLOBAL} == {"PK", "KEK"}
    assert sum(vendor_of(wide(name)) == variables.VENDOR_SECURITY for name in POLICIES) == 7
    for other in ("pk", "DB", "db ", "", "SetupMode"):
        assert vendor_of(wide(other)) == variables.VENDOR_OTHER
    readable = {name for name, policy in POLICIES.items() if policy == 0x0900_0000}
    assert readable == {"db", "dbx", "grubdb", "grubdbx", "sbat"}
    assert {POLICIES[name] for name in POLICIES.keys() - readable} == {0x0100_0000}


@given(TIMES, st.binary(max_size=9), st.booleans())
def test_what_is_signed(time: EfiTime, contents: bytes, append: bool) -> None:
    """R-70: the signed bytes are the name, the vendor, the attributes, 16 bytes of time, and the contents."""
    head = b"d\0b\0" + uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le
    fields = struct.pack("<IHBBBBB9x", 0x67 if append else 0x27, *time)
    assert signed_bytes(wide("db"), time, contents, append=append) == head + fields + contents


@given(TIMES, st.binary(min_size=1, max_size=40), st.binary(max_size=40))
def test_payloads(time: EfiTime, pkcs7: bytes, contents: bytes) -> None:
    """R-70: payloads have the documented layout, and can be parsed back."""
    built = efi.build_update(UpdatePayload(time, pkcs7, contents))
    head = struct.pack("<HBBBBB9x", *time) + struct.pack("<IHH", 24 + len(pkcs7), 0x0200, 0x0EF1)
    assert built == head + efi.GUID_PKCS7 + pkcs7 + contents
    assert efi.parse_update(built) == (time, pkcs7, contents)
    for end in range(40 + len(pkcs7)):
        with pytest.raises(RuleBroken):
            efi.parse_update(built[:end])


@given(TIMES, st.binary(max_size=40))
def test_stored_variables(time: EfiTime, contents: bytes) -> None:
    """R-70: a stored variable has version 0, six fields of time, and the contents."""
    built = efi.build_stored(StoredVariable(time, contents))
    assert built == struct.pack("<BHBBBBB", 0, *time) + contents
    assert efi.parse_stored(built) == (time, contents)
    assert efi.parse_stored(built[:7]) is None
    assert efi.parse_stored(b"\1" + built[1:]) is None


@given(TIMES, TIMES)
def test_time_is_ordered(one: EfiTime, other: EfiTime) -> None:
    """R-70: times are compared field by field, the year first, and not as bytes."""
    packed = [struct.pack(">HBBBBB", *time) for time in (one, other)]
    assert (one < other) == (packed[0] < packed[1])


@given(st.lists(lists(), max_size=4))
def test_signature_lists(some: list[SignatureList]) -> None:
    """R-70: signature lists can be parsed back. Cut within a list, they are refused."""
    built = efi.build_lists(some)
    assert efi.parse_lists(built, rules.UPDATE_KEK_CONTENTS) == some
    ends = {len(efi.build_lists(some[:n])) for n in range(len(some) + 1)}
    for end in range(len(built) - 80, len(built)):
        if end > 0 and end not in ends:
            with pytest.raises(RuleBroken, match="KEK is lists"):
                efi.parse_lists(built[:end], rules.UPDATE_KEK_CONTENTS)


def test_layout_of_a_list() -> None:
    """R-70: a list has its type, its size, the sizes of header and signature, then header and signatures."""
    built = efi.build_lists([SignatureList(b"t" * 16, b"head", (b"o" * 16 + b"1", b"p" * 16 + b"2"))])
    assert built == b"t" * 16 + struct.pack("<III", 66, 4, 17) + b"head" + b"o" * 16 + b"1" + b"p" * 16 + b"2"
    made = authvar.certificate_lists([b"der"], b"w" * 16)
    assert made == efi.GUID_X509 + struct.pack("<III", 47, 0, 19) + b"w" * 16 + b"der"


@pytest.mark.parametrize(
    "size,header,signature",
    [
        *((n, 0, 17) for n in (0, 27, 28, 44, 46, 0xFFFF_FFFF)),
        *((45, n, 17) for n in (1, 17, 0xFFFF_FFFF)),
        *((45, 0, n) for n in (0, 1, 16, 18, 0xFFFF_FFFF)),
    ],
)
def test_sizes_of_a_list_that_do_not_agree(size: int, header: int, signature: int) -> None:
    """R-70: a list with a wrong number in any of its size fields is refused."""
    data = b"t" * 16 + struct.pack("<III", size, header, signature) + b"o" * 16 + b"1"
    with pytest.raises(RuleBroken):
        efi.parse_lists(data, rules.UPDATE_APPEND_LISTS)


TYPES = st.sampled_from([b"a" * 16, b"b" * 16])


def signatures(some: list[SignatureList]) -> list[tuple[bytes, bytes]]:
    """Return every signature, with the type of the list that contains it."""
    return [(each.type, signature) for each in some for signature in each.signatures]


@given(st.lists(lists(TYPES), max_size=4), st.lists(lists(TYPES), max_size=4))
def test_merging(stored: list[SignatureList], added: list[SignatureList]) -> None:
    """R-70: stored signatures stay in their order, and each new one is added once.

    A second merge changes nothing.
    """
    merged = merge(stored, added)
    before, after = signatures(stored), signatures(merged)
    assert set(after) == set(before) | set(signatures(added))
    assert len(after) == len(before) + len(set(signatures(added)) - set(before))
    assert [each.signatures[: len(old.signatures)] for old, each in zip(stored, merged, strict=False)] == [
        old.signatures for old in stored
    ]
    assert efi.parse_lists(efi.build_lists(merged), rules.UPDATE_APPEND_LISTS) == merged
    assert merge(merged, added) == merged == merge(merged, stored)


CERTIFICATES = st.lists(lists(st.sampled_from([GUID_X509, GUID_SHA256])), max_size=4)


@given(CERTIFICATES, CERTIFICATES)
def test_each_new_certificate_has_a_list_of_its_own(
    stored: list[SignatureList], added: list[SignatureList]
) -> None:
    """R-70: each new certificate gets a separate list. Digests of one length and header share a list."""
    merged = merge(stored, added)
    before = {signature for kind, signature in signatures(stored) if kind == GUID_X509}
    new = {signature for kind, signature in signatures(added) if kind == GUID_X509} - before
    alone = [each.signatures for each in merged[len(stored) :] if each.type == GUID_X509]
    assert sorted(alone) == sorted((each,) for each in new)
    shapes = [(each.header, len(each.signatures[0])) for each in merged if each.type == GUID_SHA256]
    held = [(each.header, len(each.signatures[0])) for each in stored if each.type == GUID_SHA256]
    assert len(shapes) == len(held) + len(set(shapes) - set(held))
    assert merge(merged, added) == merged


def test_certificates_of_one_length() -> None:
    """R-70: if one new list has two new certificates, each of them gets a separate list.

    This holds even if a stored certificate has their length.
    """
    one, two, three = (b"o" * 16 + name * 800 for name in (b"1", b"2", b"3"))
    stored = [SignatureList(GUID_X509, b"", (one,))]
    added = [SignatureList(GUID_X509, b"", (two, one, three))]
    assert merge(stored, added) == [SignatureList(GUID_X509, b"", (each,)) for each in (one, two, three)]


def test_merging_is_not_quadratic() -> None:
    """R-70: a full variable of new signatures is merged quickly, also a second time."""
    many = [
        SignatureList(b"a" * 16, b"", tuple(n.to_bytes(17, "big") for n in range(start, start + 3800)))
        for start in (0, 3800)
    ]
    merged = merge(many[:1], many[1:])
    assert [len(each.signatures) for each in merged] == [7600]
    assert merge(merged, many * 10) == merged


@given(st.booleans(), st.binary(min_size=1))
def test_auth_files(append: bool, payload: bytes) -> None:
    """R-70: an auth file has 8 bytes of flags, big-endian, before the payload."""
    file = authvar.auth_file(payload, append=append)
    assert file == bytes(7) + bytes([append]) + payload
    assert authvar.parse_auth_file(file) == (int(append), payload)
    with pytest.raises(ValueError, match="8 bytes of flags"):
        authvar.parse_auth_file(file[:8])
