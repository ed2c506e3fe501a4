"""The second implementation of the channel's Noise pattern, made with the package `noiseprotocol`."""

import warnings

from noise.connection import Keypair, NoiseConnection

NAME = b"Noise_NNpsk0_25519_AESGCM_SHA256"


def end(opens: bool, token: bytes, prologue: bytes, ephemeral: bytes | None = None) -> NoiseConnection:
    """Return one end of a connection. Without `ephemeral`, the package makes a random key."""
    made = NoiseConnection.from_name(NAME)
    made.set_prologue(prologue)
    made.set_psks(psk=token)
    made.set_as_initiator() if opens else made.set_as_responder()
    if ephemeral:
        made.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    # The library warns about a fixed ephemeral key. Only the golden conversations use one.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of ephemeral keypairs is already set")
        made.start_handshake()
    return made


def write(connection: NoiseConnection) -> bytes:
    """Return the next message of the handshake, without a payload."""
    return bytes(connection.write_message(b""))


def read(connection: NoiseConnection, message: bytes) -> None:
    """Process a message of the handshake."""
    assert bytes(connection.read_message(message)) == b""


def encrypt(connection: NoiseConnection, text: bytes) -> bytes:
    """Return the next transport message."""
    return bytes(connection.encrypt(text))


def decrypt(connection: NoiseConnection, message: bytes) -> bytes:
    """Return the text of the next transport message."""
    return bytes(connection.decrypt(message))


def hash_of(connection: NoiseConnection) -> bytes:
    """Return the hash of the handshake."""
    return bytes(connection.get_handshake_hash())
