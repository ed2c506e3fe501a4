"""For every rule of a signed update, one update breaks only this rule.

The refusal has the status and the words of the rule.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.efi import StoredVariable, build_stored
from hcall_abi.rules import updates as rules
from hcall_abi.rules.catalogue import rows_of
from hcall_abi.rules.rule import Rule
from hcall_abi.rules.updates import MAX_SIGNERS
from hcall_abi.statuses import Status
from hcall_abi.variables import PK, POLICIES, WIPE_SENTENCE, wide
from hcall_client.guests import authvar
from hcall_server.secvar.names import broken_by_flags, broken_by_label
from hcall_server.secvar.update import Refused, Replace, doubts_of
from tests.secvar import der
from tests.secvar.judge import judge
from tests.secvar.keys import (
    BEFORE,
    NOW,
    authority,
    elliptic,
    for_pss,
    kek,
    pk,
    public_key,
    stranger,
    update,
)

CONTENTS = b"what db is to hold"


def payload(pkcs7: bytes | None = None, contents: bytes = CONTENTS) -> bytes:
    """Return an update of db; without a given PKCS#7, the signer in PK signs it."""
    return update("db", contents) if pkcs7 is None else authvar.payload(NOW, pkcs7, contents)


def patched(at: int, data: bytes) -> bytes:
    """Return a good payload with other bytes from an offset on."""
    good = payload()
    return good[:at] + data + good[at + len(data) :]


def message(contents: bytes = CONTENTS) -> bytes:
    """Return the bytes that each update in this table signs."""
    return authvar.to_sign("db", contents, NOW)


def by_pk(**changes: bytes) -> bytes:
    """Return a SignerInfo with the signature of the signer in PK."""
    return der.signer_info(der.signature(message(), pk()), **changes)


def with_attributes(*attributes: bytes, signer=pk) -> bytes:
    """Return a SignedData that signs these attributes."""
    joined = b"".join(sorted(attributes))
    value = der.signature(der.tlv(0x31, joined), signer())
    return der.signed_data(der.signer_info(value, attributes=joined))


TYPE = der.attribute("content type", der.oid("data"))


def digest(data: bytes | None = None) -> bytes:
    """Return a message-digest attribute, by default for the update."""
    return der.attribute("message digest", der.tlv(4, hashlib.sha256(data or message()).digest()))


def old(contents: bytes) -> bytes:
    """Return a stored variable with an early time."""
    return build_stored(StoredVariable(BEFORE, contents))


def length(value: int) -> bytes:
    """Return the bytes of the length field of the certificate part."""
    return struct.pack("<I", value)


def holding(*content: bytes) -> bytes:
    """Return the content of a SignedData that is not detached."""
    return der.sequence(der.oid("data"), der.tlv(0xA0, *content))


def with_content(content: bytes, tag: int = 4) -> bytes:
    """Return a SignedData that contains the content, by default in an OCTET STRING, and signs the update."""
    return der.signed_data(by_pk(), content=holding(der.tlv(tag, content)))


listed = authvar.certificate_lists

Case = tuple[Rule, str, Callable[[], bytes], dict[str, Any]]
"""The rule, the variable, a function that makes the payload, and fields of the request (or a function)."""

