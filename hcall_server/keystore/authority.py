"""The authorisation decision: whether a call may go on with an object."""

# Authorisation
#
# A call names a consumer and mostly a label, and presents a password.  The keystore decides whether the call
# may go on.  It guarantees:
#
#   1. A refused call has changed nothing.
#   2. A caller without the password learns no label and no data, except those of world-readable objects.
#   3. Each combination of call, policy word, password state and secure-boot mode has one verdict.
#
# Argument checks come first, and read no object.  Then each call takes these steps, in this order:
#
#   password     of the consumer that the call names
#   existence    an object of the label, or no object if the call makes one
#   policy       the word of the object; for a new object too, because its maker must be able to use it
#   space        for the change
#
# The password precedes existence.  So a caller without it gets the same refusal for a used label and for a
# free one, and cannot search for labels.  Policy follows existence, because a policy belongs to an object.
# `access.py` has the functions for these steps.
#
# `authorise` decides about password and policy.  It is one pure function of four values, and reads no store.
# So the tests run every combination without a keystore, and compare it with rules that were written down
# independently.  The rights of a call are one row of `_DEMANDS`.  A reader can compare the rows with
# spec/policies.md.  If each handler had conditions of its own, a difference between two would stay unseen.
# A call may ask several times: with None for the password alone, then with a policy.  UNWRAP asks about two
# words, that of the key and that in the wrapped object.
#
# READ is the exception.  The public record lets every consumer read a world-readable object without a
# password.  Linux reads the firmware's SB_VERSION in this way.  So READ must find the object before it can
# decide about the password.  `authorise` still puts the password before the policy.  So a protected object
# and a free label have the same refusal.  The exception has these costs:
#
#   - Every caller can learn that a world-readable label exists, and its policy word, even if a bit refuses.
#   - READ has an order of steps of its own (`Objects.read`).
#   - A guest that presents a wrong password to a world-readable object does not notice its mistake.
#
# Alternatives that were dropped:
#
#   - A check of the password that a world-readable READ presents (choice C-C).  It would protect nothing: the
#     same caller may read the object without a password.
#   - Policy checks in CONFIRM and GET_OBJECTLABELS, and further ones in REMOVE (C-D, C-19).  REMOVE checks
#     IMMUTABLE and HVPROVISIONED only.  These calls return no object data.  An owner may remove an object
#     that it may not read at this secure-boot mode.
#   - A refusal of OSSECBOOTAUDIT together with OSSECBOOTENFORCE (C-E).  The flags of WRAP refuse both because
#     Linux does.  For policy words the public record is silent, and the stricter bit has a clear meaning.
#   - Free space for TRANSIENT objects (C-K).  They never reach NVRAM, but the size of the store is the only
#     bound on the memory that a partition's objects take here.
#   - A short cut in READ for the usual case, before this function.  It was a second decision, and had to
#     agree with this one.  Now the usual case is short here: if no set bit can refuse, none is examined.

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.consumers import SecureBoot
from hcall_abi.policies import Policy


class PasswordState(Enum):
    """The consumer's password in this IPL, compared with the password of the call."""

    # spec/policies.md shows these texts as the rows of a table (tools/spec_tables.py).
    UNSET = "no password is set, and none is presented"
    UNSET_PRESENTED = "no password is set, but one is presented"
    MATCHED = "the password that is set is presented"
    MISSING = "a password is set, but none is presented"
    WRONG = "a wrong password is presented"

    @property
    def is_set(self) -> bool:
        """Whether the consumer has a password in this IPL."""
        return self not in (PasswordState.UNSET, PasswordState.UNSET_PRESENTED)


class Verdict(Enum):
    """Whether a call may go on, or the reason why not."""

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


# Every h-call needs these members.  A look-up on the Enum class costs more than the comparison itself.
_MATCHED, _UNSET, _ALLOWED = PasswordState.MATCHED, PasswordState.UNSET, Verdict.ALLOWED


class _Demand(NamedTuple):
    """The demands of a call on an object's policy word.

    `denying`: bits that can deny access.  `waiving`: bits that waive the password.  `required`: the bit that
    must be set; 0 if none must.
    """

    denying: int
    waiving: int = 0
    required: int = 0


# GET_CONFIG, SET_PASSWORD and GEN_PASSWORD have no row: they need no authority.
_DEMANDS: Mapping[Opcode, _Demand] = {
    Opcode.WRITE_OBJECT: _Demand(_ACCESS),
    Opcode.READ_OBJECT: _Demand(_ACCESS | _WRAPPING | _REVOKED, waiving=_WORLD),
    # WRAPPINGKEY does not deny REMOVE.  Linux itself revokes a key before it removes it (choice C-19).
    Opcode.REMOVE_OBJECT: _Demand(_IMMUTABLE | _PROVIDED),
    Opcode.CONFIRM_OBJECT_FLUSHED: _Demand(0),
    Opcode.GET_OBJECTLABELS: _Demand(0),
    Opcode.GEN_KEY: _Demand(_ACCESS),
    Opcode.SIGNED_UPDATE: _Demand(_ACCESS | _IMMUTABLE),
    Opcode.WRAP_OBJECT: _Demand(_ACCESS | _REVOKED),
    Opcode.UNWRAP_OBJECT: _Demand(_ACCESS | _REVOKED),
    Opcode.REVOKE_OBJECT: _Demand(0, required=_WRAPPING),
    Opcode.UNREVOKE_OBJECT: _Demand(0, required=_WRAPPING),
}


def authorise(call: Opcode, policy: int | None, password: PasswordState, secure_boot: SecureBoot) -> Verdict:
    """Decide whether `call` may go on.

    `password` is about the consumer that owns the object.  `policy` is the object's policy word.  If there
    is no object, `policy` is None, and only the password counts.  All three consumers have the same rights,
    each over its own objects.
    """
    denying, waiving, required = _DEMANDS[call]
    word = policy or 0
    authentic = password is _MATCHED or password is _UNSET
    # The password is checked before the policy bits.  A caller without it must not learn that the object
    # exists.
    if not authentic and not word & waiving:
        return Verdict.PASSWORD
    if required and policy is not None and not word & required:
        return Verdict.NOT_A_KEY
    bits = word & denying
    return _policy_verdict(bits, password, secure_boot) if bits else _ALLOWED


_REFUSING = (
    (_WRAPPING, Verdict.WRAPPING_KEY),
    (_REVOKED, Verdict.REVOKED),
    (_IMMUTABLE, Verdict.IMMUTABLE),
    (_PROVIDED, Verdict.PROVIDED),
)
"""Bits with their verdicts, for each call that checks them.  The partition's state does not change these."""


def _policy_verdict(bits: int, password: PasswordState, secure_boot: SecureBoot) -> Verdict:
    # The first bit that refuses decides, and the log shows its rule (order: spec/policies.md#the-order).
    if bits & _PWSET and not password.is_set:
        return Verdict.PASSWORD_UNSET
    wanted = SecureBoot.ENFORCE if bits & _ENFORCE else SecureBoot.AUDIT
    if bits & (_AUDIT | _ENFORCE) and secure_boot < wanted:
        return Verdict.SECURE_BOOT
    return next((verdict for bit, verdict in _REFUSING if bits & bit), _ALLOWED)
