"""Files of secure-boot tools that are no auth file: a certificate, a key, a bare signature."""

from __future__ import annotations

import re

_PEM = re.compile(rb"\s*-----BEGIN ([A-Z0-9 ]{1,40})-----")
_SIGNATURE = "a bare PKCS#7 signature"
_PEM_KINDS = {"CERTIFICATE": "a certificate", "PKCS7": _SIGNATURE, "CMS": _SIGNATURE}
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
"""1.2.840.113549.1.7.2 in DER: the first element of a PKCS#7 from openssl."""


def foreign_form(data: bytes) -> str:
    """Return the kind of a file in words, "" for an unknown kind; the text has no byte of the file."""
    if pem := _PEM.match(data):
        name = pem[1].decode()
        if name.endswith("PRIVATE KEY"):
            return "a private key in PEM, which signs an update and is no update"
        return f"{_PEM_KINDS.get(name, 'a file')} in PEM"
    body = _sequence(data)
    if body is None:
        return ""
    if body.startswith(_SIGNED_DATA) or _is_bare_signature(body):
        return f"{_SIGNATURE} in DER"
    # Keys begin with a version, certificates with the sequence that is signed.
    if body.startswith(b"\x02\x01"):
        return "a private key in DER, which signs an update and is no update"
    return "a certificate in DER" if body[:1] == b"\x30" else ""


def _is_bare_signature(body: bytes) -> bool:
    """Return whether a sequence is SignedData: its version, then the set of digest algorithms."""
    return body[:2] == b"\x02\x01" and body[3:4] == b"\x31"


def _sequence(data: bytes) -> bytes | None:
    """Return the body of a file that is one sequence of DER; None for other files."""
    if data[:1] != b"\x30" or len(data) < 2:
        return None
    size = data[1] & 0x7F if data[1] & 0x80 else 0
    head = 2 + size
    length = int.from_bytes(data[2:head], "big") if size else data[1]
    # Padding or a newline behind the sequence is no reason to call it unknown.
    return data[head:] if size <= 4 and length <= len(data) - head else None
