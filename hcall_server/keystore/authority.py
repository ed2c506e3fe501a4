"""The authorisation decision: who may do what to which object, now.

`authorise` is one pure function over (call, consumer, policy of the object, password state,
secure-boot mode).  Everything it knows is in two small tables: what each call demands, and when
each policy bit is met.  The generated matrix in the tests holds every combination against rules
that were written down independently (R-17).

`refused_word` is its sibling for the policy word of a new object: which words a call refuses
whoever asks (R-15, R-17).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.policies import STATUS_BITS, Policy


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
    """The answer to an authorisation question; the value of a refusal is the rule it stands for."""

    ALLOWED = "allowed"
    PASSWORD = "once a consumer's password is set it is demanded, and until then it is NULL"  # noqa: S105
    PASSWORD_SET = "a PWSET object is out of reach until its owner's password has been set"  # noqa: S105
    SECURE_BOOT = "the object's policy asks for a higher secure-boot mode than the partition has"
    WRAPPING_KEY = "a wrapping key is never read"
    REVOKED = "a revoked object is neither read nor used until it is unrevoked"
    IMMUTABLE = "an immutable object is never changed and never removed"
    PROVIDED = "what the hypervisor provides no guest removes"
    NO_WRAPPING_KEY = "only a wrapping key is revoked or unrevoked"


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


@dataclass(frozen=True)
class _Demand:
    """What a call asks: `free` bits lift the password, `heeded` bits can refuse, a `needed` bit is there."""

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


def heeded_bits(call: Opcode) -> int:
    """Return the policy bits that can refuse `call`: without them the password decides alone."""
    return _DEMANDS[call].heeded


def authorise(
    call: Opcode,
    consumer: Consumer,
    policy: int | None,
    password: PasswordState,
    secure_boot: SecureBoot,
) -> Verdict:
    """Decide whether `call` may go on.

    `consumer` owns the object and `password` is about that consumer; `policy` is the object's
    policy word, or None where there is no object (then only the password counts).  All three
    consumers have the same rights, each over its own objects.
    """
    demand = _DEMANDS[call]
    word = policy or 0
    authentic = password is _MATCHED or password is _UNSET
    if not authentic and not word & demand.free:
        return Verdict.PASSWORD
    if demand.needed and policy is not None and not word & demand.needed:
        return Verdict.NO_WRAPPING_KEY
    heeded = word & demand.heeded
    return _policy_verdict(heeded, password, secure_boot) if heeded else _ALLOWED


_REFUSING = (
    (_WRAPPING, Verdict.WRAPPING_KEY),
    (_REVOKED, Verdict.REVOKED),
    (_IMMUTABLE, Verdict.IMMUTABLE),
    (_PROVIDED, Verdict.PROVIDED),
)
"""Bits that refuse whatever the state of the partition, where they are heeded."""


def _policy_verdict(heeded: int, password: PasswordState, secure_boot: SecureBoot) -> Verdict:
    if heeded & _PWSET and not password.is_set:
        return Verdict.PASSWORD_SET
    wanted = SecureBoot.ENFORCE if heeded & _ENFORCE else SecureBoot.AUDIT
    if heeded & (_AUDIT | _ENFORCE) and secure_boot < wanted:
        return Verdict.SECURE_BOOT
    return next((verdict for bit, verdict in _REFUSING if heeded & bit), _ALLOWED)


_MAKERS: Mapping[Opcode, tuple[int, int, str]] = {
    Opcode.WRITE_OBJECT: (
        _SIGNED | _WRAPPING,
        0,
        "signed-update objects and wrapping keys are made by their own h-calls",
    ),
    Opcode.GEN_KEY: (_SIGNED, 0, "a signed-update object is made by SIGNED_UPDATE"),
    Opcode.SIGNED_UPDATE: (
        _WRAPPING,
        _SIGNED,
        "a signed-update object has SIGNEDUPDATE and is no wrapping key",
    ),
}
"""The calls that make objects: the bits that each refuses, the bits it demands, and that rule."""


def refused_word(call: Opcode, policy: int, supported: int) -> str | None:
    """Return the rule that a policy word breaks in a call that makes objects, or None for a good word.

    `supported` are the bits that the firmware level offers (spec/policies.md#words-that-are-refused).
    """
    refused, demanded, rule = _MAKERS[call]
    if policy & STATUS_BITS:
        return "status bits are reported by the hypervisor, never asked for"
    if policy & ~supported:
        return "a policy bit that the firmware level does not support is refused"
    if policy & refused or ~policy & demanded:
        return rule
    if policy & _WRAPPING and policy & _WORLD:
        return "a wrapping key is never readable, least of all by everybody"
    return None
