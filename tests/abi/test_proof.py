"""Each side proves that it has the access key. The test computes the same HMAC-SHA256 itself."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.proof import NO_PROOF, client_proof, proofs_equal, server_proof
from tests.abi.strategies import nonces, u16

keys = st.binary(min_size=1, max_size=80)


def by_hand(key: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA256, computed by the formula of RFC 2104."""
    padded = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


@given(keys, nonces, nonces, u16)
def test_both_proofs(key: bytes, server: bytes, client: bytes, partition: int) -> None:
    """A proof covers a text, the server's nonce, the client's nonce and the partition id.

    The proof of the client and that of the server have different texts.
    """
    rest = server + client + partition.to_bytes(2, "big")
    assert client_proof(key, server, client, partition) == by_hand(key, b"swpks open 1" + rest)
    assert server_proof(key, server, client, partition) == by_hand(key, b"swpks opened 1" + rest)
    assert not proofs_equal(client_proof(key, server, client, partition), NO_PROOF)
    assert proofs_equal(bytes(32), NO_PROOF)


@given(keys, nonces, nonces, u16, st.integers(0, 8 * 66 - 1))
def test_every_field_counts(key: bytes, server: bytes, client: bytes, partition: int, bit: int) -> None:
    """If one bit in a nonce or in the partition id is flipped, the proof is another."""
    fields = bytearray(server + client + partition.to_bytes(2, "big"))
    fields[bit // 8] ^= 1 << bit % 8
    other = client_proof(key, bytes(fields[:32]), bytes(fields[32:64]), int.from_bytes(fields[64:], "big"))
    assert not proofs_equal(other, client_proof(key, server, client, partition))
