"""The calls of a flooding session: they cost the server much and the client little.

The offender is a partition like any other. It has signed updates, a store full of long labels, and a KEK
with many public keys. No private key for them exists, so no signature fits. If an update has many
signatures, the server tries each key on each signature.
"""

# Which calls make a flood
#
# A flood is dangerous if a call costs the server much and the client little.  There are four kinds of such
# calls:
#
#   - config: small calls, as many as the socket takes.
#   - labels: a small request with a page of 32 KiB as its answer.
#   - frames: bodies of nearly 256 KiB, the largest ones.  The server has to receive them whole.
#   - pairs: one update makes the server verify many signatures of RSA-4096, up to its limit of pairs.
#
# All of them are permitted calls of a partition with its own password.  So no check of authorisation refuses
# them: only the turns of the server protect the neighbour.

from __future__ import annotations

import datetime
import os
import random
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.programs import OWNER, SESSION, Program, Step, Workload
from hcall_abi.codec import encode
from hcall_abi.efi import EfiTime
from hcall_abi.frames import MAX_BODY
from hcall_abi.rules.updates import MAX_SIGNERS, MAX_TRIALS
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import get_config, get_object_labels, set_password, signed_update, write_object
from hcall_client.guests import authvar
from hcall_client.request import Request
from hcall_server.secvar.pkcs7 import ContentInfo, SignedData, SignerInfo

OFFENDER = "offender"
SETTINGS = "128,keystore_signed_updates=1,keystore_signed_updates_without_verification=1"
"""The settings of a new offender; the latch accepts its first PK without a signature."""
BATCH = 32
"""Calls of a step; the next step follows at once."""
LONG_LABELS = 500
PAGE_OF_LABELS = 32 * 1024
SIGNERS = min(8, MAX_SIGNERS)
KEYS = MAX_TRIALS // SIGNERS + 1
"""Keys of the KEK: with `SIGNERS` signatures, more pairs than the server tries."""
BITS = 4096
FIRST, LATER = EfiTime(2024, 1, 1), EfiTime(2025, 1, 1)


def _repeated(requests: list[Request[Any]]) -> Workload:
    frames = [encode(request.frame(tag)) for tag, request in enumerate(requests, 1)]
    return [Program(SESSION, (Step(b"".join(frames), len(frames)),))]


def configs() -> Workload:
    """Return GET_CONFIG calls, as many as the socket takes."""
    return _repeated([get_config()] * BATCH)


def pages_of_labels() -> Workload:
    """Return GET_OBJECTLABELS calls with a buffer that the labels fill."""
    return _repeated([get_object_labels(OWNER, size=PAGE_OF_LABELS)] * BATCH)


def large_frames() -> Workload:
    """Return WRITE and SIGNED_UPDATE calls in frames of nearly the largest body, 256 KiB."""
    data = bytes(MAX_BODY - 1024)
    label, policy = authvar.variable_label("db"), authvar.variable_policy("db")
    return _repeated([write_object(OWNER, b"large", data), signed_update(OWNER, label, data, policy)])


def wrong_pairs() -> Workload:
    """Return SIGNED_UPDATE calls for db that make the server try as many pairs as its limit allows."""
    return _repeated([wrong_update()] * BATCH)


def wrong_update() -> Request[None]:
    """Return an update of db whose signatures fit none of the offender's keys."""
    # The first byte is 0, so the number is smaller than each modulus.  A larger one would be refused without
    # any work.
    values = [b"\0" + random.Random(n).randbytes(BITS // 8 - 1) for n in range(SIGNERS)]
    contents = authvar.certificate_lists([b"no certificate"])
    return _update("db", authvar.payload(LATER, many_signatures(values), contents))


FLOODS: Mapping[str, Callable[[], Workload]] = {
    "config": configs,
    "labels": pages_of_labels,
    "frames": large_frames,
    "pairs": wrong_pairs,
}
TITLES = {
    "config": "GET_CONFIG",
    "labels": "full pages of labels",
    "frames": "frames of 256 KiB",
    "pairs": "wrong signatures",
}


def prepare_offender(channel: BlockingChannel) -> None:
    """Set the password of a new offender, and store its objects.

    These are its PK, its KEK, and objects with long labels.
    """
    lock_offender(channel)
    holder = rsa.generate_private_key(65537, 2048)
    own = _certificate(holder.public_key(), holder)
    keys = [_certificate(_nobodys_key(n), holder) for n in range(KEYS)]
    # The one-shot latch of SETTINGS accepts this PK, although nothing has signed it.
    first = authvar.payload(FIRST, b"no PKCS#7", authvar.certificate_lists([_der(own)]))
    channel.call(_update("PK", first))
    contents = authvar.certificate_lists(map(_der, keys))
    signed = authvar.sign(authvar.to_sign("KEK", contents, LATER), holder, own)
    channel.call(_update("KEK", authvar.payload(LATER, signed, contents)))
    labels = [b"%04d" % n + bytes([n % 251]) * 70 for n in range(LONG_LABELS)]
    for result in channel.pipeline(write_object(OWNER, label, b"x") for label in labels):
        if isinstance(result, Exception):
            raise result


def lock_offender(channel: BlockingChannel) -> None:
    """Set the password that the flood's calls contain; needed after each IPL."""
    channel.call(set_password(OWNER.consumer, OWNER.password))


def _update(name: str, data: bytes) -> Request[None]:
    return signed_update(OWNER, authvar.variable_label(name), data, authvar.variable_policy(name))


def many_signatures(values: list[bytes]) -> bytes:
    """Return a PKCS#7 with a signer for each given signature, valid or not."""
    holder = rsa.generate_private_key(65537, 2048)
    der = authvar.sign(os.urandom(32), holder, _certificate(holder.public_key(), holder))
    data = asn1.decode_der(ContentInfo, der).content
    (signer,) = data.signers.as_list()
    fields = {name: getattr(signer, name) for name in SignerInfo.__annotations__}
    signers = asn1.SetOf([SignerInfo(**{**fields, "signature": value}) for value in values])
    return asn1.encode_der(
        SignedData(
            version=data.version,
            digests=data.digests,
            content=data.content,
            certificates=data.certificates,
            crls=data.crls,
            signers=signers,
        )
    )


def _nobodys_key(number: int) -> rsa.RSAPublicKey:
    """Return a public key for which no private key exists.

    A real key pair of this size would take a second to make.
    """
    # A number of the right size is enough: a wrong signature costs the server the same work under any
    # modulus.
    modulus = random.Random(number).getrandbits(BITS) | 1 << BITS - 1 | 1
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


def _certificate(key: rsa.RSAPublicKey, issuer: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    start = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start)
    return builder.not_valid_after(start + datetime.timedelta(days=1)).sign(issuer, SHA256())


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
