"""A dbx as vendors publish it, with certificates that the tests make.

Its 450 SHA-256 digests are appended in one list.  The PKCS#7 has the certificates of the signer and its CA,
each of some 1400 bytes, and no signed attributes.
"""

import functools

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from hcall_abi.efi import GUID_SHA256, SignatureList, build_lists
from hcall_client.guests import authvar
from tests.secvar.keys import NOW, Holder, certificate, holder

DIGESTS = 450
CA, SIGNER = "vendor's CA", "vendor's signer"


@functools.cache
def ca() -> Holder:
    """The vendor's authority, with a certificate of the usual size."""
    return _large(CA, holder(CA))


@functools.cache
def leaf() -> Holder:
    """The signer of the vendor's files. The authority signed its certificate."""
    return _large(SIGNER, ca())


def _large(name: str, issuer: Holder) -> Holder:
    key = holder(name).key
    policy = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(600))
    return Holder(key, certificate(name, key, issuer.key, policy, issuer=CA))


@functools.cache
def contents() -> bytes:
    """The list of digests."""
    digests = (bytes(16) + n.to_bytes(32, "big") for n in range(DIGESTS))
    return build_lists([SignatureList(GUID_SHA256, b"", tuple(digests))])


@functools.cache
def vendors() -> bytes:
    """Return the payload as a vendor publishes it: an append, with both certificates."""
    data = authvar.to_sign("dbx", contents(), NOW, append=True)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(data)
    builder = builder.add_signer(leaf().certificate, leaf().key, SHA256()).add_certificate(ca().certificate)
    options = [
        pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes
    ]  # fmt: skip
    return authvar.payload(NOW, builder.sign(Encoding.DER, options), contents())
