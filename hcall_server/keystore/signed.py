"""What SIGNED_UPDATE needs of the keystore: a look at what is there, and one atomic change.

Who signed what, and what follows from it, is not decided here.  A signed update goes so:

    before = keystore.begin_signed_update(consumer, password, label, policy)   # may it be tried at all?
    ... verify against `before` and `keystore.signed_data(consumer, PK)`, ...
    keystore.update_signed(consumer, label, policy, after)                     # or remove_signed(consumer)

Nothing else happens between the first and the last step, because an h-call runs to its end.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Protocol

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_server.keystore.guard import GuardedContents
from hcall_server.keystore.refusal import Refusal

_SIGNED = int(Policy.SIGNEDUPDATE)
_IMMUTABLE = int(Policy.IMMUTABLE)


class LatchUse(Enum):
    """What the operating system has used up the latch for, as words for the log."""

    PK_TAKEN = "PK taken without verification"
    PK_DELETED = "PK deleted without verification"
    ALL_DELETED = "all signed-update objects deleted without verification"


class UpdateLatch(Protocol):
    """The console's one-shot permission to update PK without verification (R-36).

    It belongs to the partition, which puts its own into its keystore, because a change of PK and
    the end of the permission are one change.
    """

    @property
    def armed(self) -> bool:
        """Whether the next update of PK is not verified."""

    def disarm(self, use: LatchUse) -> None:
        """Take the permission back, in the same commit as what has just been changed."""


class NoLatch:
    """The latch of a keystore that nobody gave one: never armed."""

    armed: ClassVar[bool] = False

    def disarm(self, use: LatchUse) -> None:
        """Do nothing."""


class SignedUpdates(GuardedContents):
    """The part of a keystore that holds signed-update objects (R-15)."""

    latch: UpdateLatch = NoLatch()

    @property
    def signed_count(self) -> int:
        """How many objects only SIGNED_UPDATE may change."""
        return sum(1 for held in self._objects.values() if held.policy & _SIGNED)

    def begin_signed_update(
        self, consumer: Consumer, password: bytes, label: bytes, policy: int
    ) -> bytes | None:
        """Return what the object holds now, None where there is none yet.

        Raises Refusal: H_AUTHORITY for a wrong password and for a policy that is not met (an
        IMMUTABLE object can be made but not changed); H_P4 where the object has another policy word
        than the one asked for, which covers objects that other calls have made.
        """
        self._authenticate(Opcode.SIGNED_UPDATE, consumer, password)
        held = self._objects.get((int(consumer), label))
        if held is not None and held.policy != policy:
            raise Refusal(
                Status.H_P4,
                "the object has another policy",
                rule="a signed update keeps the policy word of the object",
                section="spec/hcalls/signed_update.md#checks",
                argument="policy",
            )
        heeded = policy & ~_IMMUTABLE if held is None else policy
        self._authorise(Opcode.SIGNED_UPDATE, consumer, heeded, password)
        return held.data if held else None

    def signed_data(self, consumer: Consumer, label: bytes) -> bytes | None:
        """Return what a signed-update object holds, None where there is none: the hypervisor's own look."""
        held = self._objects.get((int(consumer), label))
        return held.data if held is not None and held.policy & _SIGNED else None

    def update_signed(self, consumer: Consumer, label: bytes, policy: int, data: bytes | None) -> None:
        """Make, replace or (None) remove a signed-update object that `begin_signed_update` has passed.

        Raises Refusal (H_NO_MEM) when the new contents do not fit beside all other objects; what the
        object takes now counts as free.  Removing what is not there changes nothing.
        """
        key = (int(consumer), label)
        if data is not None:
            self._put(key, policy, data)
        elif key in self._objects:
            self._remove(key)

    def remove_signed(self, consumer: Consumer) -> int:
        """Remove all signed-update objects of a consumer, and say how many there were.

        This is "delete everything": no policy of an object stands in its way.
        """
        doomed = [key for key, held in self._objects.items() if key[0] == consumer and held.policy & _SIGNED]
        for key in doomed:
            self._remove(key)
        return len(doomed)
