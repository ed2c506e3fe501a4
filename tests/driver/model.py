"""The expected answers of Linux's driver, written without the keystore: a dictionary and a few rules.

Sources: the driver's errnos, spec/policies.md for policies and their order, spec/hcalls for the rest.
"""

import errno
from dataclasses import dataclass, field

AUDIT, ENFORCE, PWSET, WORLD = 0x40000000, 0x20000000, 0x10000000, 0x08000000
IMMUTABLE, TRANSIENT, SIGNED, WRAPPING = 0x04000000, 0x02000000, 0x01000000, 0x00800000
WRITABLE = AUDIT | ENFORCE | PWSET | WORLD | IMMUTABLE | TRANSIENT
HEADER = 16
KEY_NAME = b"default-wrapping-key"
KEY_SIZE = 32
BLOB_HEADER = 1024

OK = 0
NOT_PERMITTED, NOT_FOUND, NO_SPACE = -errno.EPERM, -errno.ENOENT, -errno.ENOMEM
EXISTS, INVALID = -errno.EEXIST, -errno.EINVAL


@dataclass(frozen=True)
class Thing:
    """The content of an object in the model: its data and its policy word."""

    data: bytes
    policy: int


@dataclass(frozen=True)
class Wrapped:
    """What a blob was made from: the key, the driver's flags and the data."""

    key: int
    flags: int
    data: bytes


@dataclass
class Model:
    """A partition as the driver in its operating system sees it.

    `mode` is the secure-boot mode of this IPL. `locked` is True if the driver does not have the password.
    """

    total: int
    base: int
    overhead: int
    mode: int = 0
    locked: bool = False
    things: dict[bytes, Thing] = field(default_factory=dict)
    key: int = 0
    keys_made: int = 0

    @property
    def used(self) -> int:
        """Return the number of bytes that the keystore uses."""
        used = self.base + sum(self._cost(name, thing.data) for name, thing in self.things.items())
        return used + (self._cost(KEY_NAME, bytes(KEY_SIZE)) if self.key else 0)

    def write(self, name: bytes, data: bytes, policy: int) -> int:
        if policy & ~WRITABLE:
            return INVALID
        if self.locked:
            return NOT_PERMITTED
        if name in self.things:
            return EXISTS
        if not self._reachable(policy):
            return NOT_PERMITTED
        if self.used + self._cost(name, data) > self.total:
            return NO_SPACE
        self.things[name] = Thing(data, policy)
        return OK

    def read(self, name: bytes) -> tuple[int, Thing | None]:
        thing = self.things.get(name)
        if self.locked and not (thing and thing.policy & WORLD):
            return NOT_PERMITTED, None
        if thing is None:
            return NOT_FOUND, None
        return (OK, thing) if self._reachable(thing.policy) else (NOT_PERMITTED, None)

    def remove(self, name: bytes) -> int:
        if self.locked:
            return NOT_PERMITTED
        if name not in self.things:
            return NOT_FOUND
        if self.things[name].policy & IMMUTABLE:
            return NOT_PERMITTED
        del self.things[name]
        return OK

    def generate(self) -> int:
        if self.locked:
            return NOT_PERMITTED
        if self.key:
            return OK
        if self.used + self._cost(KEY_NAME, bytes(KEY_SIZE)) > self.total:
            return NO_SPACE
        self.keys_made += 1
        self.key = self.keys_made
        return OK

    def remove_key(self) -> int:
        if self.locked:
            return NOT_PERMITTED
        found, self.key = self.key, 0
        return OK if found else NOT_FOUND

    def wrap(self, data: bytes, flags: int) -> tuple[int, Wrapped | None]:
        if flags == 3:
            return INVALID, None
        if self.locked:
            return NOT_PERMITTED, None
        return (OK, Wrapped(self.key, flags, data)) if self.key else (NOT_FOUND, None)

    def unwrap(self, wrapped: Wrapped) -> tuple[int, bytes]:
        if self.locked:
            return NOT_PERMITTED, b""
        if wrapped.key != self.key:
            return NOT_FOUND, b""
        return (OK, wrapped.data) if self.mode >= (0, 1, 2)[wrapped.flags] else (NOT_PERMITTED, b"")

    def ipl(self, mode: int) -> None:
        """Restart the partition: transient objects are removed, and the driver makes a new password."""
        self.mode, self.locked = mode, False
        self.things = {name: thing for name, thing in self.things.items() if not thing.policy & TRANSIENT}

    def _reachable(self, policy: int) -> bool:
        wanted = 2 if policy & ENFORCE else 1 if policy & AUDIT else 0
        return self.mode >= wanted

    def _cost(self, name: bytes, data: bytes) -> int:
        return HEADER + len(name) + len(data) + self.overhead
