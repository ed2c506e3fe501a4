"""From a refusal to an answer: its rule, status and output registers."""

# The keystore knows no statuses (`hcall_server.keystore.refusals`).  One table here maps a call and a refusal
# to a rule and an argument.  Handlers have no such code: the same refusal has different
# statuses in different calls, and in one table a reader sees them side by side.
#
# Most rules have a status of their own.  A positional rule has none: its status is that of the argument's
# register, such as H_P2 for r5.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from hcall_abi.arguments import Arg
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.errors import ScarcityError, SwpksError
from hcall_abi.rules import hcalls as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import Status
from hcall_server.keystore.authority import Verdict
from hcall_server.keystore.refusals import (
    Forbidden,
    KeystoreRefusal,
    NoRoom,
    NotFound,
    Taken,
    WrongKind,
)


class Refusal(SwpksError):
    """The refusal of an h-call, with a status other than H_SUCCESS; nothing was changed.

    `status` is that of the rule, unless another is given.  `argument` is the name of the argument that broke
    the rule, if there is one.  `outputs` are the values of r4, r5, ... that go with the status.
    """

    def __init__(
        self,
        rule: Rule,
        message: str,
        *,
        status: Status | None = None,
        argument: str | None = None,
        outputs: tuple[int, ...] = (),
    ) -> None:
        super().__init__(rule, message)
        found = rule.status if status is None else status
        if found is None:
            raise ValueError(f"rule {rule.id} has no status of its own")
        self.status = found
        self.argument = argument
        self.outputs = outputs


OnRefusal = Callable[[Refusal, int], None]
"""Called with every refusal and the opcode of its call, for the log; must not raise."""


def bad_argument(arg: Arg, rule: Rule, found: str = "") -> Refusal:
    """Return the refusal of one argument.  `found` is the finding for the log; it must have no secret."""
    message = f"bad argument {arg.name} in r{arg.register}"
    return Refusal(rule, f"{message}: {found}" if found else message, status=arg.status, argument=arg.name)


class Translation(NamedTuple):
    """The answer to a refusal of the keystore: the rule, and the argument that broke it."""

    rule: Rule
    argument: str | None = None


REFUSALS: Mapping[type[KeystoreRefusal], Translation] = {
    NotFound: Translation(rules.OBJECT_EXISTS, "label"),
    Taken: Translation(rules.OBJECT_NEW),
    NoRoom: Translation(rules.SPACE),
}
"""The answers of all calls that have no row in `REFUSALS_OF`."""

REFUSALS_OF: Mapping[tuple[Opcode, type[KeystoreRefusal]], Translation] = {
    (Opcode.SET_PASSWORD, Taken): Translation(rules.PASSWORD_ONCE),
    (Opcode.GEN_PASSWORD, Taken): Translation(rules.PASSWORD_ONCE),
    (Opcode.WRAP_OBJECT, WrongKind): Translation(rules.WRAP_KEY, "label"),
    (Opcode.UNWRAP_OBJECT, NotFound): Translation(rules.UNWRAP_KEY, "input"),
    (Opcode.SIGNED_UPDATE, WrongKind): Translation(rules.UPDATE_POLICY, "policy"),
}
"""The rows of single calls."""

VERDICTS: Mapping[Verdict, Rule] = {
    Verdict.PASSWORD: rules.PASSWORD_FITS,
    Verdict.PASSWORD_UNSET: rules.VERDICT_PWSET,
    Verdict.SECURE_BOOT: rules.VERDICT_SECURE_BOOT,
    Verdict.WRAPPING_KEY: rules.VERDICT_WRAPPING_KEY,
    Verdict.REVOKED: rules.VERDICT_REVOKED,
    Verdict.IMMUTABLE: rules.VERDICT_IMMUTABLE,
    Verdict.PROVIDED: rules.VERDICT_PROVIDED,
    Verdict.NOT_A_KEY: rules.VERDICT_REVOCABLE,
}
"""The rule behind each verdict that forbids."""

_RETURNS_POLICY = frozenset(
    opcode for opcode, spec in CALLS.items() if any(output.name == "policy" for output in spec.outputs)
)
"""Calls that return the policy of an object with H_AUTHORITY, if it is the reason (choice C-17)."""


def refusal_of(call: Opcode, error: KeystoreRefusal) -> Refusal:
    """Return the answer of `call` for an error of the keystore: rule, status and argument."""
    if isinstance(error, Forbidden):
        return _forbidden(call, error)
    kind = type(error)
    rule, argument = REFUSALS_OF.get((call, kind)) or REFUSALS[kind]
    status = rule.status or (CALLS[call].arg(argument).status if argument else None)
    return Refusal(rule, str(error), status=status, argument=argument)


def aborted(error: ScarcityError) -> Refusal:
    """Return the refusal of a call for which the host lacks a resource: H_ABORTED; nothing was changed."""
    return Refusal(error.rule, error.message, status=Status.H_ABORTED)


def _forbidden(call: Opcode, error: Forbidden) -> Refusal:
    """Return H_AUTHORITY.  Add the policy if it is the reason, and if the call returns policies."""
    returned = call in _RETURNS_POLICY and error.verdict is not Verdict.PASSWORD
    outputs = CALLS[call].results(policy=error.policy or 0) if returned else ()
    return Refusal(VERDICTS[error.verdict], str(error), outputs=outputs)
