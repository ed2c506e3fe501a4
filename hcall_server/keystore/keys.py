"""Operations on wrapping keys: those of WRAP and UNWRAP, and revocation.

A wrapping key is an object with the policy bit WRAPPINGKEY.  Its data is the key, and no operation returns
that to a guest (R-16).  A wrapped object names its key by an id that is computed from the key itself
(`key_ids`).  So a new key under an old label does not open the objects of the old key.
"""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_server.keystore.access import AccessControl, Credentials
from hcall_server.keystore.authority import PasswordState
from hcall_server.keystore.contents import Contents
from hcall_server.keystore.refusals import NotFound, WrongKind

_WRAPPING = int(Policy.WRAPPINGKEY)
_REVOKED = int(Policy.REVOKED)


class WrappingKey(NamedTuple):
    """A wrapping key: the id that wrapped objects carry, and its 32 bytes."""

    key_id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"WrappingKey(id={self.key_id.hex()})"


class Keys:
    """The wrapping keys of one partition."""

    def __init__(self, contents: Contents, access: AccessControl) -> None:
        self._contents = contents
        self._access = access

    def __repr__(self) -> str:
        return f"Keys({self._contents!r})"

    def for_wrapping(self, who: Credentials, label: bytes) -> WrappingKey:
        """Return the key under a label for WRAP; Forbidden, NotFound, or WrongKind for a non-key object."""
        state = self._access.enter(Opcode.WRAP_OBJECT, who)
        held = self._contents.get((who.consumer, label))
        # `authorise` does not check this, because the call has a status of its own for it: H_INVALID_KEY
        # (choice C-40).
        if not held.policy & _WRAPPING:
            raise WrongKind("the object is no wrapping key")
        self._access.demand(Opcode.WRAP_OBJECT, state, held.policy)
        return WrappingKey(self._contents.key_ids.id_of(who.consumer, label), held.data)

    def for_unwrapping(self, who: Credentials, state: PasswordState, key_id: bytes) -> WrappingKey:
        """Return the key of an id for UNWRAP.

        `state` is the result of the password check.  NotFound if the consumer has no key of this id.
        Forbidden if the password or the key's policy forbids UNWRAP.
        """
        # The search finds only keys of the consumer in the authorization block.  Its password opens no
        # other key (choice C-43).
        label = self._contents.key_ids.label_of(who.consumer, key_id)
        if label is None:
            raise NotFound("this consumer has no wrapping key of this id")
        held = self._contents.get((who.consumer, label))
        self._access.demand(Opcode.UNWRAP_OBJECT, state, held.policy)
        return WrappingKey(key_id, held.data)

    def set_revoked(self, who: Credentials, label: bytes, *, revoked: bool) -> int:
        """Revoke or unrevoke a wrapping key; return its new policy word (R-72).

        A key that is in the wanted state already does not change.  Raises NotFound if there is no object,
        and Forbidden.  An object that is no wrapping key is Forbidden too.
        """
        call = Opcode.REVOKE_OBJECT if revoked else Opcode.UNREVOKE_OBJECT
        state = self._access.enter(call, who)
        key = (who.consumer, label)
        held = self._contents.get(key)
        self._access.demand(call, state, held.policy)
        wanted = held.policy | _REVOKED if revoked else held.policy & ~_REVOKED
        # A call that changes nothing must not count as a change.  Otherwise a flushed key would become
        # pending again.
        if wanted != held.policy:
            self._contents.set_policy(key, wanted)
        return wanted
