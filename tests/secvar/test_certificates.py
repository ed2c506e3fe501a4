"""Which certificates are accepted: their version, the kind and size of their key, and its exponent."""

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_abi.efi import StoredVariable, build_stored
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_client.guests import authvar
from hcall_server.secvar.certificates import is_authority, rsa_key
from hcall_server.secvar.update import Decision, Delete, Refused, Replace
from tests.secvar import der
from tests.secvar.judge import judge
from tests.secvar.keys import (
    BEFORE,
    authority,
    certificate,
    elliptic,
    for_pss,
    holder,
    kek,
    pk,
    public_key,
    update,
)

SIZES = [
    (1024, False),
    (2047, False),
    (2048, True),
    (2049, False),
    (3071, False),
    (3072, True),
    (3073, False),
    (4095, False),
    (4096, True),
    (4097, False),
    (8192, False),
]


def of_version(number: int | None, good: bytes) -> bytes:
    """Return a certificate with another version and without extensions.

    None means version 1, which is not written. The signature is invalid then, but is not checked.
    """
    whole = der.parts(good)
    fields = der.parts(whole[0])
    assert (fields[0], fields[-1][0]) == (der.version(2), 0xA3)
    said = b"" if number is None else der.version(number)
    return der.sequence(der.sequence(said, *fields[1:-1]), *whole[1:])


def stored(certificate: bytes) -> bytes:
    """Return a variable that contains one certificate."""
    return build_stored(StoredVariable(BEFORE, authvar.certificate_lists([certificate])))


def outcome(decision: Decision) -> Rule | None:
    """Return the rule for which an update is refused, or None if it is accepted."""
    assert isinstance(decision, Replace | Refused)
    return decision.rule if isinstance(decision, Refused) else None


@pytest.mark.parametrize("number", [None, 1, 3], ids=["v1", "v2", "v4"])
def test_only_version_3_counts(number: int | None) -> None:
    """R-70: a certificate of version 1 is not accepted into PK or KEK, and not trusted there."""
    old = of_version(number, pk().der)
    if number is None:
        assert x509.load_der_x509_certificate(old).version is x509.Version.v1
    assert rsa_key(of_version(2, pk().der)) == pk().key.public_key()
    assert rsa_key(old) is None
    for name, rule in (("PK", rules.UPDATE_PK_CONTENTS), ("KEK", rules.UPDATE_KEK_CONTENTS)):
        assert outcome(judge(name, update(name, authvar.certificate_lists([old])))) is rule
    trusting = judge("db", update("db", b"contents"), platform_key=stored(old))
    assert outcome(trusting) is rules.UPDATE_TRUSTED_KEYS


