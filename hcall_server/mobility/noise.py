"""The handshake and the ciphers of the mobility channel: Noise_NNpsk0_25519_AESGCM_SHA256.  Pure.

    opener, answerer = Handshake(True, token, prologue, key), Handshake(False, token, prologue, other)
    answerer.read_first(opener.write_first())
    opener.read_second(answerer.write_second())
    ciphers = opener.split()

Both ends prove that they hold the token, and each connection has new keys.  The rules are sections 5, 7.4 and
9 of the Noise specification, revision 34.  A message that does not open raises NotProven.  A handshake ends
then; a cipher can still open the right message.
"""

# Why Noise, and why our own lines of it
#
# The pattern NNpsk0 fits: no static keys, and one secret that both ends have from the console.  It has a
# name, a proof and test vectors.  Python's `ssl` has no TLS with a shared secret before 3.13.
#
# The package `noiseprotocol` has had no release since 2018, and `cryptography` has every primitive.  So the
# pattern is written here, in its two fixed messages.  The tests compare it with that package in both roles.

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NAME = b"Noise_NNpsk0_25519_AESGCM_SHA256"
KEY_SIZE = 32
TAG_SIZE = 16
MAX_MESSAGE = 65535
"""Most bytes of a Noise message, so of a frame of the channel."""
MAX_TEXT = MAX_MESSAGE - TAG_SIZE
"""Most bytes of plaintext in a transport message: 65,519."""
HANDSHAKE_SIZE = KEY_SIZE + TAG_SIZE
"""Bytes of each of the two messages of the handshake, whose payloads are empty."""
LAST_NONCE = 2**64 - 1
"""Reserved by the specification; no message has it."""


class NotProven(Exception):
    """A message does not open: another token, another prologue, or a message out of its order."""


class Cipher:
    """One direction of the channel: AES-256-GCM whose nonce counts the messages."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._next = 0

    def __repr__(self) -> str:
        return f"Cipher({self._next} messages)"

    def encrypt(self, text: bytes, bound: bytes = b"") -> bytes:
        """Return the next message; `bound` is authenticated with it."""
        return self._aead.encrypt(self._take(), text, bound)

    def decrypt(self, message: bytes, bound: bytes = b"") -> bytes:
        """Return the text of `message`; NotProven unless it is the next message of the peer, unchanged."""
        try:
            # The count of messages grows only after a message that opens.  So a forged message does not
            # change the nonce of the next genuine one.
            text = self._aead.decrypt(self._nonce(), message, bound)
        except InvalidTag:
            raise NotProven from None
        self._next += 1
        return text

    def _take(self) -> bytes:
        nonce = self._nonce()
        self._next += 1
        return nonce

    def _nonce(self) -> bytes:
        if self._next >= LAST_NONCE:
            raise OverflowError("the nonces of this key are used up")
        return bytes(4) + self._next.to_bytes(8, "big")


class Ciphers(NamedTuple):
    """The ciphers of one end of a channel: one for each direction."""

    send: Cipher
    receive: Cipher


class Handshake:
    """One end of a handshake: the opener writes the first message, and the answerer the second.

    `token` is the pre-shared key; the `prologue` of both ends has to be the same.  `ephemeral` are 32 random
    bytes, used once.
    """

    def __init__(self, opens: bool, token: bytes, prologue: bytes, ephemeral: bytes) -> None:
        if len(token) != KEY_SIZE:
            raise ValueError(f"a token has {KEY_SIZE} bytes")
        self._opens = opens
        self._own = X25519PrivateKey.from_private_bytes(ephemeral)
        self._peer = b""
        # the name has the length of a hash, so it is not hashed (section 5.2)
        self._chain = self._hash = NAME
        self._cipher = Cipher(bytes(KEY_SIZE))  # never used: no message is sent before the token is mixed in
        self._mix_hash(prologue)
        self._chain, both, key = _derived(self._chain, token, 3)
        self._mix_hash(both)
        self._cipher = Cipher(key)

    def __repr__(self) -> str:
        return f"Handshake({'opens' if self._opens else 'answers'})"

    @property
    def hash(self) -> bytes:
        """The hash of all that was exchanged: the same at both ends, and no secret."""
        return self._hash

    def write_first(self) -> bytes:
        """Return the first message: `psk, e`."""
        return self._with_ephemeral() + self._seal()

    def read_first(self, message: bytes) -> None:
        """Read the first message; NotProven unless its sender has the token and the prologue."""
        self._take_ephemeral(message)
        self._open(message[KEY_SIZE:])

    def write_second(self) -> bytes:
        """Return the second message: `e, ee`."""
        public = self._with_ephemeral()
        self._agree()
        return public + self._seal()

    def read_second(self, message: bytes) -> None:
        """Read the second message; NotProven unless its sender has the token and the prologue."""
        self._take_ephemeral(message)
        self._agree()
        self._open(message[KEY_SIZE:])

    def split(self) -> Ciphers:
        """Return the ciphers of the channel, after the second message."""
        # Each direction has a key of its own.  Both ends count their nonces from 0, so a common key would
        # encrypt two messages under the same nonce.
        first, second = _derived(self._chain, b"", 2)
        mine, theirs = (first, second) if self._opens else (second, first)
        return Ciphers(Cipher(mine), Cipher(theirs))

    def _with_ephemeral(self) -> bytes:
        public = self._own.public_key().public_bytes_raw()
        self._mix_public(public)
        return public

    def _take_ephemeral(self, message: bytes) -> None:
        if len(message) != HANDSHAKE_SIZE:
            raise NotProven
        self._peer = message[:KEY_SIZE]
        self._mix_public(self._peer)

    def _mix_public(self, public: bytes) -> None:
        """Mix an ephemeral key in; with a pre-shared key it goes into the chain as well (section 9.2)."""
        self._mix_hash(public)
        self._mix_key(public)

    def _agree(self) -> None:
        try:
            shared = self._own.exchange(X25519PublicKey.from_public_bytes(self._peer))
        except ValueError:  # a key of low order, whose shared secret would be zeros
            raise NotProven from None
        self._mix_key(shared)

    def _mix_key(self, material: bytes) -> None:
        self._chain, key = _derived(self._chain, material, 2)
        self._cipher = Cipher(key)

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _seal(self) -> bytes:
        # The payload is empty.  Its tag authenticates all that was exchanged so far, and so proves the
        # token.
        tag = self._cipher.encrypt(b"", self._hash)
        self._mix_hash(tag)
        return tag

    def _open(self, tag: bytes) -> None:
        self._cipher.decrypt(tag, self._hash)
        self._mix_hash(tag)


def _derived(chain: bytes, material: bytes, count: int) -> list[bytes]:
    """Return `count` outputs of HKDF-SHA256 (section 4.3)."""
    extracted = hmac.digest(chain, material, "sha256")
    outputs = [b""]
    for number in range(1, count + 1):
        outputs.append(hmac.digest(extracted, outputs[-1] + bytes([number]), "sha256"))
    return outputs[1:]
