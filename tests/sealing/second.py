"""A second implementation of sealing, written only from spec/sealed.md; it shares no code with the package.

HKDF is the standard library's HMAC; the tests compare it with `openssl kdf` where that command exists.
AES-256-GCM is plain Python, slow and short.  It seals and opens both sealed levels.  The package only reads
level 1, so the records of level 1 that tests need come from here.  The contents of the records, and the
commit record, are in `second_records`.
"""

import functools
import hashlib
import hmac
import struct
from typing import NamedTuple


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Return HKDF-SHA-256 by RFC 5869, both steps."""
    return hkdf_expand(hmac.digest(salt, key, hashlib.sha256), info, length)


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """Return only the second step of RFC 5869 (section 2.3), for a key that is already uniform."""
    output = block = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        output += block
    return output[:length]


def _xtime(a: int) -> int:
    return (a << 1) ^ (0x11B if a & 0x80 else 0)


def _multiply(a: int, b: int) -> int:
    """Return the product of two elements of AES's field of 256 elements."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = _xtime(a), b >> 1
    return product


def _s_box() -> bytes:
    box = bytearray()
    for value in range(256):
        inverse = functools.reduce(_multiply, [value] * 254)
        twisted = 0
        for turn in range(5):
            twisted ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xFF
        box.append(twisted ^ 0x63)
    return bytes(box)


S_BOX = _s_box()


class Aes256:
    """The forward cipher of FIPS 197. The state is 16 bytes, column by column."""

    def __init__(self, key: bytes) -> None:
        words = [key[n : n + 4] for n in range(0, 32, 4)]
        constant = 1
        for n in range(8, 60):
            word = words[-1]
            if n % 8 == 0:
                word = bytes(S_BOX[b] for b in word[1:] + word[:1])
                word = bytes([word[0] ^ constant]) + word[1:]
                constant = _xtime(constant)
            elif n % 8 == 4:
                word = bytes(S_BOX[b] for b in word)
            words.append(bytes(a ^ b for a, b in zip(words[n - 8], word, strict=True)))
        self.round_keys = [b"".join(words[n : n + 4]) for n in range(0, 60, 4)]

    def block(self, data: bytes) -> bytes:
        state = _xor(data, self.round_keys[0])
        for number, round_key in enumerate(self.round_keys[1:], 1):
            state = bytes(S_BOX[state[(n + 4 * (n % 4)) % 16]] for n in range(16))
            if number < 14:
                state = b"".join(_mix(state[n : n + 4]) for n in range(0, 16, 4))
            state = _xor(state, round_key)
        return state


def _mix(column: bytes) -> bytes:
    double = [_xtime(b) for b in column]
    triple = [d ^ b for d, b in zip(double, column, strict=True)]
    return bytes(
        double[n] ^ triple[(n + 1) % 4] ^ column[(n + 2) % 4] ^ column[(n + 3) % 4] for n in range(4)
    )


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=False))


def subkey_at(subkey: int, turns: int) -> int:
    """Return the hash subkey times x to the power of `turns`, in the bit order of NIST SP 800-38D."""
    for _ in range(turns):
        subkey = (subkey >> 1) ^ (0xE1 << 120 if subkey & 1 else 0)
    return subkey


class Gcm:
    """AES-256-GCM with a 12-byte nonce and a 16-byte tag, NIST SP 800-38D."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self.aes = Aes256(key)
        self.nonce = nonce
        subkey = int.from_bytes(self.aes.block(bytes(16)), "big")
        self.powers = [subkey_at(subkey, turns) for turns in range(128)]

    def keystream(self, text: bytes) -> bytes:
        blocks = (
            _xor(text[n : n + 16], self.aes.block(self.nonce + struct.pack(">I", 2 + n // 16)))
            for n in range(0, len(text), 16)
        )
        return b"".join(blocks)

    def tag(self, ciphertext: bytes, associated: bytes) -> bytes:
        lengths = struct.pack(">QQ", 8 * len(associated), 8 * len(ciphertext))
        state = 0
        for block in [*_blocks(associated), *_blocks(ciphertext), lengths]:
            state = self.times_subkey(state ^ int.from_bytes(block, "big"))
        return _xor(state.to_bytes(16, "big"), self.aes.block(self.nonce + struct.pack(">I", 1)))

    def times_subkey(self, value: int) -> int:
        product = 0
        for turns, power in enumerate(self.powers):
            if value >> (127 - turns) & 1:
                product ^= power
        return product

    def encrypt(self, plaintext: bytes, associated: bytes) -> bytes:
        ciphertext = self.keystream(plaintext)
        return ciphertext + self.tag(ciphertext, associated)

    def decrypt(self, sealed: bytes, associated: bytes) -> bytes:
        ciphertext, tag = sealed[:-16], sealed[-16:]
        assert self.tag(ciphertext, associated) == tag, "the tag differs"
        return self.keystream(ciphertext)


def _blocks(data: bytes) -> list[bytes]:
    return [data[n : n + 16].ljust(16, b"\0") for n in range(0, len(data), 16)]


class Derived(NamedTuple):
    partition_key: bytes
    key: bytes
    nonce: bytes


def owner_of(level: int, owner: int | bytes) -> bytes:
    """Return the bytes of an owner: u16 number at level 1, UUID at level 2; 0 is the system itself."""
    size = {1: 2, 2: 16}[level]
    found = owner if isinstance(owner, bytes) else owner.to_bytes(size, "big")
    assert len(found) == size
    return found


def derive(level: int, root_key: bytes, system_id: bytes, owner: int | bytes, salt: bytes) -> Derived:
    info = b"swpks partition key %d" % level + owner_of(level, owner)
    partition_key = hkdf_sha256(root_key, system_id, info, 32)
    if level == 1:
        material = hkdf_sha256(partition_key, salt, b"swpks sealing 1", 44)
    else:
        material = hkdf_expand(partition_key, b"swpks sealing 2" + salt, 44)
    return Derived(partition_key, material[:32], material[32:])


Identity = tuple[bytes, bytes]
"""System id and root key."""


def seal(
    level: int,
    identity: Identity,
    kind: int,
    owner: int | bytes,
    generation: int,
    salt: bytes,
    plaintext: bytes,
) -> bytes:
    system_id, root_key = identity
    header = struct.pack(">4sBBH32sQI", b"SPKS", level, kind, 0, salt, generation, len(plaintext) + 16)
    derived = derive(level, root_key, system_id, owner, salt)
    associated = header + system_id + owner_of(level, owner)
    return header + Gcm(derived.key, derived.nonce).encrypt(plaintext, associated)


def open_blob(
    level: int, identity: Identity, kind: int, owner: int | bytes, blob: bytes
) -> tuple[int, bytes]:
    """Return the generation and the plaintext of a blob. Any deviation raises AssertionError."""
    system_id, root_key = identity
    magic, found_level, found, reserved, salt, generation, length = struct.unpack_from(">4sBBH32sQI", blob)
    assert (magic, found_level, found, reserved, length) == (b"SPKS", level, kind, 0, len(blob) - 52)
    derived = derive(level, root_key, system_id, owner, salt)
    associated = blob[:52] + system_id + owner_of(level, owner)
    return generation, Gcm(derived.key, derived.nonce).decrypt(blob[52:], associated)