CASES: list[Case] = [
    (rules.UPDATE_HEADER, "db", lambda: b"", {}),
    (rules.UPDATE_HEADER, "db", lambda: payload()[:39], {}),
    *((rules.UPDATE_TIME_RESERVED, "db", lambda at=at: patched(at, b"\1"), {}) for at in range(7, 16)),
    *((rules.UPDATE_PART_LENGTH, "db", lambda n=n: patched(16, length(n)), {}) for n in (0, 23, 24)),
    (rules.UPDATE_PART_WITHIN, "db", lambda: patched(16, length(len(payload()) - 15)), {}),
    (rules.UPDATE_PART_WITHIN, "db", lambda: patched(16, length(0xFFFF_FFFF)), {}),
    (rules.UPDATE_PART_REVISION, "db", lambda: patched(20, b"\0\1"), {}),
    (rules.UPDATE_PART_TYPE, "db", lambda: patched(22, b"\2\0"), {}),
    (rules.UPDATE_PART_GUID, "db", lambda: patched(39, b"\0"), {}),
    (rules.UPDATE_PKCS7_DER, "db", lambda: payload(b"0"), {}),
    (rules.UPDATE_PKCS7_DER, "db", lambda: payload(der.signed_data(by_pk()) + b"\0"), {}),
    (rules.UPDATE_PKCS7_DER, "db", lambda: payload(der.content_info(der.signed_data(by_pk())) + b"\0"), {}),
    (rules.UPDATE_PKCS7_DER, "db", lambda: payload(der.content_info(der.signed_data(by_pk()), "data")), {}),
    (rules.UPDATE_PKCS7_DER, "db", lambda: payload(der.signed_data(by_pk(digest=der.sequence()))), {}),
    (rules.UPDATE_PKCS7_DER, "db", lambda: payload(der.signed_data(by_pk(how=der.sequence(b"\5\0")))), {}),
    (rules.UPDATE_PKCS7_CONTENT, "db", lambda: payload(with_content(message() + b"x")), {}),
    (rules.UPDATE_PKCS7_CONTENT, "db", lambda: payload(with_content(b"")), {}),
    (rules.UPDATE_PKCS7_CONTENT, "db", lambda: payload(with_content(message(), 0x0C)), {}),
    (
        rules.UPDATE_PKCS7_CONTENT,
        "db",
        lambda: payload(der.signed_data(by_pk(), content=holding(*[der.tlv(4, message())] * 2))),
        {},
    ),
    (rules.UPDATE_PKCS7_CONTENT, "db", lambda: payload(der.signed_data(by_pk(), content=holding())), {}),
    (rules.UPDATE_STRICT, "db", lambda: payload(with_attributes(TYPE, digest())), {"strict": True}),
    (rules.UPDATE_STRICT, "db",
     lambda: payload(der.signed_data(by_pk(who=der.tlv(0x80, b"identifier")))), {"strict": True}),
    (rules.UPDATE_STRICT, "db",
     lambda: payload(der.signed_data(by_pk(), by_pk(who=der.tlv(0x80, b"identifier")))), {"strict": True}),
    (rules.UPDATE_PKCS7_SIGNERS, "db", lambda: payload(der.signed_data()), {}),
    (rules.UPDATE_PKCS7_SIGNERS, "db", lambda: payload(der.signed_data(*[by_pk()] * (MAX_SIGNERS + 1))), {}),
    (rules.UPDATE_PKCS7_DIGEST, "db",
     lambda: payload(der.signed_data(by_pk(digest=der.algorithm("SHA-1")))), {}),
    (
        rules.UPDATE_PKCS7_DIGEST,
        "db",
        lambda: payload(der.signed_data(by_pk(), digests=der.set_of(der.algorithm("SHA-1")))),
        {},
    ),
    (rules.UPDATE_PKCS7_SIGNATURE, "db",
     lambda: payload(der.signed_data(by_pk(how=der.algorithm("RSASSA-PSS")))), {}),
    (rules.UPDATE_PKCS7_SIGNATURE, "db",
     lambda: payload(der.signed_data(by_pk(), by_pk(how=der.algorithm("RSASSA-PSS")))), {}),
    (rules.UPDATE_PKCS7_DIGEST, "db",
     lambda: payload(der.signed_data(by_pk(), by_pk(digest=der.algorithm("SHA-1")))), {}),
    (rules.UPDATE_PKCS7_ATTRIBUTES, "db", lambda: payload(with_attributes(TYPE)), {}),
    (rules.UPDATE_PKCS7_ATTRIBUTES, "db", lambda: payload(with_attributes(digest())), {}),
    (rules.UPDATE_PKCS7_ATTRIBUTES, "db", lambda: payload(with_attributes(TYPE, digest(), digest(b"x"))), {}),
    (rules.UPDATE_PKCS7_ATTRIBUTES, "db", lambda: payload(with_attributes(TYPE, TYPE, digest())), {}),
    (
        rules.UPDATE_PKCS7_ATTRIBUTES,
        "db",
        lambda: payload(with_attributes(der.attribute("content type", der.oid("signed data")), digest())),
        {},
    ),
    (
        rules.UPDATE_PKCS7_ATTRIBUTES,
        "db",
        lambda: payload(with_attributes(TYPE, der.attribute("message digest", der.tlv(12, b"text")))),
        {},
    ),
    (rules.UPDATE_TRUSTED_KEYS, "db", payload, {"platform_key": lambda: b"\1" + pk().variable[1:]}),
    (rules.UPDATE_TRUSTED_KEYS, "db", payload, {"platform_key": lambda: old(pk().lists[:-1])}),
    (rules.UPDATE_TRUSTED_KEYS, "db", payload, {"platform_key": lambda: old(listed([elliptic()]))}),
    (rules.UPDATE_TRUSTED_KEYS, "db", payload, {"platform_key": lambda: old(b"\0" * 16 + pk().lists[16:])}),
    (
        rules.UPDATE_TRUSTED_KEYS,
        "db",
        lambda: update("db", CONTENTS, kek()),
        {"exchange_keys": lambda: old(listed([elliptic()]) + kek().lists)},
    ),
    (
        rules.UPDATE_TRIALS,
        "db",
        lambda: payload(der.signed_data(*[der.signer_info(bytes(255) + bytes([n])) for n in range(16)])),
        {"exchange_keys": lambda: old(listed([public_key(2048, 3, n) for n in range(8)]))},
    ),
    (rules.UPDATE_BY_PK, "PK", lambda: update("PK", kek().lists, stranger()), {}),
    (rules.UPDATE_BY_PK, "KEK", lambda: update("KEK", kek().lists, kek()), {}),
    (rules.UPDATE_BY_PK_OR_KEK, "db", lambda: update("db", CONTENTS, stranger()), {}),
    (rules.UPDATE_BY_PK_OR_KEK, "db", lambda: payload(with_attributes(TYPE, digest(b"another update"))), {}),
    (
        rules.UPDATE_BY_PK_OR_KEK,
        "db",
        lambda: payload(with_attributes(TYPE, digest(), signer=stranger)),
        {},
    ),
    (rules.UPDATE_TIME_LATER, "db", payload, {"stored": lambda: build_stored(StoredVariable(NOW, b""))}),
    (rules.UPDATE_APPEND_LISTS, "db", lambda: update("db", b"", append=True),
     {"append": True, "stored": lambda: old(pk().lists)}),
    (rules.UPDATE_APPEND_LISTS, "KEK", lambda: update("KEK", b"", append=True), {"append": True}),
    (rules.UPDATE_APPEND_LISTS, "db", lambda: update("db", pk().lists[:-1], append=True),
     {"append": True, "stored": lambda: old(pk().lists)}),
    (rules.UPDATE_STORED_LISTS, "db", lambda: update("db", pk().lists, append=True),
     {"append": True, "stored": lambda: old(CONTENTS)}),
    (rules.UPDATE_WIPE_ARMED, "PK", lambda: update("PK", bytes(44) + WIPE_SENTENCE), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", pk().lists * 2), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", pk().lists + b"\0"), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", pk().der), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", listed([elliptic()])), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", listed([public_key(1024, 65537)])), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", listed([for_pss(pk().der)])), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", listed([pk().der + b"\0"])), {}),
    (rules.UPDATE_PK_CONTENTS, "PK", lambda: update("PK", b"\0" * 16 + pk().lists[16:]), {}),
    (rules.UPDATE_KEK_CONTENTS, "KEK", lambda: update("KEK", kek().lists + b"\0"), {}),
    (rules.UPDATE_KEK_CONTENTS, "KEK", lambda: update("KEK", kek().lists + listed([b"x"])), {}),
    (rules.UPDATE_KEK_CONTENTS, "KEK", lambda: update("KEK", kek().lists, append=True),
     {"append": True, "stored": lambda: old(CONTENTS)}),
    (rules.UPDATE_CA_CONTENTS, "trustedcadb", lambda: update("trustedcadb", b"no list"), {}),
    (rules.UPDATE_CA_CONTENTS, "trustedcadb",
     lambda: update("trustedcadb", listed([authority(ca=False)])), {}),
    (rules.UPDATE_CA_CONTENTS, "trustedcadb", lambda: update("trustedcadb", listed([elliptic()])), {}),
    (rules.UPDATE_CA_CONTENTS, "trustedcadb",
     lambda: update("trustedcadb", b"\0" * 16 + listed([authority()])[16:]), {}),
    (rules.UPDATE_CA_CONTENTS, "trustedcadb", lambda: update("trustedcadb", kek().lists), {}),
    (rules.UPDATE_VARIABLE_FITS, "db", payload, {"largest": 8 + len(CONTENTS) - 1}),
]  # fmt: skip

