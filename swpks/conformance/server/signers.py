"""Signers of secure-boot variables: RSA keys with certificates of version 3, generated on first use."""

from __future__ import annotations

import datetime
import functools
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hcall_abi.efi import EfiTime
from hcall_client.guests import authvar

FIRST, LATER, LATEST = EfiTime(2024, 1, 1), EfiTime(2024, 2, 1), EfiTime(2024, 3, 1)
"""Three moments in their order; any others would do."""


class Signer(NamedTuple):
    """A private key and its certificate."""

    key: RSAPrivateKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        return f"Signer({self.certificate.subject.rfc4514_string()})"

    @property
    def lists(self) -> bytes:
        """The signature list that contains the certificate."""
        return authvar.certificate_lists([self.certificate.public_bytes(Encoding.DER)])

    def update(
        self,
        name: str,
        contents: bytes,
        time: EfiTime = FIRST,
        *,
        append: bool = False,
        signed: bytes | None = None,
    ) -> bytes:
        """Return the payload of an update.

        With `signed`, the signature covers `signed` in place of the contents, so the update is wrong.
        """
        message = authvar.to_sign(name, contents if signed is None else signed, time, append=append)
        return authvar.payload(time, authvar.sign(message, self.key, self.certificate), contents)


@functools.cache
def signer(name: str) -> Signer:
    """Return the signer with this name; the first call generates its key, which takes about 0.1 s."""
    key = generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"conformance {name}")])
    # The certificate has expired on purpose: a server does not check the validity of certificates
    # (spec/secure-boot-variables.md).
    start = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Signer(key, builder.sign(key, SHA256()))
