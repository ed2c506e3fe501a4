"""The contents of the records, for the second implementation: values to bytes and back, with `struct`.

Written only from spec/sealed.md.  Values are those of the golden files: byte strings in hex, names as text.
"""

import hmac
import struct
from collections.abc import Mapping
from typing import Any

from tests.sealing.second import hkdf_expand

Values = dict[str, Any]
SWITCHES = ("signed_updates", "without_verification", "dynamic_keys")
"""The switches of a profile, the lowest bit first."""
LATER_SWITCHES = {"not_restartable": 8}
"""Bits of later releases by meaning. A profile without such a bit does not name it."""


def image(objects: list[Values]) -> bytes:
    """Return a partition image, the same in both sealed levels."""
    return struct.pack(">HHI", 1, 0, len(objects)) + b"".join(map(_object, objects))


def objects_of(plaintext: bytes) -> list[Values]:
    """Return the objects of a partition image."""
    level, reserved, count = struct.unpack_from(">HHI", plaintext)
    assert (level, reserved) == (1, 0)
    objects, rest = [], plaintext[8:]
    for _ in range(count):
        consumer, zero, label_length, policy, data_length = struct.unpack_from(">BBHII", rest)
        assert zero == 0
        label, data = rest[12 : 12 + label_length], rest[12 + label_length :][:data_length]
        objects.append({"consumer": consumer, "label": label.hex(), "policy": policy, "data": data.hex()})
        rest = rest[12 + label_length + data_length :]
    assert rest == b""
    return objects


def _object(found: Values) -> bytes:
    label, data = bytes.fromhex(found["label"]), bytes.fromhex(found["data"])
    return struct.pack(">BBHII", found["consumer"], 0, len(label), found["policy"], len(data)) + label + data


def old_profile(p: Values) -> bytes:
    """Return a profile of sealed level 1.

    With switches it is of profile level 2, without them of profile level 1.
    """
    start = (2, _bits(p)) if SWITCHES[0] in p else (1, 0)
    numbers = (p["number"], p["secure_boot"], p["auto_start"], p["kbytes"], p["ipl_count"])
    name = p["name"].encode()
    return struct.pack(">HHHBBIIQB", *start, *numbers, p["image_generation"], len(name)) + name


def old_system(system: Values) -> bytes:
    """Return a system record of sealed level 1."""
    firmware = system["firmware"].encode()
    return struct.pack(">HHIB", 1, 0, system["total_kbytes"], len(firmware)) + firmware


def partition(p: Values, objects: list[Values] | None) -> bytes:
    """Return a partition record: profile, later fields, image.

    Restores, epoch and peer are later fields, if there are any. `objects` is None if the keystore is off.
    """
    name = p["name"].encode()
    header = struct.pack(
        ">HHHBBII32sBB",
        *(1, _bits(p), p["number"], p["secure_boot"], p["auto_start"], p["kbytes"], p["ipl_count"]),
        *(bytes.fromhex(p["access_key"]), p["custody"], len(name)),
    )
    fields = [
        struct.pack(">HHI", 1, 4, p["restores"]) if p.get("restores") else b"",
        struct.pack(">HHQ", 2, 8, p["epoch"]) if p.get("epoch") else b"",
        struct.pack(">HH16s", 3, 16, bytes.fromhex(p["peer"])) if p.get("peer") else b"",
    ]
    later = bytes([sum(map(bool, fields))]) + b"".join(fields)
    return header + name + later + (b"" if objects is None else image(objects))


def _later_of(rest: bytes) -> tuple[Values, bytes]:
    """Return the later fields of a partition record, and the bytes after them."""
    count, rest, later, tags = rest[0], rest[1:], Values(), []
    for _ in range(count):
        tag, size = struct.unpack_from(">HH", rest)
        value, rest = rest[4 : 4 + size], rest[4 + size :]
        assert size == {1: 4, 2: 8, 3: 16}[tag], "a later field is unknown"
        tags.append(tag)
        if tag == 3:
            later["peer"] = value.hex()
        else:
            later["restores" if tag == 1 else "epoch"] = number = int.from_bytes(value, "big")
            assert number > 0
    assert tags == sorted(set(tags))
    return later, rest


