"""Writes the golden sealed records of format level 1: `python -m tests.sealing.make_vectors FOLDER`.

It uses the second implementation alone, so the package is tested against bytes that it did not make.
A golden file is never made anew: it is what an old release left behind.  For a new level of the
envelope, add a folder beside `spec/vectors/sealed/level-1`; for a new level of a plaintext, a case
below, and keep its file alone.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

from tests.sealing import second

LEVEL = 1


def fixed(what: str, length: int) -> bytes:
    """Bytes that look random and are the same every time."""
    return hashlib.shake_256(f"swpks golden {what}".encode()).digest(length)


def stored(consumer: int, label: bytes, policy: int, data: bytes) -> dict[str, Any]:
    return {"consumer": consumer, "label": label.hex(), "policy": policy, "data": data.hex()}


EVERY_CONSUMER = [
    stored(1, b"secure-boot-state", 0x04000000, b"\x01"),
    stored(2, b"grub-keys", 0x08000000, fixed("public keys", 300)),
    stored(3, b"disk-key", 0x30000000, fixed("disk key", 32)),
    stored(3, bytes(range(256))[:239], 0, b""),
    stored(1, b"disk-key", 0, b"the same label, another consumer"),
]

CASES: dict[str, dict[str, Any]] = {
    "image-empty": {"kind": 1, "partition": 1, "generation": 0, "objects": []},
    "image-one-object": {"kind": 1, "partition": 4, "generation": 1, "objects": EVERY_CONSUMER[2:3]},
    "image-every-consumer": {"kind": 1, "partition": 4, "generation": 77, "objects": EVERY_CONSUMER},
    "image-largest-numbers": {
        "kind": 1, "partition": 0xFFFF, "generation": 2**64 - 1,
        "objects": [stored(3, b"x" * 255, 0xFFFFFFFF, fixed("large", 4000))],
    },
    "profile": {
        "kind": 2, "partition": 4, "generation": 9,
        "profile": {"number": 4, "name": "zwölf-büros", "kbytes": 64, "ipl_count": 12, "secure_boot": 2,
                    "auto_start": True, "image_generation": 77},
    },
    "profile-level-2": {
        "kind": 2, "partition": 7, "generation": 3,
        "profile": {"number": 7, "name": "zwölf-büros", "kbytes": 128, "ipl_count": 13, "secure_boot": 1,
                    "auto_start": False, "image_generation": 78, "signed_updates": True,
                    "without_verification": False, "dynamic_keys": True},
    },
    "system": {"kind": 3, "partition": 0, "generation": 2,
               "system": {"firmware": "FW1110", "total_kbytes": 4096}},
}  # fmt: skip


def plaintext_of(case: dict[str, Any]) -> bytes:
    if "objects" in case:
        return struct.pack(">HHI", 1, 0, len(case["objects"])) + b"".join(map(object_bytes, case["objects"]))
    if "profile" in case:
        p = case["profile"]
        name = p["name"].encode()
        numbers = (p["number"], p["secure_boot"], p["auto_start"], p["kbytes"], p["ipl_count"])
        start = (2, attribute_bits(p)) if "signed_updates" in p else (1, 0)
        return struct.pack(">HHHBBIIQB", *start, *numbers, p["image_generation"], len(name)) + name
    firmware = case["system"]["firmware"].encode()
    return struct.pack(">HHIB", 1, 0, case["system"]["total_kbytes"], len(firmware)) + firmware


def attribute_bits(profile: dict[str, Any]) -> int:
    names = ("signed_updates", "without_verification", "dynamic_keys")
    return sum(1 << bit for bit, name in enumerate(names) if profile[name])


def object_bytes(found: dict[str, Any]) -> bytes:
    label, data = bytes.fromhex(found["label"]), bytes.fromhex(found["data"])
    return struct.pack(">BBHII", found["consumer"], 0, len(label), found["policy"], len(data)) + label + data


def vector(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """One golden record with everything that went into it, byte strings in hex."""
    system_id, root_key, salt = fixed("system id", 16), fixed("root key", 32), fixed(name, 32)
    plaintext = plaintext_of(case)
    derived = second.derive(root_key, system_id, case["partition"], salt)
    blob = second.seal(
        (system_id, root_key), case["kind"], case["partition"], case["generation"], salt, plaintext
    )
    inputs = {"system_id": system_id.hex(), "root_key": root_key.hex(), "salt": salt.hex()}
    steps = {name: value.hex() for name, value in derived._asdict().items()}
    return {
        "envelope_level": LEVEL,
        **case,
        **inputs,
        **steps,
        "plaintext": plaintext.hex(),
        "blob": blob.hex(),
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        text = json.dumps(vector(name, case), indent=2, ensure_ascii=False)
        with (folder / f"{name}.json").open("x", encoding="utf-8") as out:
            out.write(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