SPEC = CALLS[Opcode.SIGNED_UPDATE]
STATUSES = {
    "part": Status.H_P6, "header": Status.H_P6, "pkcs7": Status.H_P6, "append": Status.H_P6,
    "stored": Status.H_P6, "kek": Status.H_P6, "trusted": Status.H_AUTHORITY, "by": Status.H_AUTHORITY,
    "strict": Status.H_P6, "ca": Status.H_P6, "wipe": Status.H_AUTHORITY, "trials": Status.H_AUTHORITY,
    "variable": Status.H_NO_MEM, "label": Status.H_P2, "name": Status.H_P2,
    "flags": Status.H_P5,
}  # fmt: skip
EXACT = {
    rules.UPDATE_TIME_RESERVED: Status.H_P6,
    rules.UPDATE_TIME_LATER: Status.H_AUTHORITY,
    rules.UPDATE_PK_APPEND: Status.H_P5,
    rules.UPDATE_PK_CONTENTS: Status.H_P6,
}


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{case[0].id}" for n, case in enumerate(CASES)])
def test_a_broken_rule(case: Case) -> None:
    """R-70: the refusal names exactly this rule, and says what was found."""
    rule, name, make, changes = case
    made = {field: value() if callable(value) else value for field, value in changes.items()}
    decision = judge(name, make(), **made)
    assert isinstance(decision, Refused)
    assert decision.rule is rule
    assert decision.message


