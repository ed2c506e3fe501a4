"""The new value of a variable: who may sign, time, append, deletion, and an update without verification."""

import struct

import pytest

from hcall_abi.efi import GUID_SHA256, EfiTime, SignatureList, StoredVariable, build_lists, build_stored
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.variables import POLICIES, WIPE_SENTENCE
from hcall_client.guests import authvar
from hcall_server.secvar.update import Delete, DeleteEverything, Refused, Replace
from tests.secvar.judge import judge, stored
from tests.secvar.keys import BEFORE, NOW, authority, contents_of, holder, kek, pk, stranger, update

OTHERS = [name for name in POLICIES if name not in ("PK", "KEK")]
UNCHECKED = [name for name in OTHERS if name != "trustedcadb"]
"""Databases that take any contents."""
LATER = NOW._replace(second=NOW.second + 1)
DIGESTS = build_lists([SignatureList(GUID_SHA256, b"", (b"o" * 16 + b"1" * 32, b"o" * 16 + b"2" * 32))])


def broken(decision) -> Rule:
    """Return the rule for which an update is refused."""
    assert isinstance(decision, Refused), decision
    return decision.rule


def old(contents: bytes, time: EfiTime = BEFORE) -> bytes:
    """Return a stored variable."""
    return build_stored(StoredVariable(time, contents))


@pytest.mark.parametrize("name", POLICIES)
def test_pk_signs_every_variable(name: str) -> None:
    """R-70: the signer in PK may update all nine variables.

    8 bytes of version and time precede the contents.
    """
    lists = contents_of(name)
    got = stored(name, update(name, lists))
    assert got == struct.pack("<BHBBBBB", 0, *NOW) + lists


@pytest.mark.parametrize("name", OTHERS)
def test_kek_signs_all_but_pk_and_kek(name: str) -> None:
    """R-70: a signer in KEK may update the seven databases, and variables with any other name."""
    contents = contents_of(name) if name == "trustedcadb" else DIGESTS
    assert stored(name, update(name, contents, kek()))[8:] == contents
    assert stored("mine", update("mine", DIGESTS, kek()))[8:] == DIGESTS
    for private in ("PK", "KEK"):
        assert broken(judge(private, update(private, kek().lists, kek()))) is rules.UPDATE_BY_PK
    assert broken(judge(name, update(name, DIGESTS, stranger()))) is rules.UPDATE_BY_PK_OR_KEK


def test_every_key_of_kek_signs() -> None:
    """R-70: a certificate in the second list of KEK may sign too, and so may an RSA-4096 key."""
    big = holder("big", 4096)
    keys = old(kek().lists + big.lists)
    for who in (kek(), big):
        payload = update("db", DIGESTS, who)
        assert isinstance(judge("db", payload, exchange_keys=keys, platform_key=None), Replace)
    assert isinstance(judge("KEK", update("KEK", kek().lists, big), platform_key=old(big.lists)), Replace)


def test_without_pk_nobody_signs() -> None:
    """R-70: if no PK is stored, no signature is accepted."""
    nothing = {"platform_key": None, "exchange_keys": None}
    for name in POLICIES:
        assert broken(judge(name, update(name, pk().lists), **nothing)).status == -10


def test_a_signature_is_for_one_name_time_and_kind() -> None:
    """R-70: a signature covers the name, the time, the contents and whether it is an append."""
    for name, payload, append in (
        ("dbx", update("db", DIGESTS), False),
        ("db", update("db", DIGESTS), True),
        ("db", update("db", DIGESTS, append=True), False),
        ("db", update("db", DIGESTS) + b"\0", False),
        ("db", update("db", DIGESTS)[:-1], False),
        ("db", b"\xe9" + update("db", DIGESTS)[1:], False),
    ):
        assert broken(judge(name, payload, append=append)) is rules.UPDATE_BY_PK_OR_KEK


@pytest.mark.parametrize("field", range(6))
def test_time_goes_forward(field: int) -> None:
    """R-70: the time of an update must be later, in any field; an equal time is refused."""
    earlier = EfiTime(*[value - (n == field) for n, value in enumerate(NOW)])
    payload = update("db", DIGESTS)
    assert isinstance(judge("db", payload, stored=old(b"", earlier)), Replace)
    assert broken(judge("db", payload, stored=old(b"", NOW))) is rules.UPDATE_TIME_LATER
    later = EfiTime(*[value + (n == field) for n, value in enumerate(NOW)])
    assert broken(judge("db", payload, stored=old(b"", later))) is rules.UPDATE_TIME_LATER


def test_an_append_keeps_the_later_time() -> None:
    """R-70: the time of an append is not compared. The variable keeps the later one of both times."""
    payload = update("dbx", DIGESTS, append=True)
    for before in (BEFORE, NOW, LATER):
        got = stored("dbx", payload, append=True, stored=old(kek().lists, before))
        assert got[:8] == old(b"", max(before, NOW))
        got = stored("dbx", payload, append=True, stored=old(b"", before))
        assert got == old(DIGESTS, max(before, NOW))
    assert stored("dbx", payload, append=True) == old(DIGESTS, NOW)


@pytest.mark.parametrize("name", UNCHECKED)
def test_databases_hold_nothing_twice(name: str) -> None:
    """R-70: if a signature is stored already, an append of it changes nothing.

    A new one joins the list of its type.
    """
    third = b"o" * 16 + b"3" * 32
    both = build_lists([SignatureList(GUID_SHA256, b"", (third, b"o" * 16 + b"1" * 32))])
    payload = update(name, DIGESTS, append=True)
    assert stored(name, payload, append=True, stored=old(DIGESTS))[8:] == DIGESTS
    payload = update(name, both + kek().lists, append=True)
    lists = (b"o" * 16 + b"1" * 32, b"o" * 16 + b"2" * 32, third)
    expected = build_lists([SignatureList(GUID_SHA256, b"", lists)]) + kek().lists
    assert stored(name, payload, append=True, stored=old(DIGESTS))[8:] == expected


