"""The keystore operations of SIGNED_UPDATE: reading the present objects, and one atomic change.

The decision about an update is made in `hcall_server.secvar`.  A signed update has these steps:

    before = signed.begin(who, label, policy)              # may it be tried at all?
    ... verify against `before` and `signed.data(consumer, PK)`, ...
    signed.update(consumer, label, policy, after)          # or signed.remove_all(consumer)

No other call runs between the first and the last step, because an h-call runs to its end.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, NamedTuple, Protocol

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_server.keystore.access import AccessControl, Credentials
from hcall_server.keystore.contents import Contents
from hcall_server.keystore.refusals import WrongKind

_SIGNED = int(Policy.SIGNEDUPDATE)
_IMMUTABLE = int(Policy.IMMUTABLE)


class LatchUse(Enum):
    """How the one-shot permission was used; the value is the word in the log."""

    PK_TAKEN = "PK taken without verification"
    PK_DELETED = "PK deleted without verification"
    ALL_DELETED = "all signed-update objects deleted without verification"


class UpdateLatch(Protocol):
    """The console's one-shot permission to update PK without verification (R-36).

    The permission is an attribute of the partition.  The keystore ends it, because the first update of PK and
    the end of the permission must be one change.
    """

    @property
    def armed(self) -> bool:
        """Whether the next update of PK is not verified."""

    def disarm(self, use: LatchUse) -> None:
        """End the permission, in the same commit as the change that used it."""


class NoLatch:
    """The latch of a keystore without a partition: never armed."""

    armed: ClassVar[bool] = False

    def disarm(self, use: LatchUse) -> None:
        """Do nothing."""


class Doubt(NamedTuple):
    """An accepted update that real firmware may refuse: the label of its variable, and the reasons."""

    label: bytes
    reasons: tuple[str, ...]


class SignedObjects:
    """The signed-update objects of one partition (R-15).

    `strict`: refuse updates that real firmware may refuse.  Otherwise they are accepted, and `doubts` has
    them until they are in the log.
    """

    def __init__(self, contents: Contents, access: AccessControl, *, strict: bool = False) -> None:
        self.strict = strict
        self.doubts: list[Doubt] = []
        self._contents = contents
        self._access = access

    def __repr__(self) -> str:
        return f"SignedObjects({self._contents!r})"

    @property
    def count(self) -> int:
        """How many objects only SIGNED_UPDATE may change."""
        return len(self._contents.with_bit(_SIGNED))

    def begin(self, who: Credentials, label: bytes, policy: int) -> bytes | None:
        """Return the present data of the object, None if there is no object yet.

        Forbidden if the password or the policy forbids the update.  An IMMUTABLE object can be made but not
        changed.  WrongKind if the object has another policy word than `policy`, such as an object that
        WRITE has made.
        """
        state = self._access.enter(Opcode.SIGNED_UPDATE, who)
        held = self._contents.find((who.consumer, label))
        # The policy check below reads the word in the request.  So this check comes first: a caller must
        # not leave out a bit that the object has (choice C-21).
        if held is not None and held.policy != policy:
            raise WrongKind("the object has another policy")
        # IMMUTABLE forbids changes, but the first update makes the object.  If that were refused, no such
        # object could exist.
        checked = policy & ~_IMMUTABLE if held is None else policy
        self._access.demand(Opcode.SIGNED_UPDATE, state, checked)
        return held.data if held else None

    def data(self, consumer: Consumer, label: bytes) -> bytes | None:
        """Return the data of a signed-update object, None where there is none; checks no access.

        The hypervisor needs PK and KEK to verify an update, also if their policy denies the guest a READ.
        """
        # Only an object with SIGNEDUPDATE counts.  WRITE can make any other object named PK. If that object
        # counted as PK, the writer's key would be trusted.
        held = self._contents.find((consumer, label))
        return held.data if held is not None and held.policy & _SIGNED else None

    def update(self, consumer: Consumer, label: bytes, policy: int, data: bytes | None) -> None:
        """Make, replace or (None) remove a signed-update object, after `begin` for the same object.

        Raises NoRoom if the new data do not fit; the bytes of the old data count as free.  Removing an
        absent object changes nothing.
        """
        key = (consumer, label)
        if data is not None:
            self._contents.put(key, policy, data)
        elif self._contents.find(key) is not None:
            self._contents.remove(key)

    def remove_all(self, consumer: Consumer) -> int:
        """Remove all signed-update objects of a consumer, with any policy; return their number."""
        # make the list first: each removal changes the dict that `with_bit` reads
        doomed = [key for key in self._contents.with_bit(_SIGNED) if key[0] == consumer]
        for key in doomed:
            self._contents.remove(key)
        return len(doomed)
