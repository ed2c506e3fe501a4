"""DER encoded by hand, so that tests get forms of PKCS#7 that no library writes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

if TYPE_CHECKING:
    from tests.secvar.keys import Holder

OIDS = {
    "data": "2a864886f70d010701",
    "signed data": "2a864886f70d010702",
    "content type": "2a864886f70d010903",
    "message digest": "2a864886f70d010904",
    "SHA-1": "2b0e03021a",
    "SHA-256": "608648016503040201",
    "RSA": "2a864886f70d010101",
    "RSA with SHA-256": "2a864886f70d01010b",
    "RSASSA-PSS": "2a864886f70d01010a",
}


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return an element: the tag, the shortest form of the length, and the content."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE."""
    return tlv(0x30, *parts)


def set_of(*parts: bytes) -> bytes:
    """Return a SET OF with its elements sorted."""
    return tlv(0x31, *sorted(parts))


def oid(name: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    return tlv(6, bytes.fromhex(OIDS[name]))


def algorithm(name: str, parameters: bytes = b"\5\0") -> bytes:
    """Return an AlgorithmIdentifier."""
    return sequence(oid(name), parameters)


def version(number: int) -> bytes:
    """Return the element for the version of a certificate."""
    return tlv(0xA0, bytes([2, 1, number]))


def parts(element: bytes) -> list[bytes]:
    """Return the elements in a SEQUENCE."""
    found, rest = [], _content(element)[0]
    while rest:
        size = len(rest) - len(_content(rest)[1])
        found.append(rest[:size])
        rest = rest[size:]
    return found


def _content(data: bytes) -> tuple[bytes, bytes]:
    """Return the content of the first element in `data`, and the bytes after that element."""
    length, start = data[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return data[start : start + length], data[start + length :]


NAME = sequence(set_of(sequence(tlv(6, b"\x55\x04\x03"), tlv(12, b"anybody"))))


def signer_info(
    value: bytes,
    *,
    who: bytes = sequence(NAME, b"\2\1\1"),
    digest: bytes = algorithm("SHA-256"),
    attributes: bytes = b"",
    how: bytes = algorithm("RSA"),
    after: bytes = b"",
) -> bytes:
    """Return a SignerInfo; `attributes` is the content of the SET of signed attributes."""
    signed = tlv(0xA0, attributes) if attributes else b""
    return sequence(b"\2\1\1", who, digest, signed, how, tlv(4, value), after)


def signed_data(
    *signers: bytes,
    digests: bytes = set_of(algorithm("SHA-256")),
    content: bytes = sequence(oid("data")),
    extra: bytes = b"",
) -> bytes:
    """Return a SignedData without a ContentInfo."""
    return sequence(b"\2\1\1", digests, content, extra, set_of(*signers))


def content_info(data: bytes, kind: str = "signed data") -> bytes:
    """Return a ContentInfo that contains this SignedData."""
    return sequence(oid(kind), tlv(0xA0, data))


def signature(data: bytes, signer: Holder) -> bytes:
    """Return the RSA signature of SHA-256 over `data`."""
    return signer.key.sign(data, PKCS1v15(), SHA256())


def signed_attributes(data: bytes) -> bytes:
    """Return the signed attributes for a signature over `data`, sorted as in a SET."""
    digest = attribute("message digest", tlv(4, hashlib.sha256(data).digest()))
    return b"".join(sorted([attribute("content type", oid("data")), digest]))


def attribute(name: str, *values: bytes) -> bytes:
    """Return an Attribute."""
    return sequence(oid(name), set_of(*values))
