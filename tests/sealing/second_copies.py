"""Trusted system key, console copies and wrapped root keys, for the second implementation.

Written from spec/sealed.md alone, as `second_records` is.
"""

import hmac
import struct
from typing import NamedTuple

from tests.sealing.second import Gcm, hkdf_sha256
from tests.sealing.second_records import Values

START = ">4sBBH8s16s16sQQI32sB"
"""A copy's header up to the length of the firmware name."""


def trusted_key(key: bytes) -> bytes:
    """The plaintext of the trusted system key's record: no later fields."""
    return struct.pack(">HH", 1, 0) + key + b"\0"


def trusted_key_of(plaintext: bytes) -> bytes:
    """The trusted system key in its record."""
    assert len(plaintext) == 37
    assert (plaintext[:4], plaintext[36:]) == (b"\0\1\0\0", b"\0")
    return plaintext[4:36]


def id_of(key: bytes) -> bytes:
    """The id of a trusted system key."""
    return hmac.digest(key, b"swpks tsk id 1", "sha256")[:8]


class CopyKeys(NamedTuple):
    """Key and nonce of one console copy."""

    key: bytes
    nonce: bytes


def copy_keys(tsk: bytes, salt: bytes, uuid: bytes) -> CopyKeys:
    material = hkdf_sha256(tsk, salt, b"swpks console copy 1" + uuid, 44)
    return CopyKeys(material[:32], material[32:])


def copy_header(tsk: bytes, facts: Values, salt: bytes, sealed_length: int) -> bytes:
    """The clear header of a copy."""
    firmware = facts["firmware"].encode()
    ids = id_of(tsk), bytes.fromhex(facts["system_id"]), bytes.fromhex(facts["uuid"])
    numbers = facts["generation"], facts["time"], facts["kbytes"]
    start = struct.pack(START, b"SPKB", 1, 4, 0, *ids, *numbers, salt, len(firmware))
    return start + firmware + struct.pack(">I", sealed_length)


def copy(tsk: bytes, facts: Values, salt: bytes, plaintext: bytes) -> bytes:
    """A console copy of a partition record."""
    header = copy_header(tsk, facts, salt, len(plaintext) + 16)
    keys = copy_keys(tsk, salt, bytes.fromhex(facts["uuid"]))
    return header + Gcm(keys.key, keys.nonce).encrypt(plaintext, header)


def copy_of(tsk: bytes, blob: bytes) -> tuple[Values, bytes]:
    """The clear facts and the plaintext of a copy; AssertionError when anything is not as it should be."""
    magic, level, kind, reserved, tsk_id, system_id, uuid, *rest = struct.unpack_from(START, blob)
    generation, time, kbytes, salt, length = rest
    assert (magic, level, kind, reserved, tsk_id) == (b"SPKB", 1, 4, 0, id_of(tsk))
    end = 101 + length + 4
    assert struct.unpack_from(">I", blob, end - 4) == (len(blob) - end,)
    facts = {
        "system_id": system_id.hex(), "uuid": uuid.hex(), "generation": generation, "time": time,
        "kbytes": kbytes, "firmware": blob[101 : 101 + length].decode(),
    }  # fmt: skip
    return facts, Gcm(*copy_keys(tsk, salt, uuid)).decrypt(blob[end:], blob[:end])


def wrapped(kind: int, blob: bytes) -> bytes:
    """The record of a wrapped root key."""
    return struct.pack(">4sBBHI", b"SPKW", 1, kind, 0, len(blob)) + blob


def wrapped_of(record: bytes) -> tuple[int, bytes]:
    """Kind and blob of a wrapped root key."""
    magic, level, kind, reserved, length = struct.unpack_from(">4sBBHI", record)
    assert (magic, level, reserved, length) == (b"SPKW", 1, 0, len(record) - 12)
    return kind, record[12:]
