"""Which certificates count: their version, the kind and size of their key, and its exponent."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from hcall_abi.efi import StoredVariable, build_stored
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_client.guests import authvar
from hcall_server.secvar.certificates import rsa_key
from hcall_server.secvar.update import Decision, Refused, Replace
from tests.secvar import der
from tests.secvar.judge import judge
from tests.secvar.keys import BEFORE, certificate, elliptic, kek, pk, public_key, update

SIZES = [
    (1024, False),
    (2047, False),
    (2048, True),
    (2049, False),
    (3072, False),
    (4095, False),
    (4096, True),
    (4097, False),
    (8192, False),
]


def of_version(number: int | None, good: bytes) -> bytes:
    """A certificate with another version and without extensions; None: version 1, which is not written.

    The signature does not fit any more, and is not looked at.
    """
    whole = der.parts(good)
    fields = der.parts(whole[0])
    assert (fields[0], fields[-1][0]) == (der.version(2), 0xA3)
    said = b"" if number is None else der.version(number)
    return der.sequence(der.sequence(said, *fields[1:-1]), *whole[1:])


def stored(certificate: bytes) -> bytes:
    """A variable that holds one certificate."""
    return build_stored(StoredVariable(BEFORE, authvar.certificate_lists([certificate])))


def outcome(decision: Decision) -> Rule | None:
    """The rule that refused an update; None for one that was taken."""
    assert isinstance(decision, Replace | Refused)
    return decision.rule if isinstance(decision, Refused) else None


@pytest.mark.parametrize("number", [None, 1, 3], ids=["v1", "v2", "v4"])
def test_only_version_3_counts(number: int | None) -> None:
    """R-70: the same key in a certificate of version 1 is neither taken into PK or KEK nor trusted there."""
    old = of_version(number, pk().der)
    if number is None:
        assert x509.load_der_x509_certificate(old).version is x509.Version.v1
    assert rsa_key(of_version(2, pk().der)) == pk().key.public_key()
    assert rsa_key(old) is None
    for name, rule in (("PK", rules.UPDATE_PK_CONTENTS), ("KEK", rules.UPDATE_KEK_CONTENTS)):
        assert outcome(judge(name, update(name, authvar.certificate_lists([old])))) is rule
    trusting = judge("db", update("db", b"contents"), platform_key=stored(old))
    assert outcome(trusting) is rules.UPDATE_TRUSTED_KEYS


@pytest.mark.parametrize("bits,counts", SIZES)
def test_keys_of_2048_and_4096_bits_count(bits: int, counts: bool) -> None:
    """R-70: as a new PK, as a new key in KEK, and as one that an update may be signed by."""
    made = public_key(bits, 65537)
    key = rsa_key(made)
    assert (key.key_size if key else None) == (bits if counts else None)
    for name, rule in (("PK", rules.UPDATE_PK_CONTENTS), ("KEK", rules.UPDATE_KEK_CONTENTS)):
        decision = judge(name, update(name, authvar.certificate_lists([made])))
        assert outcome(decision) == (None if counts else rule)
    signed = judge("db", update("db", b"contents", kek()), exchange_keys=both(made), platform_key=None)
    assert outcome(signed) == (None if counts else rules.UPDATE_TRUSTED_KEYS)


def both(made: bytes) -> bytes:
    """A KEK that holds this certificate before that of the signer."""
    return build_stored(StoredVariable(BEFORE, authvar.certificate_lists([made]) + kek().lists))


EXPONENTS = [(3, True), (5, True), (65537, True), (2**32 - 1, True), (2**32 + 1, False)]


@pytest.mark.parametrize("exponent,counts", EXPONENTS)
def test_the_exponent_is_odd_and_small(exponent: int, counts: bool) -> None:
    """R-70: so that nobody can make a verification slow: 32 bits are the most."""
    assert (rsa_key(public_key(2048, exponent)) is not None) is counts


def test_another_kind_of_key_or_of_bytes_is_no_key() -> None:
    """R-70: elliptic keys, one of them without a size; noise; a signature of another type."""
    edwards = certificate("edwards", ed25519.Ed25519PrivateKey.generate(), pk().key)
    others = (elliptic(), edwards.public_bytes(Encoding.DER), b"noise", b"", None)
    assert [rsa_key(each) for each in others] == [None] * 5