def partition_of(plaintext: bytes) -> tuple[Values, list[Values] | None]:
    """Return the profile and the objects of a partition record."""
    header = struct.unpack_from(">HHHBBII32sBB", plaintext)
    level, bits, number, secure_boot, auto_start, kbytes, ipl_count, access_key, custody, length = header
    name, rest = plaintext[50 : 50 + length], plaintext[50 + length :]
    assert level == 1
    assert bits < 16
    later, rest = _later_of(rest)
    profile = {
        "number": number, "name": name.decode(), "kbytes": kbytes, "ipl_count": ipl_count,
        "secure_boot": secure_boot, "auto_start": bool(auto_start), "access_key": access_key.hex(),
        "custody": custody, **{switch: bool(bits >> n & 1) for n, switch in enumerate(SWITCHES)},
        **later, **{name: True for name, bit in LATER_SWITCHES.items() if bits & bit},
    }  # fmt: skip
    return profile, objects_of(rest) if rest else None


def system(found: Values) -> bytes:
    """Return a system record: firmware level, total, roster, later fields.

    The system's name, and the mark that partitions have moved, are later fields. They are left out if
    empty.
    """
    firmware = found["firmware"].encode()
    start = struct.pack(">HHIB", 2, 0, found["total_kbytes"], len(firmware)) + firmware
    roster = struct.pack(">H", len(found["roster"])) + b"".join(map(_listed, found["roster"]))
    fields = (1, found.get("name", "").encode()), (2, b"\1" if found.get("moved") else b"")
    later = [struct.pack(">HH", tag, len(value)) + value for tag, value in fields if value]
    return start + roster + bytes([len(later)]) + b"".join(later)


def system_of(plaintext: bytes) -> Values:
    """Return the contents of a system record."""
    level, reserved, total, length = struct.unpack_from(">HHIB", plaintext)
    assert (level, reserved) == (2, 0)
    firmware, at = plaintext[9 : 9 + length], 11 + length
    (count,) = struct.unpack_from(">H", plaintext, at - 2)
    roster = []
    for _ in range(count):
        uuid, number, length = struct.unpack_from(">16sHB", plaintext, at)
        name = plaintext[at + 19 : at + 19 + length].decode()
        roster.append({"uuid": uuid.hex(), "number": number, "name": name})
        at += 19 + length
    found = {"firmware": firmware.decode(), "total_kbytes": total, "roster": roster}
    fields, at, last = plaintext[at], at + 1, 0
    for _ in range(fields):
        tag, length = struct.unpack_from(">HH", plaintext, at)
        value, at = plaintext[at + 4 : at + 4 + length], at + 4 + length
        assert last < tag < 3, "a later field is unknown"
        assert value == b"\1" or tag == 1
        found |= {"name": value.decode()} if tag == 1 else {"moved": True}
        last = tag
    assert at == len(plaintext)
    return found


def _listed(each: Values) -> bytes:
    name = each["name"].encode()
    return struct.pack(">16sHB", bytes.fromhex(each["uuid"]), each["number"], len(name)) + name


def _bits(profile: Values) -> int:
    later = sum(bit for name, bit in LATER_SWITCHES.items() if profile.get(name))
    return sum(1 << bit for bit, name in enumerate(SWITCHES) if profile[name]) + later


def entries_of(blobs: Mapping[bytes, bytes]) -> bytes:
    """Return the list in a commit record: id, generation and tag of each record, in the order of the ids."""
    return b"".join(record + blob[40:48] + blob[-16:] for record, blob in sorted(blobs.items()))


def commit_key(root_key: bytes) -> bytes:
    return hkdf_expand(root_key, b"swpks commit 1", 32)


def mark_key(root_key: bytes) -> bytes:
    return hkdf_expand(root_key, b"swpks mark 1", 32)


def commit_record(root_key: bytes, number: int, entries: bytes) -> bytes:
    """Return a commit record: header, MAC, list."""
    counted = struct.pack(">Q", number)
    mac = hmac.digest(commit_key(root_key), counted + entries, "sha256")
    return struct.pack(">4sB3x", b"SPKC", 1) + counted + mac + entries


def mark_slot(root_key: bytes, number: int) -> bytes:
    """Return one slot of the high-water mark."""
    counted = struct.pack(">Q", number)
    return struct.pack(">4sB3x", b"SPKM", 2) + counted + hmac.digest(mark_key(root_key), counted, "sha256")
