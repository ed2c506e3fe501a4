"""A system of sealed level 1 as earlier releases wrote it. The second implementation makes it."""

import hashlib
import struct

from hcall_server.nvram.names import SYSTEM, old_image_name, old_profile_name
from tests.sealing import second
from tests.writeback.rig import IDENTITY

IMAGE, PROFILE, SYSTEM_RECORD = 1, 2, 3
OWNER = (IDENTITY.system_id, IDENTITY.root_key)


def sealed(kind: int, partition: int, generation: int, plaintext: bytes) -> bytes:
    """Return a blob of level 1. Its salt is derived from its contents."""
    salt = hashlib.sha256(repr((kind, partition, generation, plaintext)).encode()).digest()
    return second.seal(1, OWNER, kind, partition, generation, salt, plaintext)


def profile(number: int, kbytes: int = 8, *, generation: int = 2, ipl_count: int = 5) -> bytes:
    """Return the plaintext of a profile of level 2, with signed updates on and secure boot enforced."""
    name = b"lpar%d" % number
    return struct.pack(">HHHBBIIQB", 2, 1, number, 2, 1, kbytes, ipl_count, generation, len(name)) + name


def image(number: int) -> bytes:
    """Return the plaintext of an image with one object of the operating system."""
    data = b"data of %d" % number
    return struct.pack(">HHI", 1, 0, 1) + struct.pack(">BBHII", 3, 0, 5, 0, len(data)) + b"label" + data


def records(partitions: int = 2) -> dict[str, bytes]:
    """Return the records in such a system's NVRAM; its partitions are lpar1, lpar2, ..."""
    found = {SYSTEM: sealed(SYSTEM_RECORD, 0, 0, struct.pack(">HHI", 1, 0, 16384) + b"\6FW1110")}
    for number in range(1, partitions + 1):
        found[old_profile_name(number)] = sealed(PROFILE, number, 0, profile(number))
        found[old_image_name(number)] = sealed(IMAGE, number, 2, image(number))
    return found
