"""A guest that has a wrapping key, for the tests of keys and of wrapping."""

from __future__ import annotations

from hcall_server.keystore.store import Keystore
from tests.guest import SYSTEM, WRAPPING, Answer, Guest, make_partition
from tests.wrapping.second import LEAST_FLAGS

PASSWORD = b"the system's password"
LABEL = b"PLPKSWR\0\0\2\x10\0\0\0\0\0default-wrapping-key"
SECRET = b"a trusted key of thirty-two byte"
AUDIT, ENFORCE = 0x4000_0000, 0x2000_0000
REVOKED = WRAPPING | 2


def guest(mode: int = 0, *, level: str = "NEXT", kbytes: int = 64) -> Guest:
    """Return a guest whose system has its password and a wrapping key."""
    made = Guest(make_partition(level, kbytes, mode=mode))
    assert made.set_password(SYSTEM, PASSWORD) == Answer(0)
    assert made.gen_key(SYSTEM, LABEL, password=PASSWORD) == Answer(0)
    return made


def store(user: Guest) -> Keystore:
    """Return the guest's keystore."""
    keystore = user.partition.keystore
    assert keystore is not None
    return keystore


def wrapped(user: Guest, flags: int = LEAST_FLAGS, data: bytes = SECRET) -> bytes:
    """Return the object of a successful WRAP."""
    status, r4, size, blob = user.wrap(SYSTEM, LABEL, data, flags=flags, password=PASSWORD)
    assert (status, r4, size) == (0, 0, len(data) + 1024)
    return blob


def unwrap(user: Guest, blob: bytes) -> Answer:
    """Call UNWRAP with the right password."""
    return user.unwrap(SYSTEM, blob, password=PASSWORD)


def again(user: Guest, mode: int = 0) -> None:
    """Begin the next IPL and set the same password again."""
    user.ipl(mode)
    assert user.set_password(SYSTEM, PASSWORD) == Answer(0)
