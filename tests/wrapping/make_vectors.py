"""Writes the golden wrapped objects of format level 1: `python -m tests.wrapping.make_vectors FOLDER`.

It uses only the second implementation, so the package is tested against bytes that it did not make. A golden
file is never made again.
"""

import hashlib
import json
import sys
from pathlib import Path

from tests.sealing.second import hkdf_sha256
from tests.wrapping import second

CASES = {
    "least": (second.LEAST_FLAGS, 1),
    "trusted-key": (second.LEAST_FLAGS, 32),
    "audit": (second.LEAST_FLAGS | 0x4000_0000_0000_0000, 128),
    "enforce": (second.LEAST_FLAGS | 0x2000_0000_0000_0000, 4896),
}
"""The wrap flags and the length of the wrapped data, by name."""


def fixed(what: str, length: int) -> bytes:
    """Return bytes that look random, and are the same in every run."""
    return hashlib.shake_256(f"swpks wrapped {what}".encode()).digest(length)


def vector(name: str) -> dict[str, object]:
    """Return one golden object with all its inputs; byte strings are in hex."""
    flags, length = CASES[name]
    key, salt, data = fixed("key", 32), fixed(name, 32), fixed(f"{name} data", length)
    material = hkdf_sha256(key, salt, b"swpks wrapping 1", 44)
    values = {
        "wrapping_key": key,
        "key_id": second.key_id(key),
        "salt": salt,
        "key": material[:32],
        "nonce": material[32:],
        "data": data,
        "wrapped": second.wrap(key, data, flags, salt),
    }
    return {"level": 1, "flags": f"0x{flags:016X}"} | {name: value.hex() for name, value in values.items()}


def main(folder: Path) -> None:
    """Write the file of every case that has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        with (folder / f"{name}.json").open("x", encoding="utf-8") as out:
            out.write(json.dumps(vector(name), indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
