"""Keys that are the same in every run, so that the input of a fuzzer can be tried again.

Their primes are public: use them for fuzzing only.
"""

from __future__ import annotations

import datetime
import functools

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from tests.secvar.keys import Holder

EXPONENT = 65537
_PRIMES = {
    "PK": (
        int(
            "fd20849b5ada14f2fdc963b8b7a9f8afe6d41e952fe0639131032dac88e01e8b"
            "e799ef6788b1f1f174a85179b86be31dc549577753254f1c97e9c02141251ee0"
            "c03268a2ac05833ae2d98efc3292819538b7cf83b0dc159bbd5574f224ff4c2e"
            "f53ee42dfc360ac9b5cbc901bf6c7fcceb777a0d0bea142952d5b34cc803e157",
            16,
        ),
        int(
            "d10cdecd6fce58cf89fba70538831a3de3db5516f655221b01c112b1264f1536"
            "7506b3256a017550e21482fcb7a244aff5191c4bc6b59c78dd5104294ab6df00"
            "aecaaf9f6c86c0bfa8d71c7c2845fec8acb264ecec12b0905320ae8317465281"
            "9fcce30d2485e70672b2076a640d1f6d6ce5539c31ef0b0c8c8c237a4fdef443",
            16,
        ),
    ),
    "KEK": (
        int(
            "ec96713db199869e987bf8caaa936c30bad05bff576290d355be06c64a9730eb"
            "9ddc705a158938ba4fcb4ee564b2454b82e995384b8aed37252ae2cddc8683ac"
            "c17e158d43e01acbe3734edb519a5d7c199a5c62604f82dffe45eba9249c3555"
            "ce9c6ac1c57ddda4158a0f94db98c4bdd9f0e50d4ea5a7fb201ef194c4d44727",
            16,
        ),
        int(
            "dbc4f2a919ea7d999a4ac4ef877dccbd901aea0a7aaaf524cb85c1d6788bd78d"
            "f6606e9a1f59c7377b16ebf5e53fac844a14d3486cdad99e23f163d9d7a667d6"
            "16af204702a56bcf6c197bc2b0f10a16b47c4e0d3d101120c340d93fad710769"
            "4f6294f2383199df93e4b36a08dc85dc50ad95fdd469e06ec73e21e3d8f2ade5",
            16,
        ),
    ),
}


@functools.cache
def holder(name: str) -> Holder:
    """Return the holder of PK or of KEK: a key and its certificate."""
    p, q = _PRIMES[name]
    d = rsa.rsa_recover_private_exponent(EXPONENT, p, q)
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(EXPONENT, p * q),
    )
    key = numbers.private_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2000, 1, 1)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    return Holder(key, made.sign(key, SHA256()))
