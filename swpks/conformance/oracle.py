"""A second statement of the authorisation rules: sentences in order, each with its condition.

The first sentence whose condition holds gives the answer.  If no condition holds, the call is granted.

The sentences come from the public record and the choices of the project, not from the engine of the server.
The matrix tests (R-17) compare them with the engine, row by row.  Numbers are literal here: the comparison
then finds a wrong constant in the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

AUDIT_OR_ENFORCE, ENFORCE_ONLY, PASSWORD_FIRST = 0x4000_0000, 0x2000_0000, 0x1000_0000
WORLD, FOR_EVER, UNTIL_IPL = 0x0800_0000, 0x0400_0000, 0x0200_0000
SIGNED_ONLY, WRAPPING_KEY = 0x0100_0000, 0x0080_0000
MADE_BY_HYPERVISOR, REVOKED = 0x8, 0x2

CALLERS_BITS = (
    0x4000_0000,
    0x2000_0000,
    0x1000_0000,
    0x0800_0000,
    0x0400_0000,
    0x0200_0000,
    0x0100_0000,
    0x0080_0000,
)
REPORTED_BITS = (MADE_BY_HYPERVISOR, REVOKED)

GRANTED, NO_SUCH_CALL, NOT_FOUND, AUTHORITY, RESOURCE = 0, -2, -7, -10, -16
BAD_POLICY, IN_USE, INVALID_KEY = -57, -77, -78


class OracleCall(Enum):
    """The h-calls; the value is the name of the call."""

    CONFIG = "GET_CONFIG"
    SET_PASSWORD = "SET_PASSWORD"  # noqa: S105 - the name of a call
    GEN_PASSWORD = "GEN_PASSWORD"  # noqa: S105 - the name of a call
    LIST = "GET_OBJECTLABELS"
    WRITE = "WRITE_OBJECT"
    KEY = "GEN_KEY"
    READ = "READ_OBJECT"
    REMOVE = "REMOVE_OBJECT"
    CONFIRM = "CONFIRM_OBJECT_FLUSHED"
    SIGNED = "SIGNED_UPDATE"
    WRAP = "WRAP_OBJECT"
    UNWRAP = "UNWRAP_OBJECT"
    REVOKE = "REVOKE_OBJECT"
    UNREVOKE = "UNREVOKE_OBJECT"


MAKERS = (OracleCall.WRITE, OracleCall.KEY, OracleCall.SIGNED)
"""The calls with a policy word as argument."""

LEVELS = ("FW950", "FW1010", "FW1030", "FW1050", "FW1060", "FW1110", "NEXT")
"""The firmware levels, oldest first."""

NEWER = {
    OracleCall.SIGNED: "FW1030",
    OracleCall.WRAP: "FW1110",
    OracleCall.UNWRAP: "FW1110",
    OracleCall.REVOKE: "NEXT",
    OracleCall.UNREVOKE: "NEXT",
}
"""The first level of each call that is newer than the first level."""

OFFERED = {level: 0x7F80_0000 if level in ("FW1110", "NEXT") else 0x7F00_0000 for level in LEVELS}
"""The policy bits of each level."""


class Presented(Enum):
    """The kind of the password in the authorization block, compared with the owner's password.

    The owner's password is the password that the owner has set in this IPL.
    """

    NOTHING = "none"
    RIGHT = "the owner's"
    WRONG = "another of the same length"
    SHORTER = "a prefix of the owner's"
    LONGER = "the owner's and one byte"
    ANOTHERS = "another consumer's"


class MatrixRow(NamedTuple):
    """One row of the matrix.

    `word` is the policy that decides.  WRITE, KEY and SIGNED have it as an argument.  For UNWRAP it is the
    policy of the wrapping key.  For all other calls it is the policy of the named object.

    `owner` is the consumer in the authorization block (1 to 3).  `mode` is the secure-boot mode (0 off, 1
    audit, 2 enforce).  `wrapped` is the policy inside the wrapped object that UNWRAP gets.
    """

    call: OracleCall
    owner: int
    word: int
    password_set: bool
    presented: Presented
    mode: int
    exists: bool
    level: str
    wrapped: int = 0


class OracleAnswer(NamedTuple):
    """The status of a call, and the policy in r5 of READ or in r4 of REVOKE and UNREVOKE."""

    status: int
    shown: int = 0


class Sentence(NamedTuple):
    """A sentence of the reference or of our choices, with its condition and its status.

    With `by_policy`, the refusal returns the policy of the object, because that policy is its reason.
    """

    words: str
    applies: Callable[[MatrixRow], bool]
    status: int
    by_policy: bool = False


def _names_object(row: MatrixRow) -> bool:
    return row.call in NAMING


NAMING = (
    OracleCall.READ,
    OracleCall.REMOVE,
    OracleCall.CONFIRM,
    OracleCall.WRAP,
    OracleCall.UNWRAP,
    OracleCall.REVOKE,
    OracleCall.UNREVOKE,
)
"""The calls on an existing object."""

REVOCATION = (OracleCall.REVOKE, OracleCall.UNREVOKE)
REACHING = (*MAKERS, OracleCall.READ, OracleCall.WRAP, OracleCall.UNWRAP)
"""The calls that use the contents of an object, or make an object that such calls could use."""


def _lacks_call(row: MatrixRow) -> bool:
    return row.call in NEWER and LEVELS.index(row.level) < LEVELS.index(NEWER[row.call])


def _authenticates(row: MatrixRow) -> bool:
    # A READ of a world-readable object checks no password.  A missing object has no policy, so a READ of it
    # checks the password.
    world_read = row.call is OracleCall.READ and row.exists and row.word & WORLD
    return (
        row.call not in (OracleCall.CONFIG, OracleCall.SET_PASSWORD, OracleCall.GEN_PASSWORD)
        and not world_read
    )


def _demands(row: MatrixRow, bit: int) -> bool:
    return row.call in REACHING and row.word & bit == bit


def _wrapped_with(row: MatrixRow, bit: int) -> bool:
    return row.call is OracleCall.UNWRAP and row.wrapped & bit == bit


# The order is part of the contract.  Calls that the level lacks come first.  The policy word is an argument,
# and arguments come before the password.  The password comes before the existence of the object: otherwise a
# caller without it could learn which labels exist.  The policy of an object comes last.
RULES = (
    Sentence(
        "a call that the level lacks is H_FUNCTION",
        _lacks_call,
        NO_SUCH_CALL,
    ),
    Sentence(
        "a password is set once in an IPL, and not changed",
        lambda row: row.call in (OracleCall.SET_PASSWORD, OracleCall.GEN_PASSWORD) and row.password_set,
        IN_USE,
    ),
    Sentence(
        "a policy word has only bits that the firmware level supports",
        lambda row: row.call in MAKERS and row.word & ~OFFERED[row.level] != 0,
        BAD_POLICY,
    ),
    Sentence(
        "only a signed update makes an object with SIGNEDUPDATE",
        lambda row: row.call in (OracleCall.WRITE, OracleCall.KEY) and row.word & SIGNED_ONLY != 0,
        BAD_POLICY,
    ),
    Sentence(
        "a signed update makes and changes only objects with SIGNEDUPDATE",
        lambda row: row.call is OracleCall.SIGNED and row.word & SIGNED_ONLY == 0,
        BAD_POLICY,
    ),
    Sentence(
        "only GEN_KEY makes a wrapping key",
        lambda row: row.call in (OracleCall.WRITE, OracleCall.SIGNED) and row.word & WRAPPING_KEY != 0,
        BAD_POLICY,
    ),
    Sentence(
        "a wrapping key is not world-readable",
        lambda row: row.call is OracleCall.KEY and row.word & WRAPPING_KEY != 0 and row.word & WORLD != 0,
        BAD_POLICY,
    ),
    Sentence(
        "before the owner has a password, no password is presented",
        lambda row: _authenticates(row) and not row.password_set and row.presented is not Presented.NOTHING,
        AUTHORITY,
    ),
    Sentence(
        "once the owner has a password, each call presents it",
        lambda row: _authenticates(row) and row.password_set and row.presented is not Presented.RIGHT,
        AUTHORITY,
    ),
    Sentence(
        "neither a write nor a new key overwrites an object",
        lambda row: row.call in (OracleCall.WRITE, OracleCall.KEY) and row.exists,
        RESOURCE,
    ),
    Sentence(
        "there is no object of that label",
        lambda row: _names_object(row) and not row.exists,
        NOT_FOUND,
    ),
    Sentence(
        "WRAP takes a wrapping key",
        lambda row: row.call is OracleCall.WRAP and row.word & WRAPPING_KEY == 0,
        INVALID_KEY,
    ),
    Sentence(
        "only wrapping keys are revoked and unrevoked",
        lambda row: row.call in REVOCATION and row.word & WRAPPING_KEY == 0,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "a wrapping key's bytes never leave the hypervisor",
        lambda row: row.call is OracleCall.READ and row.word & WRAPPING_KEY != 0,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "a revoked object is neither read nor used",
        lambda row: (
            row.call in (OracleCall.READ, OracleCall.WRAP, OracleCall.UNWRAP) and row.word & REVOKED != 0
        ),
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "a PWSET object is used only after the owner's password is set",
        lambda row: _demands(row, PASSWORD_FIRST) and not row.password_set,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "an OSSECBOOTAUDIT object is used only in audit or enforce mode",
        lambda row: _demands(row, AUDIT_OR_ENFORCE) and row.mode not in {1, 2},
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "an OSSECBOOTENFORCE object is used only in enforce mode",
        lambda row: _demands(row, ENFORCE_ONLY) and row.mode != 2,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "an IMMUTABLE object is not removed",
        lambda row: row.call is OracleCall.REMOVE and row.word & FOR_EVER != 0,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "an IMMUTABLE object is not changed",
        lambda row: row.call is OracleCall.SIGNED and row.exists and row.word & FOR_EVER != 0,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "a wrapped object with PWSET opens only after the password is set",
        lambda row: _wrapped_with(row, PASSWORD_FIRST) and not row.password_set,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "a wrapped object with OSSECBOOTAUDIT opens only in audit or enforce mode",
        lambda row: _wrapped_with(row, AUDIT_OR_ENFORCE) and row.mode not in {1, 2},
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "a wrapped object with OSSECBOOTENFORCE opens only in enforce mode",
        lambda row: _wrapped_with(row, ENFORCE_ONLY) and row.mode != 2,
        AUTHORITY,
        by_policy=True,
    ),
    Sentence(
        "a guest does not remove an object of the hypervisor",
        lambda row: row.call is OracleCall.REMOVE and row.word & MADE_BY_HYPERVISOR != 0,
        AUTHORITY,
        by_policy=True,
    ),
)


def deciding_rule(row: MatrixRow) -> Sentence | None:
    """Return the first sentence that refuses the row; None if the call is granted."""
    return next((rule for rule in RULES if rule.applies(row)), None)


def answer(row: MatrixRow) -> OracleAnswer:
    """Return the platform's answer to a row.

    The arguments of the call are right, and the store has space.  A granted READ returns the policy.  A
    granted REVOKE or UNREVOKE returns the policy after the call.  If one of these calls is refused because
    of the policy, it returns the policy too.
    """
    rule = deciding_rule(row)
    if row.call is not OracleCall.READ and row.call not in REVOCATION:
        return OracleAnswer(rule.status if rule else GRANTED)
    if rule is not None:
        return OracleAnswer(rule.status, row.word if rule.by_policy else 0)
    return OracleAnswer(GRANTED, afterwards(row))


def afterwards(row: MatrixRow) -> int:
    """Return the policy of the row's object after a granted call."""
    if row.call is OracleCall.REVOKE:
        return row.word | REVOKED
    return row.word & ~REVOKED if row.call is OracleCall.UNREVOKE else row.word