@pytest.mark.parametrize("name", ["KEK", "mine"])
def test_other_variables_are_appended_to_as_they_are(name: str) -> None:
    """R-70: an append to KEK or an unknown variable adds the bytes at the end, even if stored already."""
    payload = update(name, kek().lists, append=True)
    assert stored(name, payload, append=True, stored=old(kek().lists))[8:] == kek().lists * 2


def test_no_contents() -> None:
    """R-70: an update without contents deletes the variable if PK signs, and empties it if KEK signs."""
    for name in POLICIES:
        assert judge(name, update(name, b""), stored=old(kek().lists)) == Delete()
        assert judge(name, update(name, b"")) == Delete()
    assert stored("db", update("db", b"", kek()), stored=old(DIGESTS)) == old(b"", NOW)


def test_pk_is_replaced_by_its_holder() -> None:
    """R-70: after an update of PK, the new key may sign and the old one may not."""
    new = stored("PK", update("PK", stranger().lists), stored=pk().variable)
    assert isinstance(judge("db", update("db", DIGESTS, stranger()), platform_key=new), Replace)
    assert broken(judge("db", update("db", DIGESTS), platform_key=new)) is rules.UPDATE_BY_PK_OR_KEK


def test_pk_without_verification() -> None:
    """R-36, R-70: without verification, an update of PK needs no signature, no later time and no PKCS#7."""
    no_keys = {"platform_key": None, "exchange_keys": None, "unverified": True}
    payload = authvar.payload(BEFORE, b"no PKCS#7", stranger().lists)
    for before in (None, pk().variable, old(pk().lists, NOW)):
        assert stored("PK", payload, **no_keys, stored=before)[8:] == stranger().lists
        assert stored("PK", payload, unverified=True, stored=before)[8:] == stranger().lists
    assert judge("PK", authvar.payload(BEFORE, b"-", b""), unverified=True, stored=pk().variable) == Delete()
    assert broken(judge("PK", payload)) is rules.UPDATE_PKCS7_DER
    for other in ("KEK", *OTHERS):
        assert broken(judge(other, payload, unverified=True)) is rules.UPDATE_PKCS7_DER


def test_everything_is_deleted_by_a_sentence() -> None:
    """R-36, R-70: A fixed sentence as the contents of PK deletes all variables, while the latch is armed."""
    for head in (bytes(44), b"x" * 44):
        contents = head + WIPE_SENTENCE
        armed = authvar.payload(BEFORE, b"-", contents)
        assert judge("PK", armed, unverified=True, stored=pk().variable) == DeleteEverything()
        assert broken(judge("PK", update("PK", contents))) is rules.UPDATE_WIPE_ARMED
        assert stored("db", update("db", contents))[8:] == contents
    for near in (bytes(43) + WIPE_SENTENCE, bytes(44) + WIPE_SENTENCE[:-1], bytes(45) + WIPE_SENTENCE):
        payload = authvar.payload(BEFORE, b"-", near)
        assert broken(judge("PK", payload, unverified=True)) is rules.UPDATE_PK_CONTENTS


def test_trustedcadb_holds_nothing_twice() -> None:
    """R-70: trustedcadb merges like the other databases, with the contents that it accepts."""
    held, more = contents_of("trustedcadb"), authvar.certificate_lists([authority(4096)])
    payload = update("trustedcadb", held + more + more, append=True)
    assert stored("trustedcadb", payload, append=True, stored=old(held))[8:] == held + more


@pytest.mark.parametrize("name", [*UNCHECKED, "mine"])
def test_contents_of_other_variables_are_their_own_affair(name: str) -> None:
    """R-70: contents for which no rule exists are stored byte for byte."""
    for contents in (b"x", bytes(27), b"\xff" * 1000, DIGESTS + b"trailing"):
        assert stored(name, update(name, contents))[8:] == contents


def test_the_largest_variable() -> None:
    """R-70: the limit of a variable's size includes the 8 bytes of its header."""
    payload = update("db", bytes(1000))
    assert len(stored("db", payload, largest=1008)) == 1008
    assert broken(judge("db", payload, largest=1007)) is rules.UPDATE_VARIABLE_FITS


def test_what_is_stored_and_no_variable_gives_way() -> None:
    """If the stored object under the label is no variable, an update replaces it. An append is refused."""
    assert stored("db", update("db", DIGESTS), stored=b"\1other") == old(DIGESTS, NOW)
    payload = update("db", DIGESTS, append=True)
    assert broken(judge("db", payload, append=True, stored=b"\1other")) is rules.UPDATE_STORED_LISTS


def test_nothing_of_the_contents_shows() -> None:
    """The texts of a request, a payload and a decision show no contents, so they can be logged."""
    from hcall_abi.efi import parse_update
    from hcall_server.secvar.update import UpdateRequest

    payload = update("db", b"canary" * 10)
    request = UpdateRequest(b"d\0b\0", payload, False, payload, payload, payload, False, 1)
    for thing in (request, parse_update(payload), judge("db", payload), StoredVariable(NOW, payload)):
        assert "canary" not in repr(thing)
        assert payload[60:70].hex() not in repr(thing)
