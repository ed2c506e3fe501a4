"""Proof of possession of a partition's access key (spec/protocol.md#proof).

Both ends prove that they hold the key, and neither sends it. Each makes an HMAC-SHA256 over both nonces and
the partition id. The two messages begin with different texts, so one proof can't be replayed as the other.
"""

from __future__ import annotations

import hashlib
import hmac

# The two texts differ: a peer that sends the client's proof back must not pass as the server.
_CLIENT_TEXT = b"swpks open 1"
_SERVER_TEXT = b"swpks opened 1"

NO_PROOF = bytes(32)
"""The content of the proof field if no proof is given."""


def _proof(text: bytes, key: bytes, server_nonce: bytes, client_nonce: bytes, partition: int) -> bytes:
    # All parts but the text have fixed lengths, so no two inputs make the same message.
    message = text + server_nonce + client_nonce + partition.to_bytes(2, "big")
    return hmac.digest(key, message, hashlib.sha256)


def client_proof(key: bytes, server_nonce: bytes, client_nonce: bytes, partition: int) -> bytes:
    """Return the 32 bytes that a client puts into OPEN."""
    return _proof(_CLIENT_TEXT, key, server_nonce, client_nonce, partition)


def server_proof(key: bytes, server_nonce: bytes, client_nonce: bytes, partition: int) -> bytes:
    """Return the 32 bytes that the server puts into OPENED."""
    return _proof(_SERVER_TEXT, key, server_nonce, client_nonce, partition)


def proofs_equal(given: bytes, expected: bytes) -> bool:
    """Compare two proofs in constant time."""
    return hmac.compare_digest(given, expected)
