"""Keys and certificates for signed updates. Each is made once in a run, because RSA keys take time."""

from __future__ import annotations

import datetime
import functools
import random
from types import SimpleNamespace
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from hcall_abi.efi import EfiTime, StoredVariable, build_stored
from hcall_client.guests import authvar
from tests.secvar import der

BEFORE = EfiTime(2024, 1, 1)
NOW = EfiTime(2024, 2, 3, 4, 5, 6)


class Holder(NamedTuple):
    """A signer: a private key and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """Return the certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def lists(self) -> bytes:
        """Return a signature list that contains the certificate."""
        return authvar.certificate_lists([self.der])

    @property
    def variable(self) -> bytes:
        """Return a stored variable that contains that list and an early time."""
        return build_stored(StoredVariable(BEFORE, self.lists))

    def files(self, folder) -> tuple[str, str]:
        """Write key and certificate as PEM files; return their paths."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / "key.pem").write_bytes(key)
        (folder / "certificate.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return str(folder / "key.pem"), str(folder / "certificate.pem")


@functools.cache
def holder(name: str, bits: int = 2048) -> Holder:
    """Return a signer with an RSA key; it is the same one for the same name."""
    key = rsa.generate_private_key(65537, bits)
    return Holder(key, certificate(name, key))


@functools.cache
def authority(bits: int = 2048, *, ca: bool = True) -> bytes:
    """Return a CA's certificate in DER for a key of this length, always the same one.

    If `ca` is False, the certificate is that of no CA.
    """
    # To make a key takes time, so the holders' keys are used again.
    key = holder({2048: "KEK", 3072: "long", 4096: "big"}[bits], bits).key
    constraints = x509.BasicConstraints(ca=ca, path_length=None)
    return certificate("authority", key, extension=constraints).public_bytes(serialization.Encoding.DER)


def certificate(
    name: str,
    key,
    issuer_key=None,
    extension: x509.ExtensionType | None = None,
    *,
    issuer: str | None = None,
) -> x509.Certificate:
    """Return a certificate of version 3 for any kind of key, signed with that key or another one."""
    subject, other = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer or name)
    )
    start = datetime.datetime(2000, 1, 1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(other)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        # The code under test does not check validity.
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key or key, SHA256())


def public_key(bits: int, exponent: int, number: int = 0) -> bytes:
    """Return a certificate in DER for an RSA key whose private key is unknown.

    Each `number` gives another key.
    """
    modulus = random.Random(number).getrandbits(bits) | 1 << bits - 1 | 1
    key = SimpleNamespace(public_key=rsa.RSAPublicNumbers(exponent, modulus).public_key)
    made = certificate("nobody", key, pk().key)
    return made.public_bytes(serialization.Encoding.DER)


@functools.cache
def elliptic() -> bytes:
    """Return a certificate in DER for a key that is no RSA key."""
    made = certificate("elliptic", ec.generate_private_key(ec.SECP256R1()))
    return made.public_bytes(serialization.Encoding.DER)


def for_pss(good: bytes) -> bytes:
    """Return the certificate in DER, with its key restricted to RSASSA-PSS.

    The certificate's own signature is invalid then.
    """
    whole = der.parts(good)
    fields = der.parts(whole[0])
    at = next(n for n, each in enumerate(fields) if der.oid("RSA") in each)
    fields[at] = der.sequence(der.algorithm("RSASSA-PSS", b""), der.parts(fields[at])[1])
    return der.sequence(der.sequence(*fields), *whole[1:])


def contents_of(name: str) -> bytes:
    """Return certificates as contents that a variable accepts."""
    return authvar.certificate_lists([authority()]) if name == "trustedcadb" else kek().lists


def pk() -> Holder:
    """Return the signer whose certificate is in PK."""
    return holder("PK")


def kek() -> Holder:
    """Return a signer whose certificate is in KEK."""
    return holder("KEK")


def stranger() -> Holder:
    """Return a signer whose certificate is in no variable."""
    return holder("stranger")


def of_form(
    name: str,
    contents: bytes,
    signer: Holder,
    *,
    time: EfiTime = NOW,
    append: bool = False,
    attributes: bool = False,
    by_key: bool = False,
) -> bytes:
    """Return a payload whose signature has signed attributes, or which names its signer by key."""
    message = authvar.to_sign(name, contents, time, append=append)
    attributes_der = der.signed_attributes(message) if attributes else b""
    value = der.signature(der.tlv(0x31, attributes_der) if attributes else message, signer)
    who = {"who": der.tlv(0x80, b"key identifier")} if by_key else {}
    signed = der.signed_data(der.signer_info(value, attributes=attributes_der, **who))
    return authvar.payload(time, signed, contents)


def update(
    name: str, contents: bytes, signer: Holder | None = None, *, time: EfiTime = NOW, append: bool = False
) -> bytes:
    """Return a payload with a signature of `signer`, by default of the signer in PK."""
    who = signer or pk()
    pkcs7 = authvar.sign(authvar.to_sign(name, contents, time, append=append), who.key, who.certificate)
    return authvar.payload(time, pkcs7, contents)
