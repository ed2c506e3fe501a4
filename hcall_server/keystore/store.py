"""The keystore of one partition: contents, access, tokens, and the operations on them.

Each operation runs to its end without waiting, so calls have one order and none sees half of another.
An operation that is refused raises a `KeystoreRefusal` and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hcall_abi.consumers import Consumer, SecureBoot
from hcall_server.keystore.access import AccessControl
from hcall_server.keystore.contents import Contents
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.keys import Keys
from hcall_server.keystore.limits import KeystoreLimits
from hcall_server.keystore.objects import Objects
from hcall_server.keystore.signed import NoLatch, SignedObjects, UpdateLatch
from hcall_server.keystore.tokens import Continuations, Listings

if TYPE_CHECKING:
    from hcall_server.keystore.saved import SavedStore
    from hcall_server.keystore.used import UsedState

Entropy = Callable[[int], bytes]
"""Returns the requested number of random bytes: the seam of all randomness."""


class Keystore:
    """The objects and passwords of one partition.

    `entropy` makes passwords, keys and tokens.  `image` and `replaces` are as in `Contents`.
    `secure_boot` is the mode of the current IPL; `latch` belongs to the partition.  `strict_updates`: refuse
    signed updates that real firmware may refuse.
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
        strict_updates: bool = False,
    ) -> None:
        self.contents = Contents(limits, image, replaces=replaces)
        self.access = AccessControl(secure_boot)
        self.listings = Listings(entropy)
        self.continuations = Continuations(entropy)
        self.objects = Objects(self.contents, self.access, self.listings, entropy)
        self.keys = Keys(self.contents, self.access)
        self.signed = SignedObjects(self.contents, self.access, strict=strict_updates)
        self.latch: UpdateLatch = latch or NoLatch()
        self.random = entropy

    def __repr__(self) -> str:
        return f"Keystore({self.contents!r})"

    def ipl(self, secure_boot: SecureBoot) -> None:
        """Start a new IPL: end passwords, tokens and volatile objects, and apply this secure-boot mode."""
        self.access.ipl(secure_boot)
        self.listings.clear()
        self.continuations.clear()
        self.contents.drop_volatile()

    def used_state(self) -> UsedState:
        """Return the state that a move keeps and an IPL ends: passwords, volatile objects, label lists."""
        # The import is here, because only a partition that moves needs the module.  A start does not load
        # it.
        from hcall_server.keystore import used

        return used.UsedState(
            tuple(used.Password(*each) for each in self.access.passwords.items()),
            tuple(used.Placed(*each) for each in self.contents.volatile()),
            tuple(used.Listing(token, who, tuple(rest)) for token, who, rest in self.listings.items()),
        )

    def take_used(self, state: UsedState) -> None:
        """Take over the state that the keystore on another system had besides its image."""
        for consumer, secret in state.passwords:
            self.access.passwords.take(consumer, secret)
        self.contents.take_volatile(state.objects)
        for token, consumer, labels in state.listings:
            self.listings.resume(token, consumer, labels)

    def saved(self) -> SavedStore:
        """Return the present state for `restore`: objects, passwords and secure-boot mode, in memory only."""
        from hcall_server.keystore import saved  # only tests need the module, so a start does not load it

        passwords = tuple(self.access.passwords.items())
        return saved.SavedStore(self.contents.saved(), passwords, self.access.secure_boot)

    def restore(self, saved: SavedStore) -> None:
        """Put a saved state of this partition back; the contents are pending until the next flush.

        Open label lists and busy calls end: their tokens belong to the state that is left.
        """
        self.access.ipl(saved.secure_boot)
        for consumer, secret in saved.passwords:
            self.access.passwords.take(consumer, secret)
        self.listings.clear()
        self.continuations.clear()
        self.contents.restore(saved.contents)

    def generate_password(self, consumer: Consumer, length: int) -> bytes:
        """Make, set and return a random password of `length` bytes (R-05); Taken when there is one."""
        # The random bytes come first.  If the host gives none, no password is set, and the guest may repeat
        # the call.
        password = self.random(length)
        self.access.passwords.set(consumer, password)
        return password
