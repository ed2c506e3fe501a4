"""Hostile payloads are never accepted. A rule refuses each of them, in bounded time and memory."""

import functools
import hashlib
import random
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_abi.efi import SignatureList, build_lists
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_client.guests import authvar
from hcall_server.secvar import pkcs7
from hcall_server.secvar.update import Refused, Replace
from tests.secvar import der
from tests.secvar.judge import judge
from tests.secvar.keys import NOW, elliptic, kek, pk, public_key, stranger, update

CONTENTS = b"contents"
LARGEST_PAYLOAD = 0xFFFF


@functools.cache
def good() -> bytes:
    """Return an update with signed attributes in a ContentInfo. It has the most bytes that can be damaged."""
    message = authvar.to_sign("db", CONTENTS, NOW)
    digest = der.attribute("message digest", der.tlv(4, hashlib.sha256(message).digest()))
    joined = b"".join(sorted([der.attribute("content type", der.oid("data")), digest]))
    info = der.signer_info(der.signature(der.tlv(0x31, joined), pk()), attributes=joined)
    return authvar.payload(NOW, der.content_info(der.signed_data(info)), CONTENTS)


def refused(payload: bytes, **changes) -> Rule:
    """Return the rule for which a payload is refused; fail on any other result."""
    decision = judge("db", payload, **changes)
    assert isinstance(decision, Refused), decision
    return decision.rule


def test_the_good_one_is_good() -> None:
    """The undamaged payload is accepted. Otherwise the other tests here would prove nothing."""
    assert isinstance(judge("db", good()), Replace)


def test_cut_at_every_byte() -> None:
    """R-70: an update that is cut at any byte is refused."""
    for end in range(len(good())):
        refused(good()[:end])


def test_every_bit_counts() -> None:
    """R-70: a payload with any flipped bit is refused, except in bytes that are neither signed nor read."""
    data, heedless = good(), set()
    for at in range(len(data)):
        for bit in range(8) if at < 60 else (at % 8,):
            flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            if not isinstance(judge("db", flipped), Refused):
                heedless.add(at)
    unheeded = [data.index(der.NAME) + n for n in range(len(der.NAME))]  # bytes of a signer's name
    versions = [n for n in range(40, len(data) - 2) if data[n : n + 2] == b"\2\1"]
    numbers = [n + 2 for n in versions]  # bytes of the versions and of the serial number
    parameters = [n for n in range(40, len(data) - 1) if data[n : n + 2] == b"\5\0"]
    # This byte selects another name of the same algorithm.
    names = [data.rindex(bytes.fromhex(der.OIDS["RSA"])) + 8]
    assert heedless <= {*unheeded, *numbers, *parameters, *names}


@settings(max_examples=300)
@given(st.data())
def test_random_damage(data: st.DataObject) -> None:
    """R-70: a payload with overwritten, removed or inserted bytes is refused, without an exception."""
    payload = bytearray(good())
    at = data.draw(st.integers(16, 100))
    cut = data.draw(st.integers(0, 8))
    payload[at : at + cut] = data.draw(st.binary(min_size=1, max_size=8))
    if bytes(payload) != good():
        judge("db", bytes(payload))
        refused(bytes(payload) + b"\0")


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes(noise: bytes) -> None:
    """R-70: random bytes are refused as a payload, as its PKCS#7, and as a certificate in PK."""
    refused(noise)
    refused(authvar.payload(NOW, noise or b"\0", CONTENTS))
    if noise:
        refused(good(), platform_key=bytes(8) + authvar.certificate_lists([noise]))


def nested(tag: int, depth: int) -> bytes:
    """Return deeply nested DER with correct lengths."""
    inner = b""
    while len(inner) < depth:
        inner = der.tlv(tag, inner)
    return inner


