"""PKCS#7 SignedData: its shape, and the search for a trusted key that made one of its signatures.

The shape is declared below.  `cryptography` reads DER by these declarations, strictly and without
recursion.  It never parses a part without a declaration, so deep nesting there costs nothing.

Public tools make two forms, and both are read: SignedData in a ContentInfo (openssl), and bare SignedData
(efitools, sbsigntools).  Signed attributes are optional.  The signed bytes may be included or detached.

The certificates in the message and the name of a signer are ignored.  Only keys of PK and KEK are trusted,
and each is tried on the signatures (spec/secure-boot-variables.md#signature).

This module loads `cryptography`; import it where an update is checked, not before.
"""

# Every byte here comes from a guest, and other partitions wait while one update is decided.  So the work has
# bounds: at most MAX_SIGNERS signers, and at most MAX_TRIALS verifications, each by a key with a short
# exponent (`certificates`).  Without them one call could stop every partition for seconds.

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Annotated, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import ObjectIdentifier

from hcall_abi.errors import RuleBroken
from hcall_abi.rules import updates as rules
from hcall_abi.rules.updates import MAX_SIGNERS, MAX_TRIALS

SIGNED_DATA = ObjectIdentifier("1.2.840.113549.1.7.2")
SHA_256 = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
CONTENT_TYPE = ObjectIdentifier("1.2.840.113549.1.9.3")
MESSAGE_DIGEST = ObjectIdentifier("1.2.840.113549.1.9.4")
RSA_PKCS1 = frozenset({ObjectIdentifier("1.2.840.113549.1.1.1"), ObjectIdentifier("1.2.840.113549.1.1.11")})
"""rsaEncryption and sha256WithRSAEncryption: signers use either name for the same signature."""

_DIGEST_OF_SHA256 = Prehashed(SHA256())


Algorithm = list[asn1.TLV]
"""AlgorithmIdentifier: a SEQUENCE of the algorithm and, mostly, parameters, which are not examined."""


@asn1.sequence
class IssuerAndSerial:
    """A signer named by its certificate's issuer and serial number."""

    issuer: list[asn1.TLV]
    serial: int


@asn1.sequence
class Attribute:
    """A signed attribute; its values are opened where its type is known."""

    type: ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class SignerInfo:
    """One signature and how it was made."""

    version: int
    signer: IssuerAndSerial | Annotated[bytes, asn1.Implicit(0)]
    digest: Algorithm
    signed_attributes: Annotated[asn1.SetOf[Attribute] | None, asn1.Implicit(0)]
    signature_algorithm: Algorithm
    signature: bytes
    unsigned_attributes: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class Content:
    """EncapsulatedContentInfo: the type of the signed content and, if it is not detached, its bytes."""

    type: ObjectIdentifier
    content: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]


@asn1.sequence
class SignedData:
    """SignedData, without a ContentInfo around it.

    OpenSSL does not sort the certificates, so they are read as a list.
    """

    version: int
    digests: asn1.SetOf[Algorithm]
    content: Content
    certificates: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    crls: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[SignerInfo]


@asn1.sequence
class ContentInfo:
    """SignedData with its type around it."""

    type: ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


class Signature(NamedTuple):
    """A signature by one signer.

    Without signed attributes, the signature is over the SHA-256 digest of the update.  With signed
    attributes, it is over the digest of these attributes: `attributes`.  The attributes contain a digest of
    the update: `stated`.
    """

    value: bytes
    attributes: bytes | None = None
    stated: bytes | None = None


def read_signatures(der: bytes, message: bytes, *, strict: bool = False) -> tuple[Signature, ...]:
    """Return the signatures of SignedData in DER, bare or in a ContentInfo; RuleBroken with the finding.

    `message` is the signed bytes.  `strict` refuses signatures that real firmware may refuse (`doubts_of`).
    """
    data = _signed_data(der)
    _check_content(data.content, message)
    signers = data.signers.as_list()
    if not 1 <= len(signers) <= MAX_SIGNERS:
        raise RuleBroken(rules.UPDATE_PKCS7_SIGNERS, f"the SignedData has {len(signers)} signers")
    digests = [*data.digests.as_list(), *(signer.digest for signer in signers)]
    if any(_algorithm(each) != SHA_256 for each in digests):
        raise RuleBroken(rules.UPDATE_PKCS7_DIGEST, "a digest algorithm is another than SHA-256")
    if any(_algorithm(signer.signature_algorithm) not in RSA_PKCS1 for signer in signers):
        raise RuleBroken(rules.UPDATE_PKCS7_SIGNATURE, "a signature algorithm is another")
    signatures = tuple(_signature(signer, data.content.type) for signer in signers)
    if strict and (found := _doubts(signers)):
        raise RuleBroken(rules.UPDATE_STRICT, "; ".join(found))
    return signatures


def doubts_of(der: bytes) -> tuple[str, ...]:
    """Return the reasons why real firmware may refuse SignedData that this reader accepts.

    Returns none for bytes that are no SignedData: they are refused here too.
    """
    # PowerVM's public library compares a signature only with the digest of the update.  So it refuses
    # signed attributes.  It also refuses a signer that is named by a key identifier.
    try:
        return _doubts(_signed_data(der).signers.as_list())
    except RuleBroken:
        return ()


