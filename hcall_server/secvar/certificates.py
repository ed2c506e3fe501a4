"""X.509 certificates in signature lists: which keys count (RSA-2048 and RSA-4096, small exponent, version 3).

Neither validity nor a chain is checked, as in PowerVM's library: a key counts because its certificate is in
PK or KEK.  This module loads `cryptography`; import it where an update is checked, not before.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from hcall_abi.efi import GUID_X509, OWNER_SIZE, SignatureList
from hcall_abi.rules.updates import EXPONENT_BITS

KEY_SIZES = frozenset({2048, 4096})
"""Lengths in bits of the RSA keys that count."""


def certificates(lists: Iterable[SignatureList]) -> Iterator[bytes | None]:
    """Yield every certificate in DER, None for a signature in a list of another type."""
    for each in lists:
        for signature in each.signatures:
            yield signature[OWNER_SIZE:] if each.type == GUID_X509 else None


def rsa_key(der: bytes | None) -> RSAPublicKey | None:
    """Return a certificate's key, None for a certificate or a key that does not count."""
    if der is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old certificates; those of the guest are not ours
            certificate = x509.load_der_x509_certificate(der)
            key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None
    if certificate.version is not x509.Version.v3 or not isinstance(key, RSAPublicKey):
        return None
    return key if key.key_size in KEY_SIZES and _is_small(key.public_numbers().e) else None


def _is_small(exponent: int) -> bool:
    """Whether a public exponent makes a verification cheap; RSA has no even exponent, and not 1."""
    return exponent >= 3 and exponent % 2 == 1 and exponent.bit_length() <= EXPONENT_BITS
