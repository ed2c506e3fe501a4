"""X.509 certificates in signature lists: which keys count (RSA of three lengths, small exponent, version 3).

This module loads `cryptography`; import it where an update is checked, not before.
"""

# As in PowerVM's public library, neither validity nor a chain is checked.  A key counts because its
# certificate is in PK or KEK.  A key that is restricted to RSASSA-PSS does not count: no update has such a
# signature.

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import PublicKeyAlgorithmOID

from hcall_abi.efi import GUID_X509, OWNER_SIZE, SignatureList
from hcall_abi.rules.updates import EXPONENT_BITS

KEY_SIZES = frozenset({2048, 3072, 4096})
"""Lengths in bits of the RSA keys that count."""


def certificates(lists: Iterable[SignatureList]) -> Iterator[bytes | None]:
    """Yield every certificate in DER, None for a signature in a list of another type."""
    # A signature of another type yields None.  In PK or KEK, it must end the search for a key.
    for each in lists:
        for signature in each.signatures:
            yield signature[OWNER_SIZE:] if each.type == GUID_X509 else None


class _Usable(NamedTuple):
    """A certificate that counts, and its key."""

    certificate: x509.Certificate
    key: RSAPublicKey


def fault_of(der: bytes | None) -> str | None:
    """Return why a certificate does not count, for the log; None for one that counts."""
    found = _judged(der)
    return found if isinstance(found, str) else None


def rsa_key(der: bytes | None) -> RSAPublicKey | None:
    """Return a certificate's key, None for a certificate or a key that does not count."""
    found = _usable(der)
    return found.key if found else None


def is_authority(der: bytes | None) -> bool:
    """Whether a certificate counts, and its basicConstraints say CA."""
    found = _usable(der)
    if found is None:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            constraints = found.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except _BAD_EXTENSIONS:
        return False
    return constraints.value.ca


_BAD_EXTENSIONS = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
"""The exceptions of `cryptography` for extensions that are absent, present twice, or unreadable."""


def _usable(der: bytes | None) -> _Usable | None:
    found = _judged(der)
    return None if isinstance(found, str) else found


def _judged(der: bytes | None) -> _Usable | str:
    """Return a usable certificate, or the reason why a certificate is not usable.

    The reason quotes nothing of the certificate's contents.
    """
    if der is None:
        return "a signature is in a list of another type than X.509"
    try:
        with warnings.catch_warnings():
            # the warnings are about old certificates, which the guest chooses
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            key = certificate.public_key()
    except x509.InvalidVersion as error:
        return f"a certificate has version number {error.parsed_version}; X.509 v3 has 2"
    except (ValueError, UnsupportedAlgorithm):
        return "a signature is no X.509 certificate in DER, or its key cannot be read"
    if certificate.version is not x509.Version.v3:
        return f"a certificate is X.509 v1: {_TO_V3}"
    return _usable_key(certificate, key)


_TO_V3 = "openssl x509 -req makes v3 with -extfile (spec/secure-boot-variables.md#certificates)"


def _usable_key(certificate: x509.Certificate, key: object) -> _Usable | str:
    if not isinstance(key, RSAPublicKey):
        return "the key of a certificate is not RSA"
    if certificate.public_key_algorithm_oid != PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5:
        # A key for id-RSASSA-PSS is an RSAPublicKey too.  Only the id of its algorithm shows the
        # restriction.
        return "the key of a certificate is for RSASSA-PSS alone (id-RSASSA-PSS)"
    if key.key_size not in KEY_SIZES:
        return f"the key of a certificate has {key.key_size} bits; 2048, 3072 and 4096 count"
    if not _is_small(key.public_numbers().e):
        return f"the public exponent of a certificate's key is not odd and from 3 to 2^{EXPONENT_BITS} - 1"
    return _Usable(certificate, key)


def _is_small(exponent: int) -> bool:
    """Whether a public exponent is one of RSA (odd, and not 1), and short enough for a cheap verification."""
    # The time of a verification grows with the length of the exponent.  Nearly all keys have 65537 (choice
    # C-Y).
    return exponent >= 3 and exponent % 2 == 1 and exponent.bit_length() <= EXPONENT_BITS
