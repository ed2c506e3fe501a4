"""Keys and certificates for signed updates, made once a run; RSA takes its time."""

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
    """A signer: a private key and a certificate for it."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def lists(self) -> bytes:
        """A signature list of the certificate."""
        return authvar.certificate_lists([self.der])

    @property
    def variable(self) -> bytes:
        """A stored variable with that list, of an early time."""
        return build_stored(StoredVariable(BEFORE, self.lists))

    def files(self, folder) -> tuple[str, str]:
        """The key and the certificate as files in PEM."""
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
    """A holder of an RSA key; always the same one for a name."""
    key = rsa.generate_private_key(65537, bits)
    return Holder(key, certificate(name, key))


@functools.cache
def authority(bits: int = 2048, *, ca: bool = True) -> bytes:
    """A certificate of an authority (with `ca` not), in DER; always the same one for a length."""
    key = holder({2048: "KEK", 3072: "long", 4096: "big"}[bits], bits).key  # making one takes its time
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
    """A certificate of version 3 for any kind of key, signed by itself or by another."""
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
        .not_valid_after(start + datetime.timedelta(days=1))  # validity is not looked at
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key or key, SHA256())


def public_key(bits: int, exponent: int, number: int = 0) -> bytes:
    """A certificate for an RSA key that nobody holds, in DER; another one for every `number`."""
    modulus = random.Random(number).getrandbits(bits) | 1 << bits - 1 | 1
    key = SimpleNamespace(public_key=rsa.RSAPublicNumbers(exponent, modulus).public_key)
    made = certificate("nobody", key, pk().key)
    return made.public_bytes(serialization.Encoding.DER)


@functools.cache
def elliptic() -> bytes:
    """A certificate for a key that is no RSA key, in DER."""
    made = certificate("elliptic", ec.generate_private_key(ec.SECP256R1()))
    return made.public_bytes(serialization.Encoding.DER)


def for_pss(good: bytes) -> bytes:
    """The same certificate (in DER) with its key kept for RSASSA-PSS; its own signature fits no more."""
    whole = der.parts(good)
    fields = der.parts(whole[0])
    at = next(n for n, each in enumerate(fields) if der.oid("RSA") in each)
    fields[at] = der.sequence(der.algorithm("RSASSA-PSS", b""), der.parts(fields[at])[1])
    return der.sequence(der.sequence(*fields), *whole[1:])


def contents_of(name: str) -> bytes:
    """Contents that a variable takes, of certificates."""
    return authvar.certificate_lists([authority()]) if name == "trustedcadb" else kek().lists


def pk() -> Holder:
    """The holder of PK."""
    return holder("PK")


def kek() -> Holder:
    """The holder of a key in KEK."""
    return holder("KEK")


def stranger() -> Holder:
    """A signer whose key is in no variable."""
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
    """A payload whose signature has signed attributes, or whose signer is named by its key."""
    message = authvar.to_sign(name, contents, time, append=append)
    told = der.told(message) if attributes else b""
    value = der.signature(der.tlv(0x31, told) if attributes else message, signer)
    who = {"who": der.tlv(0x80, b"key identifier")} if by_key else {}
    signed = der.signed_data(der.signer_info(value, attributes=told, **who))
    return authvar.payload(time, signed, contents)


def update(
    name: str, contents: bytes, signer: Holder | None = None, *, time: EfiTime = NOW, append: bool = False
) -> bytes:
    """A payload with a signature of `signer`, by default of PK's holder."""
    who = signer or pk()
    pkcs7 = authvar.sign(authvar.to_sign(name, contents, time, append=append), who.key, who.certificate)
    return authvar.payload(time, pkcs7, contents)
