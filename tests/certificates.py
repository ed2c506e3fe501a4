"""Certificates for tests of TLS: a small CA with EC keys, in a folder of the test."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hcall_client.control_transport import TlsFiles

# RFC 5280, 4.2.1.3: a CA has this extension.  From Python 3.13 on, `ssl.create_default_context` refuses a CA
# without it.
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)

_CRITICAL = (x509.BasicConstraints, x509.KeyUsage)
HOSTS = ("localhost", "127.0.0.1", "::1")


class Authority:
    """A CA, and the folder with its files."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert = self._signed(
            name, self._key, x509.BasicConstraints(ca=True, path_length=0), _SIGNS_CERTIFICATES
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._cert.public_bytes(Encoding.PEM))

    def files(
        self, name: str, *hosts: str, passphrase: bytes = b"", purpose: x509.ObjectIdentifier | None = None
    ) -> TlsFiles:
        """Return key and certificate files for these hosts, and for one purpose if it is given."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca=False, path_length=None)]
        if hosts:
            extensions.append(x509.SubjectAlternativeName(list(map(_general_name, hosts))))
        if purpose:
            extensions.append(x509.ExtendedKeyUsage([purpose]))
        cert = self._signed(name, key, *extensions)
        cert_file, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        cert_file.write_bytes(cert.public_bytes(Encoding.PEM))
        key_file.touch(0o600)
        hidden = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
        return TlsFiles(cert_file, key_file, self.file)

    def server(self) -> TlsFiles:
        """Return the files of a server on this host."""
        return self.files("server", *HOSTS, purpose=ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name: str = "client") -> TlsFiles:
        """Return the files of a console."""
        return self.files(name, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)

    def _signed(
        self, name: str, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for each in extensions:
            builder = builder.add_extension(each, critical=isinstance(each, _CRITICAL))
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