DEEP = LARGEST_PAYLOAD - 200
BOMBS = {
    "sequences": lambda: nested(0x30, DEEP),
    "sets": lambda: nested(0x31, DEEP),
    "explicit tags": lambda: nested(0xA0, DEEP),
    "indefinite lengths": lambda: b"\x30\x80" * (DEEP // 2),
    "a huge length": lambda: b"\x30\x84\xff\xff\xff\xff" + bytes(100),
    "a length of 127 bytes": lambda: b"\x30\xff" + b"\xff" * 127,
    "a long tag": lambda: b"\x3f" + b"\xff" * DEEP,
    "deep in the content": lambda: der.signed_data(content=der.sequence(der.oid("data"), nested(0xA0, DEEP))),
    "deep in the certificates": lambda: der.signed_data(der.signer_info(b"x"), extra=nested(0xA0, DEEP)),
    "many certificates": lambda: der.signed_data(extra=der.tlv(0xA0, b"\5\0" * 32_000)),
    "many digests": lambda: der.signed_data(digests=der.tlv(0x31, der.algorithm("SHA-256") * 4000)),
    "many signers": lambda: der.signed_data(*[der.signer_info(b"x")] * 700),
    "a huge number": lambda: der.signed_data(
        der.signer_info(b"x", who=der.sequence(der.NAME, der.tlv(2, b"\x7f" * 60_000)))
    ),
    "a huge signature": lambda: der.signed_data(der.signer_info(b"\xff" * 60_000)),
    "a huge name": lambda: der.sequence(der.tlv(6, b"\x81" * 60_000 + b"\1")),
    "many attributes": lambda: der.signed_data(
        der.signer_info(b"x", attributes=der.attribute("SHA-1", b"\5\0") * 3000)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    """R-70: deep nesting and large lengths and counts are refused, with a few megabytes of memory."""
    bomb = authvar.payload(NOW, BOMBS[name](), b"")
    assert len(bomb) <= LARGEST_PAYLOAD
    tracemalloc.start()
    refused(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


class Counted:
    """RSA verification as in the engine, which also counts the calls for each key."""

    def __init__(self) -> None:
        self.trials: list[tuple[int, int, bytes]] = []

    def __call__(self, key: RSAPublicKey, value: bytes, digest: bytes) -> bool:
        numbers = key.public_numbers()
        assert numbers.e < 1 << 32
        assert len(value) * 8 == key.key_size
        self.trials.append((numbers.n, numbers.e, value))
        return pkcs7.verifies(key, value, digest)


def many(count: int, size: int = 256) -> list[bytes]:
    """Return signers with random signatures; they precede real ones in a SET."""
    return [der.signer_info(bytes(8) + random.Random(n).randbytes(size - 8)) for n in range(count)]


@functools.cache
def as_many_as_fit(bits: int, exponent: int) -> list[bytes]:
    """Return as many certificates of different keys as fit into a KEK."""
    size = len(authvar.certificate_lists([public_key(bits, exponent)]))
    return [public_key(bits, exponent, number) for number in range(LARGEST_PAYLOAD // size)]


SMALL, LARGE, HUGE = 65537, (1 << 32) - 1, (1 << 2047) - 1
WORK: list[tuple[str, Callable[[], list[bytes]], Callable[[], list[bytes]], Rule, int | None]] = [
    (
        "distinct keys",
        lambda: as_many_as_fit(2048, SMALL),
        lambda: many(16),
        rules.UPDATE_TRIALS,
        16,
    ),
    (
        "longest keys",
        lambda: as_many_as_fit(4096, LARGE),
        lambda: many(16, 512),
        rules.UPDATE_TRIALS,
        16,
    ),
    (
        "more keys than trials",
        lambda: as_many_as_fit(2048, SMALL),
        lambda: many(1),
        rules.UPDATE_TRIALS,
        16,
    ),
    (
        "one signer",
        lambda: as_many_as_fit(2048, SMALL)[:15],
        lambda: many(1),
        rules.UPDATE_BY_PK_OR_KEK,
        None,
    ),
    (
        "one key again and again",
        lambda: [kek().der] * 60,
        lambda: many(8),
        rules.UPDATE_BY_PK_OR_KEK,
        16,
    ),
    (
        "one signature again and again",
        lambda: [kek().der],
        lambda: many(1) * 16,
        rules.UPDATE_BY_PK_OR_KEK,
        2,
    ),
    (
        "signatures of no key's length",
        lambda: [kek().der],
        lambda: many(16, 255),
        rules.UPDATE_BY_PK_OR_KEK,
        0,
    ),
    ("a huge exponent", lambda: as_many_as_fit(2048, HUGE), lambda: many(16), rules.UPDATE_TRUSTED_KEYS, 16),
    (
        "a long exponent",
        lambda: as_many_as_fit(4096, LARGE + 2),
        lambda: many(16, 512),
        rules.UPDATE_TRUSTED_KEYS,
        0,
    ),
]
"""Contents of KEK, signers, rule of the refusal, number of verifications (None: one a key, PK's too)."""


@pytest.mark.parametrize("_name,keys,signers,rule,cost", WORK, ids=[row[0] for row in WORK])
def test_the_most_work_there_is(
    _name: str,
    keys: Callable[[], list[bytes]],
    signers: Callable[[], list[bytes]],
    rule: Rule,
    cost: int | None,
) -> None:
    """R-70: without a right signature, each key is tried once on signatures of its length, up to a limit."""
    counted = Counted()
    payload = authvar.payload(NOW, der.signed_data(*signers()), b"")
    exchange_keys = bytes(8) + authvar.certificate_lists(keys())
    cost = 1 + len(keys()) if cost is None else cost
    assert max(len(payload), len(exchange_keys)) <= LARGEST_PAYLOAD
    assert refused(payload, exchange_keys=exchange_keys, verify=counted) is rule
    assert len(counted.trials) == cost
    assert len(set(counted.trials)) == cost


def test_the_last_trial_counts() -> None:
    """R-70: The 16th trial may still succeed, and there is no 17th.

    So with one more stranger before it, the right key is never tried.
    """
    keys = as_many_as_fit(2048, SMALL)
    good_one = der.signer_info(der.signature(authvar.to_sign("db", CONTENTS, NOW), kek()))
    payload = authvar.payload(NOW, der.signed_data(*many(3), good_one), CONTENTS)
    # The 4 signatures are tried with each key in KEK and with PK: with 3 strangers, 20 trials would be
    # needed.
    for strangers, taken in ((2, True), (3, False)):
        lists = authvar.certificate_lists([*keys[:strangers], kek().der])
        counted = Counted()
        decision = judge("db", payload, exchange_keys=bytes(8) + lists, verify=counted)
        assert isinstance(decision, Replace) is taken
        assert len(counted.trials) == 16


def test_exponents() -> None:
    """R-70: an exponent must be odd, from 3 to 2^32 - 1, in the stored KEK and in an update of KEK."""
    for exponent, counts in (
        (3, True),
        (17, True),
        (65537, True),
        (LARGE, True),
        (LARGE + 2, False),
        (HUGE, False),
    ):
        lists = authvar.certificate_lists([public_key(2048, exponent)])
        made = judge("KEK", update("KEK", lists))
        assert isinstance(made, Replace) is counts
        ending = refused(update("db", CONTENTS, stranger()), exchange_keys=bytes(8) + lists)
        assert ending is (rules.UPDATE_BY_PK_OR_KEK if counts else rules.UPDATE_TRUSTED_KEYS)


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_certificates(at: int, value: int) -> None:
    """R-70: if the certificate in PK is damaged, an update signed by another key is still refused."""
    certificate = bytearray(pk().der)
    certificate[at % len(certificate)] = value
    decision = judge(
        "db", update_by_kek(), platform_key=bytes(8) + authvar.certificate_lists([bytes(certificate)]),
        exchange_keys=None,
    )  # fmt: skip
    assert isinstance(decision, Refused)


@functools.cache
def update_by_kek() -> bytes:
    """Return an update that a signer in KEK has signed."""
    return update("db", CONTENTS, kek())


@settings(max_examples=200)
@given(st.binary(max_size=64), st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF), st.integers(0, 64))
def test_hostile_lists(noise: bytes, size: int, signature: int, header: int) -> None:
    """R-70: hostile lists in PK, KEK, an append or a stored variable raise no unexpected error."""
    hostile = b"t" * 16 + struct.pack("<III", size, header, signature) + noise
    armed = authvar.payload(NOW, b"-", hostile)
    assert isinstance(judge("PK", armed, unverified=True), Refused)
    assert refused(good(), platform_key=bytes(8) + hostile) is rules.UPDATE_TRUSTED_KEYS


def test_a_certificate_of_a_key_that_does_not_count_signs_nothing() -> None:
    """R-70: KEK is read up to a bad certificate. A good one after it cannot sign."""
    lists = build_lists([SignatureList(b"x" * 16, b"", (bytes(17),))])
    for bad in (authvar.certificate_lists([elliptic()]), lists):
        keys = {"exchange_keys": bytes(8) + bad + kek().lists}
        assert refused(update_by_kek(), **keys) is rules.UPDATE_TRUSTED_KEYS