HEADER = bytes(9) + b"\2\x10" + bytes(5)
LABELS = [
    (rules.UPDATE_LABEL, PK),
    (rules.UPDATE_LABEL, HEADER[:15]),
    (rules.UPDATE_LABEL, b"p" + HEADER[1:] + PK),
    (rules.UPDATE_LABEL, HEADER[:8] + b"\1" + HEADER[9:] + PK),
    (rules.UPDATE_LABEL, HEADER[:10] + b"\x11" + HEADER[11:] + PK),
    (rules.UPDATE_LABEL, HEADER[:15] + b"\1" + PK),
    (rules.UPDATE_NAME_WIDE, HEADER),
    (rules.UPDATE_NAME_WIDE, HEADER + b"PK\0"),
    (rules.UPDATE_NAME_NUL, HEADER + PK + bytes(2)),
    (rules.UPDATE_NAME_NUL, HEADER + bytes(2) + PK),
    (rules.UPDATE_NAME_NUL, HEADER + b"P\0\0\0K\0"),
]


@pytest.mark.parametrize("rule,label", LABELS)
def test_a_bad_label(rule: Rule, label: bytes) -> None:
    """R-70: the label must have the operating systems' header, and a name in UTF-16 without NUL."""
    assert broken_by_label(label) is rule


def test_good_labels() -> None:
    """R-70: a label may have one of the nine names, or any other name in UTF-16.

    A 0 byte may be in two successive characters.
    """
    for name in (*POLICIES, "x", "\u0100\u0041", "é" * 100):
        assert broken_by_label(authvar.variable_label(name)) is None
    assert authvar.variable_label("PK") == HEADER + PK


def test_bad_flags() -> None:
    """R-70: append is the only flag, and is not allowed for PK."""
    label, other = authvar.variable_label("PK"), authvar.variable_label("db")
    for flags in (2, 3, 1 << 63, 1 << 32):
        assert broken_by_flags(flags, other) is broken_by_flags(flags, label) is rules.UPDATE_FLAGS
    assert broken_by_flags(1, label) is rules.UPDATE_PK_APPEND
    assert [broken_by_flags(flags, other) for flags in (0, 1)] == [None, None]
    assert broken_by_flags(0, label) is None
    assert broken_by_flags(1, HEADER + wide("PK ")) is None


