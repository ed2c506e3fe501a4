"""The keystore of one partition: contents, access, tokens, and the operations on them.

Each operation runs to its end without waiting, so calls have one order and none sees half of another.
An operation that is refused raises a `KeystoreRefusal` and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.consumers import Consumer, SecureBoot
from hcall_server.keystore.access import AccessControl
from hcall_server.keystore.contents import Contents
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.keys import Keys
from hcall_server.keystore.limits import KeystoreLimits
from hcall_server.keystore.objects import Objects
from hcall_server.keystore.signed import NoLatch, SignedObjects, UpdateLatch
from hcall_server.keystore.tokens import Continuations, Listings

Entropy = Callable[[int], bytes]
"""Returns the requested number of random bytes: the seam of all randomness."""


class Keystore:
    """The objects and passwords of one partition.

    `entropy` makes passwords, keys and tokens.  `image` and `replaces` are as in `Contents`.
    `secure_boot` is the mode of the current IPL; `latch` belongs to the partition.
    """

    def __init__(
        self,
        limits: KeystoreLimits,
        entropy: Entropy,
        image: StoreImage | None = None,
        *,
        replaces: int = 0,
        secure_boot: SecureBoot = SecureBoot.OFF,
        latch: UpdateLatch | None = None,
    ) -> None:
        self.contents = Contents(limits, image, replaces=replaces)
        self.access = AccessControl(secure_boot)
        self.listings = Listings(entropy)
        self.continuations = Continuations(entropy)
        self.objects = Objects(self.contents, self.access, self.listings, entropy)
        self.keys = Keys(self.contents, self.access)
        self.signed = SignedObjects(self.contents, self.access)
        self.latch: UpdateLatch = latch or NoLatch()
        self.random = entropy

    def __repr__(self) -> str:
        return f"Keystore({self.contents!r})"

    def ipl(self, secure_boot: SecureBoot) -> None:
        """Start a new IPL: passwords, tokens and volatile objects end, the secure-boot mode counts."""
        self.access.ipl(secure_boot)
        self.listings.clear()
        self.continuations.clear()
        self.contents.drop_volatile()

    def generate_password(self, consumer: Consumer, length: int) -> bytes:
        """Make, set and return a random password of `length` bytes (R-05); Taken when there is one."""
        password = self.random(length)
        self.access.passwords.set(consumer, password)
        return password
