"""Snapshots for the second implementation, written only from spec/snapshots.md.

`python -m tests.sealing.second_snapshots spec/vectors/snapshots/level-1` writes the golden ones.  A golden
file is never made again, so existing files stay unchanged.
"""

import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.sealing.second import Gcm, hkdf_sha256
from tests.sealing.second_records import Values

START = ">4sBBH16s8sQHBBB3s32s"
ROOT_KEY, SYSTEM_ID = bytes(range(32)), bytes(range(16))
WORDS = "correct horse battery"


def secret(kind: int, words: str, salt: bytes) -> bytes:
    """Return the secret of a snapshot of this kind."""
    if kind == 2:
        options = {"n": 2**15, "r": 8, "p": 1, "maxmem": 1 << 26, "dklen": 32}
        return hashlib.scrypt(words.encode(), salt=salt, **options)
    return HKDFExpand(SHA256(), 32, b"swpks snapshot 1").derive(ROOT_KEY)


def header(kind: int, words: str, salt: bytes, count: int, sealed_length: int) -> bytes:
    """Return the clear header of a golden snapshot."""
    key_id = bytes(8)
    if kind == 1:
        key_id = hmac.digest(secret(1, words, salt), b"swpks snapshot id 1", "sha256")[:8]
    numbers = (15, 8, 1) if kind == 2 else (0, 0, 0)
    start = struct.pack(START, b"SPKN", 1, kind, 0, SYSTEM_ID, key_id, 77, count, *numbers, bytes(3), salt)
    return start + b"\x04base" + b"\x06FW1110" + struct.pack(">I", sealed_length)


def gcm(kind: int, words: str, salt: bytes) -> Gcm:
    """Return the cipher of a snapshot."""
    material = hkdf_sha256(secret(kind, words, salt), salt, b"swpks snapshot sealing 1", 44)
    return Gcm(material[:32], material[32:])


def plaintext_of(blob: bytes, words: str) -> bytes:
    """Return the plaintext of a golden snapshot."""
    _, _, kind, *_, salt = struct.unpack_from(START, blob)
    begin = struct.calcsize(START) + 5 + 7 + 4
    return gcm(kind, words, salt).decrypt(blob[begin:], blob[:begin])


def made(kind: int, partition: bytes) -> bytes:
    """Return a golden snapshot of one partition, whose record has this plaintext."""
    salt = hashlib.sha256(f"golden snapshot {kind}".encode()).digest()
    plaintext = struct.pack(">HHI", 1, 0, 4096) + b"\x04sys1" + struct.pack(">H", 1)
    plaintext += bytes([0x44] * 16) + struct.pack(">QI", 99, len(partition)) + partition + b"\0"
    head = header(kind, WORDS, salt, 1, len(plaintext) + 16)
    return head + gcm(kind, WORDS, salt).encrypt(plaintext, head)


def main(folder: Path) -> None:
    """Write the golden snapshots that do not exist yet."""
    golden = json.loads((folder.parents[1] / "sealed/level-2/partition-every-consumer.json").read_text())
    for kind, name in ((1, "own"), (2, "portable")):
        partition = bytes.fromhex(golden["plaintext"])
        if kind == 2:
            # the access key of a partition record: 32 bytes after 16 others
            partition = partition[:16] + bytes(32) + partition[48:]
        values: Values = {"root_key": ROOT_KEY.hex(), "system_id": SYSTEM_ID.hex(), "passphrase": WORDS}
        values |= {"partition": partition.hex(), "blob": made(kind, partition).hex()}
        path = folder / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