def test_every_rule_is_broken_here() -> None:
    """R-70: each rule of signed updates has a case here, with its status."""
    tested = (
        {case[0] for case in CASES}
        | {rule for rule, _ in LABELS}
        | {rules.UPDATE_FLAGS, rules.UPDATE_PK_APPEND}
    )
    assert tested == set(rows_of(rules))
    for rule in rows_of(rules):
        status = SPEC.arg(rule.argument).status if rule.argument else rule.status
        assert status is EXACT.get(rule, STATUSES.get(rule.id.removeprefix("update.").partition("-")[0]))
    assert len({rule.sentence for rule in tested}) == len(tested)


GOOD: list[tuple[str, Callable[[], bytes]]] = [
    ("bare", lambda: der.signed_data(by_pk())),
    ("in a ContentInfo", lambda: der.content_info(der.signed_data(by_pk()))),
    ("algorithm without parameters", lambda: der.signed_data(by_pk(digest=der.algorithm("SHA-256", b"")))),
    ("other name of the algorithm", lambda: der.signed_data(by_pk(how=der.algorithm("RSA with SHA-256")))),
    ("named by its key", lambda: der.signed_data(by_pk(who=der.tlv(0x80, b"identifier")))),
    ("unsigned attributes", lambda: der.signed_data(by_pk(after=der.tlv(0xA1, digest(b"x"))))),
    ("a certificate that is none", lambda: der.signed_data(by_pk(), extra=der.tlv(0xA0, der.sequence()))),
    ("a revocation list", lambda: der.signed_data(by_pk(), extra=der.tlv(0xA1, der.sequence()))),
    ("the signed bytes as content", lambda: with_content(message())),
    ("them in a ContentInfo", lambda: der.content_info(with_content(message()))),
    ("signed attributes", lambda: with_attributes(TYPE, digest())),
    ("more signed attributes", lambda: with_attributes(TYPE, digest(), der.attribute("SHA-1", b"\5\0"))),
    ("two signers", lambda: der.signed_data(der.signer_info(der.signature(message(), stranger())), by_pk())),
    ("as many as may be", lambda: der.signed_data(*[der.signer_info(b"x")] * (MAX_SIGNERS - 1), by_pk())),
]  # fmt: skip


@pytest.mark.parametrize("make", [make for _, make in GOOD], ids=[name for name, _ in GOOD])
def test_what_breaks_no_rule(make: Callable[[], bytes]) -> None:
    """R-70: all equivalent forms of PKCS#7 are accepted; the name of the signer does not matter."""
    assert judge("db", payload(make())) == Replace(build_stored(StoredVariable(NOW, CONTENTS)))


DOUBTED = {
    "named by its key": ("a signer is named by a key identifier",),
    "signed attributes": ("a signature is over signed attributes",),
    "more signed attributes": ("a signature is over signed attributes",),
}


@pytest.mark.parametrize("name,make", GOOD, ids=[name for name, _ in GOOD])
def test_forms_that_hardware_may_refuse(name: str, make: Callable[[], bytes]) -> None:
    """R-70: a form that hardware may refuse is logged with the reason. Strict updates refuse it."""
    reasons = DOUBTED.get(name, ())
    assert doubts_of(payload(make())) == reasons
    decision = judge("db", payload(make()), strict=True)
    if reasons:
        assert isinstance(decision, Refused)
        assert (decision.rule, decision.message) == (rules.UPDATE_STRICT, "; ".join(reasons))
    else:
        assert isinstance(decision, Replace)


def test_a_payload_that_cannot_be_read_has_no_doubts() -> None:
    """R-70: an unreadable payload has no forms that hardware may refuse: the refusal names only the rule."""
    for bad in (b"", payload()[:39], authvar.payload(NOW, b"-", b""), payload(der.sequence())):
        assert doubts_of(bad) == ()
