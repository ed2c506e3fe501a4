"""The keystore of one partition: every operation on objects, at once and in memory.

Each operation runs to its end without waiting, so calls have one order and none sees half of
another.  The book-keeping is in `contents`, the guard before it in `guard`; here are the operations
on plain objects, and in `keys` and `signed` those on keys and on signed-update objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.statuses import Status
from hcall_server.keystore.authority import heeded_bits
from hcall_server.keystore.contents import MAX_PENDING_REMOVALS, Held
from hcall_server.keystore.guard import Entropy, not_found
from hcall_server.keystore.keys import KeyOperations
from hcall_server.keystore.listings import fitting
from hcall_server.keystore.refusal import Refusal
from hcall_server.keystore.signed import SignedUpdates

__all__ = ["MAX_PENDING_REMOVALS", "Entropy", "Held", "Keystore"]

_READ = Opcode.READ_OBJECT
_READ_HEEDED = heeded_bits(_READ)


class Keystore(KeyOperations, SignedUpdates):
    """The objects and passwords of one partition.

    `limits`, `image` and `replaces` are as in `Contents`; `entropy` makes passwords, keys and tokens.
    """

    def generate_password(self, consumer: Consumer, length: int) -> bytes:
        """Make, set and return a random password of `length` bytes (R-05)."""
        password = self._entropy(length)
        self.passwords.set(consumer, password)
        return password

    def write(self, consumer: Consumer, password: bytes, label: bytes, policy: int, data: bytes) -> None:
        """Make a new object; an existing label is never overwritten (R-08)."""
        self._put(self._vacant(Opcode.WRITE_OBJECT, consumer, password, label, policy), policy, data)

    def read(self, consumer: Consumer, password: bytes, label: bytes) -> Held:
        """Return an object that the caller may read."""
        held = self._objects.get((consumer, label))
        if held is not None and not held.policy & _READ_HEEDED and self.passwords.fits(consumer, password):
            return held  # what the tables say of the usual case
        self._authorise(_READ, consumer, held.policy if held else None, password)
        if held is None:
            raise not_found(_READ)
        return held

    def remove(self, consumer: Consumer, password: bytes, label: bytes) -> None:
        """Remove an object; the removal too is pending until it is flushed."""
        held = self._find(Opcode.REMOVE_OBJECT, consumer, password, label)
        self._authorise(Opcode.REMOVE_OBJECT, consumer, held.policy, password)
        self._remove((int(consumer), label))

    def confirm(self, consumer: Consumer, password: bytes, label: bytes) -> bool:
        """Say whether the newest change to a label is durable.

        Raises Refusal (H_NOT_FOUND, r4 = 1) when there is no object and its absence is durable;
        a pending removal is an answer of False like any other pending change.
        """
        self._authenticate(Opcode.CONFIRM_OBJECT_FLUSHED, consumer, password)
        key = (int(consumer), label)
        held = self._objects.get(key)
        if self._pending(key, held):
            return False
        if held is None:
            raise not_found(Opcode.CONFIRM_OBJECT_FLUSHED, outputs=(1,))
        return True

    def labels(
        self, consumer: Consumer, password: bytes, token: int, room: int, size: Callable[[bytes], int]
    ) -> tuple[Sequence[bytes], int]:
        """Return the next labels that fit into `room` bytes, and the token for the rest (0: none).

        `size` tells the bytes that a label takes in the list.  A token other than 0 must be in
        `listings`, which the argument checks see to.
        """
        self._authenticate(Opcode.GET_OBJECTLABELS, consumer, password)
        if token:
            labels = self.listings.take(token)
        else:
            labels = [label for owner, label in self._objects if owner == consumer]
        count = fitting(labels, room, size)
        if labels and not count:
            raise Refusal(
                Status.H_P4,
                "the buffer has no room for one label",
                rule="the list holds whole labels, at least one",
                section="spec/hcalls/get_objectlabels.md#checks",
                argument="labels_length",
            )
        return labels[:count], self.listings.keep(consumer, token, labels[count:])
