"""The guard before the contents: passwords, secure-boot mode and the authorisation of every call.

The order of checks is fixed: password, existence, policy, space; argument shapes have been checked
by then.  What is refused raises `Refusal` and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.statuses import Status
from hcall_server.keystore.authority import Verdict, authorise
from hcall_server.keystore.contents import Contents, Held, Key
from hcall_server.keystore.continuations import Continuations
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.limits import KeystoreLimits
from hcall_server.keystore.listings import Listings
from hcall_server.keystore.passwords import Passwords
from hcall_server.keystore.refusal import Refusal

Entropy = Callable[[int], bytes]
"""Returns that many random bytes: the seam through which all randomness comes."""

_ALLOWED = Verdict.ALLOWED
_POLICY_BEFORE: dict[Opcode, tuple[int, ...]] = {
    Opcode.READ_OBJECT: (0,),
    Opcode.REVOKE_OBJECT: (),
    Opcode.UNREVOKE_OBJECT: (),
}
"""The results before the policy, of calls that tell it when it is the reason of a refusal."""


class GuardedContents(Contents):
    """The contents with whoever may reach them; `entropy` is where all chance comes from."""

    def __init__(
        self, limits: KeystoreLimits, entropy: Entropy, image: StoreImage | None = None, *, replaces: int = 0
    ) -> None:
        super().__init__(limits, image, replaces=replaces)
        self.secure_boot = SecureBoot.OFF
        self.passwords = Passwords()
        self.listings = Listings(entropy)
        self.continuations = Continuations(entropy)
        self._entropy = entropy

    def ipl(self, secure_boot: SecureBoot) -> None:
        """Start a new IPL: passwords and volatile objects are gone, the secure-boot mode counts."""
        self.secure_boot = secure_boot
        self.passwords.reset()
        self.listings.clear()
        self.continuations.clear()
        self._drop_volatile()

    def random(self, length: int) -> bytes:
        """Return `length` random bytes, for what an h-call makes outside of the store."""
        return self._entropy(length)

    def demand_password(self, call: Opcode, consumer: Consumer, password: bytes) -> None:
        """Refuse (H_AUTHORITY) whoever does not have the consumer's password."""
        self._authenticate(call, consumer, password)

    def _authenticate(self, call: Opcode, consumer: Consumer, password: bytes) -> None:
        if not self.passwords.fits(consumer, password):
            self._authorise(call, consumer, None, password)

    def _authorise(self, call: Opcode, consumer: Consumer, policy: int | None, password: bytes) -> None:
        state = self.passwords.state(consumer, password)
        verdict = authorise(call, consumer, policy, state, self.secure_boot)
        if verdict is not _ALLOWED:
            raise forbidden(call, verdict, policy)

    def _find(self, call: Opcode, consumer: Consumer, password: bytes, label: bytes) -> Held:
        """Return an object to somebody who has its owner's password; no policy is looked at yet."""
        self._authenticate(call, consumer, password)
        held = self._objects.get((int(consumer), label))
        if held is None:
            raise not_found(call)
        return held

    def _vacant(self, call: Opcode, consumer: Consumer, password: bytes, label: bytes, policy: int) -> Key:
        """Return where a new object goes, to somebody who may make one with this policy (R-08)."""
        self._authenticate(call, consumer, password)
        key = (int(consumer), label)
        if key in self._objects:
            raise taken(call)
        self._authorise(call, consumer, policy, password)
        return key


def forbidden(call: Opcode, verdict: Verdict, policy: int | None) -> Refusal:
    """Return H_AUTHORITY; READ, REVOKE and UNREVOKE tell the policy where it is the reason."""
    by_policy = verdict is not Verdict.PASSWORD
    before = _POLICY_BEFORE.get(call) if by_policy else None
    return Refusal(
        Status.H_AUTHORITY,
        "the policy of the object forbids it" if by_policy else "the password does not fit",
        rule=verdict.value,
        section="spec/policies.md#verdicts" if by_policy else "spec/policies.md#passwords",
        outputs=() if before is None else (*before, policy or 0),
    )


def not_found(call: Opcode, outputs: tuple[int, ...] = ()) -> Refusal:
    """Return H_NOT_FOUND, which blames the label where the call has one."""
    return Refusal(
        Status.H_NOT_FOUND,
        "no such object",
        rule="the label names an object of this consumer",
        section=f"spec/hcalls/{call.name.lower()}.md#checks",
        argument="label",
        outputs=outputs,
    )


def taken(call: Opcode) -> Refusal:
    """Return H_RESOURCE: the label has an object."""
    return Refusal(
        Status.H_RESOURCE,
        "the label is taken",
        rule="a write never overwrites; remove the object first",
        section=f"spec/hcalls/{call.name.lower()}.md#checks",
    )
