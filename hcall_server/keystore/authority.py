"""The authorisation decision: whether a call may go on with an object.

`authorise` is one pure function of (call, policy of the object, password state, secure-boot mode).  It
reads two small tables: the demands of each call, and the condition of each policy bit.  A generated matrix
in the tests compares every combination with rules that were written down independently (R-17).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.consumers import SecureBoot
from hcall_abi.policies import Policy


class PasswordState(Enum):
    """The consumer's password in this IPL, against the one that the call presents."""

    UNSET = "none is set and none is presented"
    UNSET_PRESENTED = "none is set but one is presented"
    MATCHED = "the one that is set is presented"
    MISSING = "one is set but none is presented"
    WRONG = "another than the one that is set is presented"

    @property
    def is_set(self) -> bool:
        """Whether the consumer has a password in this IPL."""
        return self not in (PasswordState.UNSET, PasswordState.UNSET_PRESENTED)


class Verdict(Enum):
    """The answer to an authorisation question; the values are the words of the tables."""

    ALLOWED = "allowed"
    PASSWORD = "password"  # noqa: S105 - the name of a verdict
    """The password does not fit, or one is presented where none is set."""
    PASSWORD_UNSET = "password unset"  # noqa: S105
    """The policy has PWSET, and the owner's password is not set."""
    SECURE_BOOT = "secure boot"
    """The policy asks for a higher secure-boot mode than the partition has."""
    WRAPPING_KEY = "wrapping key"
    """The object is a wrapping key."""
    REVOKED = "revoked"
    """The object is revoked."""
    IMMUTABLE = "immutable"
    """The object is immutable."""
    PROVIDED = "provided"
    """The object is the hypervisor's own."""
    NOT_A_KEY = "not a key"
    """The object is no wrapping key."""


_AUDIT = int(Policy.OSSECBOOTAUDIT)
_ENFORCE = int(Policy.OSSECBOOTENFORCE)
_PWSET = int(Policy.PWSET)
_WORLD = int(Policy.WORLDREADABLE)
_WRAPPING = int(Policy.WRAPPINGKEY)
_IMMUTABLE = int(Policy.IMMUTABLE)
_REVOKED = int(Policy.REVOKED)
_PROVIDED = int(Policy.HVPROVISIONED)
_SIGNED = int(Policy.SIGNEDUPDATE)
_ACCESS = _PWSET | _AUDIT | _ENFORCE


_MATCHED, _UNSET, _ALLOWED = PasswordState.MATCHED, PasswordState.UNSET, Verdict.ALLOWED


class _Demand(NamedTuple):
    """The demands of a call on an object's policy word.

    A set bit of `heeded` can refuse the call.  A set bit of `free` makes the password unnecessary.
    Every bit of `needed` must be set.
    """

    heeded: int
    free: int = 0
    needed: int = 0


_DEMANDS: Mapping[Opcode, _Demand] = {
    Opcode.WRITE_OBJECT: _Demand(_ACCESS),
    Opcode.READ_OBJECT: _Demand(_ACCESS | _WRAPPING | _REVOKED, free=_WORLD),
    Opcode.REMOVE_OBJECT: _Demand(_IMMUTABLE | _PROVIDED),
    Opcode.CONFIRM_OBJECT_FLUSHED: _Demand(0),
    Opcode.GET_OBJECTLABELS: _Demand(0),
    Opcode.GEN_KEY: _Demand(_ACCESS),
    Opcode.SIGNED_UPDATE: _Demand(_ACCESS | _IMMUTABLE),
    Opcode.WRAP_OBJECT: _Demand(_ACCESS | _REVOKED),
    Opcode.UNWRAP_OBJECT: _Demand(_ACCESS | _REVOKED),
    Opcode.REVOKE_OBJECT: _Demand(0, needed=_WRAPPING),
    Opcode.UNREVOKE_OBJECT: _Demand(0, needed=_WRAPPING),
}


def authorise(call: Opcode, policy: int | None, password: PasswordState, secure_boot: SecureBoot) -> Verdict:
    """Decide whether `call` may go on.

    `password` is about the consumer that owns the object; `policy` is the object's policy word, or None
    where there is no object (then only the password counts).  All three consumers have the same rights,
    each over its own objects.
    """
    heeded, free, needed = _DEMANDS[call]
    word = policy or 0
    authentic = password is _MATCHED or password is _UNSET
    if not authentic and not word & free:
        return Verdict.PASSWORD
    if needed and policy is not None and not word & needed:
        return Verdict.NOT_A_KEY
    refusing = word & heeded
    return _policy_verdict(refusing, password, secure_boot) if refusing else _ALLOWED


_REFUSING = (
    (_WRAPPING, Verdict.WRAPPING_KEY),
    (_REVOKED, Verdict.REVOKED),
    (_IMMUTABLE, Verdict.IMMUTABLE),
    (_PROVIDED, Verdict.PROVIDED),
)
"""Bits with their verdicts, for each call that checks them.  The partition's state does not change these."""


def _policy_verdict(heeded: int, password: PasswordState, secure_boot: SecureBoot) -> Verdict:
    if heeded & _PWSET and not password.is_set:
        return Verdict.PASSWORD_UNSET
    wanted = SecureBoot.ENFORCE if heeded & _ENFORCE else SecureBoot.AUDIT
    if heeded & (_AUDIT | _ENFORCE) and secure_boot < wanted:
        return Verdict.SECURE_BOOT
    return next((verdict for bit, verdict in _REFUSING if heeded & bit), _ALLOWED)
