"""Auth files: signed updates of secure-boot variables, made and taken apart (R-70).

An auth file is written to `/sys/firmware/secvar/vars/NAME/update`: 8 bytes of flags, then the payload.  A
signature may come from here or from any tool that makes a detached PKCS#7 over `to_sign`:

    contents = certificate_lists([certificate])
    pkcs7 = sign(to_sign("db", contents, time), key, certificate)
    file = auth_file(payload(time, pkcs7, contents))

or, for the middle line, `openssl cms -sign -binary -noattr -md sha256 -outform DER ...`.
Layouts: spec/secure-boot-variables.md#auth-file.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.efi import (
    CERTIFICATE_PART,
    GUID_SHA256,
    GUID_X509,
    TIME_SIZE,
    EfiTime,
    SignatureList,
    UpdatePayload,
    build_lists,
    build_update,
    parse_update,
)
from hcall_abi.errors import RuleBroken
from hcall_abi.mistakes import all_of, check_bytes, check_kind, check_text, of_caller
from hcall_abi.variables import FLAG_APPEND, POLICIES, SIGNED_ONLY, signed_bytes, wide
from hcall_client.guests.labels import os_label

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

__tracebackhide__ = of_caller
FLAGS_SIZE = 8
"""Bytes of flags before the payload, big-endian as all other numbers of h-calls."""
_PKCS7_PART = CERTIFICATE_PART.build({"length": 0})[4:]
"""Revision, type and GUID of the certificate part; they stand behind the time and the length."""
# The bytes of revision, type and GUID, counted from the end of the time. The 4 bytes before them are a
# length.
_KIND = slice(4, 4 + len(_PKCS7_PART))


class FileForm(Enum):
    """The form of a file of secure-boot tools, by its first bytes."""

    AUTH_FILE = "flags, then a payload"
    PAYLOAD = "a payload without flags"
    LISTS = "signature lists, not signed"
    UNKNOWN = "none of these"


class AuthFile(NamedTuple):
    """An auth file taken apart: the flags of the call, and its data."""

    flags: int
    payload: bytes


def variable_label(name: str) -> bytes:
    """Return the label under which Linux stores a secure-boot variable."""
    check_text("the name of a variable", name)
    return os_label(b"", wide(name))


def variable_policy(name: str) -> int:
    """Return the policy word that Linux sends for a variable; `SIGNED_ONLY` for any other name."""
    check_text("the name of a variable", name)
    return POLICIES.get(name, SIGNED_ONLY)


def efi_time(moment: datetime) -> EfiTime:
    """Return a datetime as an update contains it: whole seconds; the time zone is not converted."""
    # `datetime` and cryptography are imported late. Commands that read labels and auth files need neither.
    from datetime import datetime as kind

    check_kind(kind, "a moment", moment, "efi_time(datetime.now())")
    return EfiTime(*moment.timetuple()[:6])


def certificate_lists(certificates: Iterable[bytes], owner: bytes = bytes(16)) -> bytes:
    """Return signature lists of certificates in DER, each in a list of its own."""
    certificates = all_of(bytes, "certificates", certificates, 'certificate_lists([b"..."])')
    check_bytes("owner", owner)
    # Each certificate gets its own list. All signatures of a list have the same length, and two certificates
    # seldom have.
    return build_lists(SignatureList(GUID_X509, b"", (owner + each,)) for each in certificates)


def to_sign(name: str, contents: bytes, time: EfiTime, *, append: bool = False) -> bytes:
    """Return the bytes that the signature of an update covers."""
    check_text("the name of a variable", name)
    check_bytes("contents", contents)
    check_kind(EfiTime, "time", time, "efi_time(datetime.now())")
    return signed_bytes(wide(name), time, contents, append=append)


def sign(data: bytes, key: RSAPrivateKey, certificate: Certificate) -> bytes:
    """Return a detached PKCS#7 over `data` in DER, as EFI tools make it: SHA-256, no signed attributes."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

    builder = PKCS7SignatureBuilder().set_data(data).add_signer(certificate, key, SHA256())
    # The signature is detached and has no attributes: PowerVM's public library refuses signed attributes
    # (choice C-T).
    options = [PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoAttributes]
    return builder.sign(Encoding.DER, options)


def certificates_in(data: bytes) -> list[Certificate]:
    """Return the certificates in the PKCS#7 of a payload.

    They are for display: no update is accepted because of them.  ValueError if the PKCS#7 has no
    certificate, or can't be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

    check_bytes("a payload", data)
    try:
        pkcs7 = parse_update(data).pkcs7
    except RuleBroken as error:
        raise ValueError(str(error)) from None
    # efitools make bare SignedData, openssl a ContentInfo (spec/secure-boot-variables.md#signature).
    for whole in (pkcs7, _content_info(pkcs7)):  # bare SignedData is not read by the library
        with suppress(ValueError, UnsupportedAlgorithm):
            return load_der_pkcs7_certificates(whole)
    raise ValueError("the certificate part is no SignedData with certificates")


_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
"""1.2.840.113549.1.7.2 in DER."""


def _content_info(signed_data: bytes) -> bytes:
    """Return a ContentInfo: SignedData after the object identifier of its type."""
    return _tlv(0x30, _SIGNED_DATA + _tlv(0xA0, signed_data))


def _tlv(tag: int, body: bytes) -> bytes:
    """Return an element of DER, with the shortest length."""
    # DER allows one form for each length. A length below 128 is one byte. A larger one is the number of its
    # bytes, then as few bytes as possible.
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, len(body)] if len(body) < 0x80 else [tag, 0x80 | len(size), *size]) + body


def payload(time: EfiTime, pkcs7: bytes, contents: bytes) -> bytes:
    """Put an update together: the data of a SIGNED_UPDATE."""
    check_kind(EfiTime, "time", time, "efi_time(datetime.now())")
    check_bytes("pkcs7", pkcs7)
    check_bytes("contents", contents)
    return build_update(UpdatePayload(time, pkcs7, contents))


def auth_file(data: bytes, *, append: bool = False) -> bytes:
    """Return the auth file of a payload."""
    check_bytes("a payload", data)
    return (FLAG_APPEND if append else 0).to_bytes(FLAGS_SIZE, "big") + data


def form_of(data: bytes) -> FileForm:
    """Return the form of a file, by its first bytes."""
    check_bytes("a file", data)
    # Lists have no magic, so their first GUID identifies them. The other two forms have the fixed
    # fields of the certificate part at different offsets.
    if data[: len(GUID_X509)] in (GUID_X509, GUID_SHA256):
        return FileForm.LISTS
    if data[FLAGS_SIZE + TIME_SIZE :][_KIND] == _PKCS7_PART:
        return FileForm.AUTH_FILE
    return FileForm.PAYLOAD if data[TIME_SIZE:][_KIND] == _PKCS7_PART else FileForm.UNKNOWN


def parse_auth_file(data: bytes) -> AuthFile:
    """Take an auth file apart as Linux does; ValueError for one that has no room for its flags."""
    check_bytes("an auth file", data)
    if len(data) <= FLAGS_SIZE:
        raise ValueError(f"an auth file has {FLAGS_SIZE} bytes of flags and then a payload")
    return AuthFile(int.from_bytes(data[:FLAGS_SIZE], "big"), data[FLAGS_SIZE:])
