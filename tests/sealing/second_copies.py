"""Trusted system key, console copies and wrapped root keys, for the second implementation.

Written only from spec/sealed.md, as `second_records` is.
"""

import hmac
import struct
from typing import NamedTuple

from tests.sealing.second import Gcm, hkdf_sha256
from tests.sealing.second_records import Values

STARTS = {1: ">4sBBH8s16s16sQQI32sB", 2: ">4sBBH8s16s16sQQII32sB"}
"""A copy's header up to the length of the firmware name; level 2 also has the count of restores."""


def trusted_key(key: bytes) -> bytes:
    """Return the plaintext of the record of a trusted system key, without later fields."""
    return struct.pack(">HH", 1, 0) + key + b"\0"


def trusted_key_of(plaintext: bytes) -> bytes:
    """Return the trusted system key in the plaintext of its record."""
    assert len(plaintext) == 37
    assert (plaintext[:4], plaintext[36:]) == (b"\0\1\0\0", b"\0")
    return plaintext[4:36]


def console(values: Values) -> bytes:
    """Return the plaintext of a console record, without later fields."""
    name = values["name"].encode()
    kept = b"".join(
        struct.pack(">16sIQQ8s", *map(_raw, (each[field] for field in KEPT))) for each in values["kept"]
    )
    forgotten = b"".join(bytes.fromhex(each) for each in values["forgotten"])
    counts = (struct.pack(">I", len(values[field])) for field in ("kept", "forgotten"))
    start = struct.pack(">HH16sH", 1, 0, bytes.fromhex(values["id"]), len(name)) + name
    return start + next(counts) + kept + next(counts) + forgotten + b"\0"


KEPT = ("uuid", "restores", "generation", "time", "profile")
"""The fields of a kept copy, in their order."""


def _raw(value: str | int) -> bytes | int:
    return bytes.fromhex(value) if isinstance(value, str) else value


def console_of(plaintext: bytes) -> Values:
    """Return the console in the plaintext of its record."""
    level, reserved, identity, size = struct.unpack_from(">HH16sH", plaintext)
    assert (level, reserved, plaintext[-1]) == (1, 0, 0)
    at = 22 + size
    name, kept, forgotten = plaintext[22:at].decode(), [], []
    (count,) = struct.unpack_from(">I", plaintext, at)
    for place in range(at + 4, at + 4 + 44 * count, 44):
        found = struct.unpack_from(">16sIQQ8s", plaintext, place)
        texts = (each.hex() if isinstance(each, bytes) else each for each in found)
        kept.append(dict(zip(KEPT, texts, strict=True)))
    at += 4 + 44 * count
    (count,) = struct.unpack_from(">I", plaintext, at)
    forgotten = [plaintext[place : place + 16].hex() for place in range(at + 4, at + 4 + 16 * count, 16)]
    assert len(plaintext) == at + 4 + 16 * count + 1
    return {"id": identity.hex(), "name": name, "kept": kept, "forgotten": forgotten}


def custody(departed: list[Values]) -> bytes:
    """Return the plaintext of a custody record, without later fields."""
    body = b""
    for each in departed:
        name, ids = each["name"].encode(), (bytes.fromhex(each["uuid"]), bytes.fromhex(each["peer"]))
        numbers = each["custody"], each["reserves_name"], each["epoch"]
        body += struct.pack(">16sBBQ16sB", ids[0], *numbers, ids[1], len(name)) + name
    return struct.pack(">HHI", 1, 0, len(departed)) + body + b"\0"


def custody_of(plaintext: bytes) -> list[Values]:
    """Return the partitions in the plaintext of a custody record."""
    level, reserved, count = struct.unpack_from(">HHI", plaintext)
    assert (level, reserved, plaintext[-1]) == (1, 0, 0)
    departed, at = [], 8
    for _ in range(count):
        uuid, state, reserves, epoch, peer, size = struct.unpack_from(">16sBBQ16sB", plaintext, at)
        name, at = plaintext[at + 43 : at + 43 + size].decode(), at + 43 + size
        departed.append({"uuid": uuid.hex(), "name": name, "custody": state, "epoch": epoch,
                         "peer": peer.hex(), "reserves_name": bool(reserves)})  # fmt: skip
    assert len(plaintext) == at + 1
    return departed


def id_of(key: bytes) -> bytes:
    """Return the id of a trusted system key."""
    return hmac.digest(key, b"swpks tsk id 1", "sha256")[:8]


class CopyKeys(NamedTuple):
    """The key and the nonce of one console copy."""

    key: bytes
    nonce: bytes


def copy_keys(tsk: bytes, salt: bytes, uuid: bytes) -> CopyKeys:
    material = hkdf_sha256(tsk, salt, b"swpks console copy 1" + uuid, 44)
    return CopyKeys(material[:32], material[32:])


def copy_header(tsk: bytes, facts: Values, salt: bytes, sealed_length: int) -> bytes:
    """Return the clear header of a copy.

    If the facts have a count of restores, the header is of level 2, else of level 1.
    """
    firmware = facts["firmware"].encode()
    ids = id_of(tsk), bytes.fromhex(facts["system_id"]), bytes.fromhex(facts["uuid"])
    numbers = [facts["generation"], facts["time"], facts["kbytes"]]
    level = 2 if "restores" in facts else 1
    numbers += [facts["restores"]] if level == 2 else []
    start = struct.pack(STARTS[level], b"SPKB", level, 4, 0, *ids, *numbers, salt, len(firmware))
    return start + firmware + struct.pack(">I", sealed_length)


def copy(tsk: bytes, facts: Values, salt: bytes, plaintext: bytes) -> bytes:
    """Return a console copy of a partition record."""
    header = copy_header(tsk, facts, salt, len(plaintext) + 16)
    keys = copy_keys(tsk, salt, bytes.fromhex(facts["uuid"]))
    return header + Gcm(keys.key, keys.nonce).encrypt(plaintext, header)


def copy_of(tsk: bytes, blob: bytes) -> tuple[Values, bytes]:
    """Return the clear facts and the plaintext of a copy. Any deviation raises AssertionError."""
    level, begin = blob[4], struct.calcsize(STARTS[blob[4]])
    magic, _, kind, reserved, tsk_id, system_id, uuid, *rest = struct.unpack_from(STARTS[level], blob)
    generation, time, kbytes, *restores, salt, length = rest
    assert (magic, kind, reserved, tsk_id) == (b"SPKB", 4, 0, id_of(tsk))
    end = begin + length + 4
    assert struct.unpack_from(">I", blob, end - 4) == (len(blob) - end,)
    facts = {
        "system_id": system_id.hex(), "uuid": uuid.hex(), "generation": generation, "time": time,
        "kbytes": kbytes, "firmware": blob[begin : begin + length].decode(),
        **({"restores": restores[0]} if level == 2 else {}),
    }  # fmt: skip
    return facts, Gcm(*copy_keys(tsk, salt, uuid)).decrypt(blob[end:], blob[:end])


def wrapped(kind: int, blob: bytes) -> bytes:
    """Return the record of a wrapped root key."""
    return struct.pack(">4sBBHI", b"SPKW", 1, kind, 0, len(blob)) + blob


def wrapped_of(record: bytes) -> tuple[int, bytes]:
    """Return kind and blob in the record of a wrapped root key."""
    magic, level, kind, reserved, length = struct.unpack_from(">4sBBHI", record)
    assert (magic, level, reserved, length) == (b"SPKW", 1, 0, len(record) - 12)
    return kind, record[12:]