REASONS: dict[str, tuple[Callable[[], bytes], str]] = {
    "v1": (lambda: of_version(None, pk().der), "X.509 v1: openssl x509 -req makes v3 with -extfile"),
    "v2": (lambda: of_version(1, pk().der), "version number 1; X.509 v3 has 2"),
    "noise": (lambda: b"noise", "no X.509 certificate in DER"),
    "elliptic": (elliptic, "is not RSA"),
    "PSS": (lambda: for_pss(pk().der), "for RSASSA-PSS alone"),
    "length": (lambda: public_key(1024, 65537), "has 1024 bits; 2048, 3072 and 4096 count"),
    "exponent": (lambda: public_key(2048, 2**32 + 1), "not odd and from 3 to 2^32 - 1"),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_of_a_refused_certificate(case: str) -> None:
    """R-70: the log has the reason for a refused certificate, whether it is new or stored in KEK."""
    make, reason = REASONS[case]
    lists = authvar.certificate_lists([make()])
    decisions = [judge(name, update(name, lists)) for name in ("PK", "KEK", "trustedcadb")]
    decisions.append(judge("db", update("db", b"contents"), platform_key=stored(make())))
    for decision in decisions:
        assert isinstance(decision, Refused)
        assert reason in decision.message
    decision = judge("trustedcadb", update("trustedcadb", pk().lists))
    assert isinstance(decision, Refused)
    assert decision.message.endswith("not one of an authority (CA:TRUE)")


@pytest.mark.parametrize("bits,counts", SIZES)
def test_keys_of_2048_3072_and_4096_bits_count(bits: int, counts: bool) -> None:
    """R-70: an RSA key of 2048, 3072 or 4096 bits is accepted into PK and KEK, and can sign an update."""
    made = public_key(bits, 65537)
    key = rsa_key(made)
    assert (key.key_size if key else None) == (bits if counts else None)
    for name, rule in (("PK", rules.UPDATE_PK_CONTENTS), ("KEK", rules.UPDATE_KEK_CONTENTS)):
        decision = judge(name, update(name, authvar.certificate_lists([made])))
        assert outcome(decision) == (None if counts else rule)
    signed = judge("db", update("db", b"contents", kek()), exchange_keys=both(made), platform_key=None)
    assert outcome(signed) == (None if counts else rules.UPDATE_TRUSTED_KEYS)


def both(made: bytes) -> bytes:
    """Return a KEK that contains this certificate before that of the signer."""
    return build_stored(StoredVariable(BEFORE, authvar.certificate_lists([made]) + kek().lists))


def test_a_key_of_3072_bits_signs() -> None:
    """R-70: a key of 3072 bits can sign updates from PK and from KEK."""
    long = holder("long", 3072)
    assert outcome(judge("PK", update("PK", long.lists, long), platform_key=long.variable)) is None
    assert outcome(judge("db", update("db", b"contents", long), exchange_keys=long.variable)) is None


def test_a_key_for_pss_does_not_count() -> None:
    """R-70: an id-RSASSA-PSS key is neither accepted into PK or KEK, nor trusted there with PKCS#1 v1.5."""
    made = for_pss(pk().der)
    public = x509.load_der_x509_certificate(made).public_key()
    # Both certificates hold the same key.
    assert (public, rsa_key(pk().der)) == (pk().key.public_key(), pk().key.public_key())
    assert rsa_key(made) is None
    for name, rule in (("PK", rules.UPDATE_PK_CONTENTS), ("KEK", rules.UPDATE_KEK_CONTENTS)):
        assert outcome(judge(name, update(name, authvar.certificate_lists([made])))) is rule
    trusting = judge("db", update("db", b"contents"), platform_key=stored(made))
    assert outcome(trusting) is rules.UPDATE_TRUSTED_KEYS


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_trustedcadb_takes_authorities(bits: int) -> None:
    """R-70: trustedcadb accepts a CA with a key of any valid length, and refuses a certificate of no CA."""
    good, bad = authority(bits), authority(bits, ca=False)
    for made, counts in (([good], True), ([bad], False), ([good, bad], False), ([good, kek().der], False)):
        decision = judge("trustedcadb", update("trustedcadb", authvar.certificate_lists(made)))
        assert outcome(decision) == (None if counts else rules.UPDATE_CA_CONTENTS)
    assert outcome(judge("moduledb", update("moduledb", authvar.certificate_lists([bad])))) is None


def test_appends_to_trustedcadb_are_judged_by_what_is_new() -> None:
    """R-70: each certificate that is appended to trustedcadb must be that of a CA.

    Contents that are stored already are not checked.
    """
    before = stored(kek().der)
    for made, counts in ((authority(), True), (authority(ca=False), False), (kek().der, False)):
        payload = update("trustedcadb", authvar.certificate_lists([made]), append=True)
        for held in (before, None):
            decision = judge("trustedcadb", payload, append=True, stored=held)
            assert outcome(decision) == (None if counts else rules.UPDATE_CA_CONTENTS)


def test_trustedcadb_can_be_emptied() -> None:
    """R-70: an update without certificates deletes trustedcadb if PK signs, and empties it if KEK signs."""
    held = stored(authority())
    assert judge("trustedcadb", update("trustedcadb", b""), stored=held) == Delete()
    assert outcome(judge("trustedcadb", update("trustedcadb", b"", kek()), stored=held)) is None


@settings(max_examples=150)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_authorities(at: int, value: int) -> None:
    """R-70: a certificate with damaged extensions is accepted, or refused by a rule."""
    damaged = bytearray(authority())
    damaged[at % len(damaged)] = value
    made = authvar.certificate_lists([bytes(damaged)])
    assert outcome(judge("trustedcadb", update("trustedcadb", made))) in {None, rules.UPDATE_CA_CONTENTS}


def test_extensions_that_cannot_be_read() -> None:
    """R-70: double, unreadable or missing extensions raise no error."""
    whole = der.parts(authority())
    fields = der.parts(whole[0])
    extensions = der.parts(der.parts(fields[-1])[0])
    for others in ([extensions[-1]] * 2, [der.sequence(b"\5\0")], [der.sequence(extensions[-1][2:7])]):
        tagged = der.tlv(0xA3, der.sequence(*others))
        made = der.sequence(der.sequence(*fields[:-1], tagged), *whole[1:])
        assert not is_authority(made)
    assert not is_authority(der.sequence(der.sequence(*fields[:-1]), *whole[1:]))
    assert is_authority(der.sequence(der.sequence(*fields), *whole[1:]))


EXPONENTS = [(3, True), (5, True), (65537, True), (2**32 - 1, True), (2**32 + 1, False)]


@pytest.mark.parametrize("exponent,counts", EXPONENTS)
def test_the_exponent_is_odd_and_small(exponent: int, counts: bool) -> None:
    """R-70: the exponent of a key is odd and has at most 32 bits, so no verification is slow."""
    assert (rsa_key(public_key(2048, exponent)) is not None) is counts


def test_another_kind_of_key_or_of_bytes_is_no_key() -> None:
    """R-70: elliptic keys, random bytes and other signature types are no RSA keys."""
    edwards = certificate("edwards", ed25519.Ed25519PrivateKey.generate(), pk().key)
    others = (elliptic(), edwards.public_bytes(Encoding.DER), b"noise", b"", None)
    assert [rsa_key(each) for each in others] == [None] * 5
