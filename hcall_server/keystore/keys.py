"""Operations on keys that the hypervisor makes: GEN_KEY, what wrapping needs, and revocation.

A wrapping key is an object like any other but for its policy bit: its data is the key, which no
operation hands to a guest (R-16).  What is wrapped names its key by an id that is computed from the
key itself (`key_ids`), so a new key under an old label opens nothing of the old one's.
"""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_server.keystore.guard import GuardedContents
from hcall_server.keystore.refusal import Refusal

_WRAPPING = int(Policy.WRAPPINGKEY)
_REVOKED = int(Policy.REVOKED)


class WrappingKey(NamedTuple):
    """A wrapping key: the id that wrapped objects carry, and its 32 bytes."""

    key_id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"WrappingKey(id={self.key_id.hex()})"


class KeyOperations(GuardedContents):
    """The part of a keystore that has to do with keys."""

    def generate_key(
        self, consumer: Consumer, password: bytes, label: bytes, policy: int, length: int
    ) -> bytes:
        """Make an object of `length` random bytes and return them; a wrapping key is not to be passed on."""
        place = self._vacant(Opcode.GEN_KEY, consumer, password, label, policy)
        made = self._entropy(length)
        self._put(place, policy, made)
        return made

    def wrapping_key(self, consumer: Consumer, password: bytes, label: bytes) -> WrappingKey:
        """Return the key of a label for WRAP; its policy has been met.

        Raises Refusal (H_INVALID_KEY) for an object that is no wrapping key.
        """
        held = self._find(Opcode.WRAP_OBJECT, consumer, password, label)
        if not held.policy & _WRAPPING:
            raise Refusal(
                Status.H_INVALID_KEY,
                "the object is no wrapping key",
                rule="WRAP takes a key that GEN_KEY has made for wrapping",
                section="spec/hcalls/wrap_object.md#checks",
                argument="label",
            )
        self._authorise(Opcode.WRAP_OBJECT, consumer, held.policy, password)
        return WrappingKey(self._key_ids.id_of(int(consumer), label), held.data)

    def unwrapping_key(self, consumer: Consumer, password: bytes, key_id: bytes) -> WrappingKey:
        """Return the key of an id for UNWRAP; its policy has been met.

        Raises Refusal (H_NOT_FOUND) where the consumer has no key of this id any more.
        """
        self._authenticate(Opcode.UNWRAP_OBJECT, consumer, password)
        label = self._key_ids.label_of(int(consumer), key_id)
        if label is None:
            raise Refusal(
                Status.H_NOT_FOUND,
                "the wrapping key is no more, or never was this consumer's",
                rule="the key with which the object was wrapped is in the keystore",
                section="spec/hcalls/unwrap_object.md#checks",
                argument="input",
            )
        held = self._objects[int(consumer), label]
        self._authorise(Opcode.UNWRAP_OBJECT, consumer, held.policy, password)
        return WrappingKey(key_id, held.data)

    def demand_access(self, consumer: Consumer, password: bytes, policy: int) -> None:
        """Refuse (H_AUTHORITY) unless the policy in a wrapped object is met now."""
        self._authorise(Opcode.UNWRAP_OBJECT, consumer, policy, password)

    def set_revoked(self, consumer: Consumer, password: bytes, label: bytes, *, revoked: bool) -> int:
        """Revoke a wrapping key or put it into use again; return its policy word afterwards (R-72).

        What is already so changes nothing.  Refusal (H_AUTHORITY) for an object that is no wrapping
        key, with its policy.
        """
        call = Opcode.REVOKE_OBJECT if revoked else Opcode.UNREVOKE_OBJECT
        held = self._find(call, consumer, password, label)
        self._authorise(call, consumer, held.policy, password)
        wanted = held.policy | _REVOKED if revoked else held.policy & ~_REVOKED
        if wanted != held.policy:
            self._set_policy(held, wanted)
        return held.policy