def _doubts(signers: list[SignerInfo]) -> tuple[str, ...]:
    """Return the reasons that apply to any of the signers, each once."""
    found = {
        "a signature is over signed attributes": any(each.signed_attributes is not None for each in signers),
        "a signer is named by a key identifier": any(isinstance(each.signer, bytes) for each in signers),
    }
    return tuple(reason for reason, applies in found.items() if applies)


def verifies(key: RSAPublicKey, value: bytes, digest: bytes) -> bool:
    """Whether `key` made the signature `value` over a SHA-256 digest: the one costly step."""
    try:
        key.verify(value, digest, PKCS1v15(), _DIGEST_OF_SHA256)
    except InvalidSignature:
        return False
    return True


Verify = Callable[[RSAPublicKey, bytes, bytes], bool]
"""`verifies`, or a test's replacement that counts."""


class Trials:
    """The search for a key that made one of an update's signatures.

    A key is tried once, on signatures of its length that name the SHA-256 digest of this update.  At most
    MAX_TRIALS pairs of key and signature are tried.
    """

    def __init__(self, signatures: Iterable[Signature], update: bytes, verify: Verify = verifies) -> None:
        # Equal signatures need only one trial.  A signature that states the digest of another update needs
        # none.
        distinct = dict.fromkeys(signatures)
        self._signatures = [each for each in distinct if each.stated is None or each.stated == update]
        self._update = update
        self._verify = verify
        self._tried: set[RSAPublicNumbers] = set()
        self._left = MAX_TRIALS

    def made_by(self, key: RSAPublicKey) -> bool:
        """Whether `key` made one of the signatures; RuleBroken once there have been too many trials."""
        numbers, size = key.public_numbers(), key.key_size // 8
        # KEK may hold one key in many certificates.  A second trial of it would only use up the bound.
        if numbers in self._tried:
            return False
        self._tried.add(numbers)
        return any(self._fits(key, each) for each in self._signatures if len(each.value) == size)

    def _fits(self, key: RSAPublicKey, signature: Signature) -> bool:
        if not self._left:
            raise RuleBroken(rules.UPDATE_TRIALS, f"none of {MAX_TRIALS} trials has succeeded")
        self._left -= 1
        return self._verify(key, signature.value, signature.attributes or self._update)


def _signed_data(der: bytes) -> SignedData:
    # Try bare SignedData first, as efitools and sbsigntools make it.  No bytes are both forms: SignedData
    # begins with a number, ContentInfo with an object identifier.
    try:
        return asn1.decode_der(SignedData, der)
    except ValueError:
        pass
    try:
        info = asn1.decode_der(ContentInfo, der)
    except ValueError:
        raise RuleBroken(rules.UPDATE_PKCS7_DER, "the certificate part cannot be read") from None
    if info.type != SIGNED_DATA:
        raise RuleBroken(rules.UPDATE_PKCS7_DER, "the certificate part holds something else than SignedData")
    return info.content


def _check_content(content: Content, message: bytes) -> None:
    """RuleBroken unless SignedData has no content, or one OCTET STRING with the signed bytes."""
    if content.content is None:
        return
    try:
        (found,) = [each.parse(bytes) for each in content.content]
    except ValueError:
        raise RuleBroken(rules.UPDATE_PKCS7_CONTENT, "its content is not one OCTET STRING") from None
    if found != message:
        raise RuleBroken(rules.UPDATE_PKCS7_CONTENT, f"its content is {len(found)} other bytes")


def _algorithm(identifier: Algorithm) -> ObjectIdentifier:
    """Return the algorithm of an identifier, without its parameters."""
    try:
        found: ObjectIdentifier = identifier[0].parse(ObjectIdentifier)
    except (IndexError, ValueError):
        raise RuleBroken(rules.UPDATE_PKCS7_DER, "an algorithm without a name") from None
    return found


def _signature(signer: SignerInfo, content_type: ObjectIdentifier) -> Signature:
    if signer.signed_attributes is None:
        return Signature(signer.signature)
    attributes = signer.signed_attributes.as_list()
    try:
        kind = _single(attributes, CONTENT_TYPE).parse(ObjectIdentifier)
        stated = _single(attributes, MESSAGE_DIGEST).parse(bytes)
    except ValueError:
        raise RuleBroken(rules.UPDATE_PKCS7_ATTRIBUTES, "a signed attribute is missing or bad") from None
    if kind != content_type:
        raise RuleBroken(rules.UPDATE_PKCS7_ATTRIBUTES, "the signed content type is another")
    # In the message, the attributes have the tag [0].  The signature is over them as a SET, so they are
    # encoded again (RFC 5652, section 5.4).
    as_set = asn1.encode_der(signer.signed_attributes)
    return Signature(signer.signature, hashlib.sha256(as_set).digest(), stated)


def _single(attributes: list[Attribute], kind: ObjectIdentifier) -> asn1.TLV:
    """Return the value of the attribute of type `kind`; ValueError unless there is exactly one such value."""
    (value,) = [tlv for each in attributes if each.type == kind for tlv in each.values.as_list()]
    return value
