"""The errors between a client and its keystore: one exception for each cause, none with a secret.

`HcallError` is an answer: the call ran and was refused.  The others end the session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from hcall_abi.calls import CALLS, HCallSpec, Opcode
from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_abi.policies import Policy, describe
from hcall_abi.rules import hcalls as calls
from hcall_abi.rules import protocol
from hcall_abi.rules.rule import Rule
from hcall_abi.rules.service import COMMAND_SOCKET
from hcall_abi.statuses import Status, blamed_register, status_name
from hcall_client.other_ends import OtherEnd

RETRY_AFTER = {
    Status.H_BUSY: 0.001,
    Status.H_LONG_BUSY_ORDER_1_MSEC: 0.001,
    Status.H_LONG_BUSY_ORDER_10_MSEC: 0.01,
    Status.H_LONG_BUSY_ORDER_100_MSEC: 0.1,
    Status.H_LONG_BUSY_ORDER_1_SEC: 1.0,
    Status.H_LONG_BUSY_ORDER_10_SEC: 10.0,
    Status.H_LONG_BUSY_ORDER_100_SEC: 100.0,
}
"""Seconds to wait before asking again, by busy status; H_BUSY hints none, and Linux takes 1 ms."""

STATUS_RULES: Mapping[int, Rule] = {
    **dict.fromkeys(RETRY_AFTER, calls.CALL_BUSY),
    Status.H_FUNCTION: calls.FUNCTION,
    Status.H_STATE: calls.CALL_POWER,
    Status.H_R_STATE: calls.STATE_MODIFIABLE,
    Status.H_ABORTED: calls.CALL_FINISHED,
    Status.H_NOT_FOUND: calls.OBJECT_EXISTS,
    Status.H_NO_MEM: calls.SPACE,
    Status.H_AUTHORITY: calls.AUTHORITY,
    Status.H_RESOURCE: calls.OBJECT_NEW,
    Status.H_TOO_BIG: calls.OBJECT_FITS_BUFFER,
    Status.H_IN_USE: calls.PASSWORD_ONCE,
    Status.H_UNSUPPORTED: calls.WRAPPED_FORMAT,
    Status.H_BAD_DATA: calls.WRAPPED_INTACT,
    Status.H_INVALID_KEY: calls.WRAP_KEY,
    Status.H_CONTINUE: calls.LIST_CONTINUED,
}
"""The rule that a client shows for a status.

It is the server's own where the status has only one rule.  Elsewhere it covers all of them, and the server's
log has the exact one.
"""

CALL_RULES: Mapping[tuple[int, int], Rule] = {
    (Opcode.GET_OBJECTLABELS, Status.H_AUTHORITY): calls.PASSWORD_FITS,
    (Opcode.CONFIRM_OBJECT_FLUSHED, Status.H_AUTHORITY): calls.PASSWORD_FITS,
    (Opcode.UNWRAP_OBJECT, Status.H_NOT_FOUND): calls.UNWRAP_KEY,
    (Opcode.SIGNED_UPDATE, Status.H_FUNCTION): calls.FUNCTION_UPDATE,
    (Opcode.SIGNED_UPDATE, Status.H_AUTHORITY): calls.AUTHORITY_UPDATE,
    (Opcode.SIGNED_UPDATE, Status.H_NO_MEM): calls.SPACE_UPDATE,
}
"""The rule that a client shows for a status of one h-call, where `STATUS_RULES` has another."""

ADVICE: Mapping[Rule, str] = {
    calls.FUNCTION_UPDATE: "the server's log has the reason; to switch signed updates on: "
    "`swpks hmc power NAME off`, `swpks hmc set NAME keystore_signed_updates=1`, `swpks hmc power NAME on`",
    **dict.fromkeys(
        (calls.AUTHORITY_UPDATE, calls.SPACE_UPDATE, calls.ARGUMENT_RIGHT),
        "the answer of an h-call has no room for the reason: the server's log has the exact rule",
    ),
}
"""The advice for a refused SIGNED_UPDATE, by the rule that is shown: each covers many rules of the server."""

OPEN_RULES: Mapping[int, Rule] = {int(status): rule for status, rule in protocol.OPEN_RULES.items()}
"""The rule behind each answer that refuses OPEN."""

GOODBYES = {
    GoodbyeReason.DONE: "done",
    GoodbyeReason.PROTOCOL_ERROR: "protocol error",
    GoodbyeReason.IPL_OR_POWER_OFF: "IPL or power-off of the partition",
    GoodbyeReason.MIGRATED: "the partition has migrated",
    GoodbyeReason.SERVER_STOPPING: "the server is stopping",
    GoodbyeReason.IDLE_TOO_LONG: "idle too long",
    GoodbyeReason.TOO_SLOW_TO_READ: "too slow to read",
}
"""The reasons of GOODBYE in words."""

# The set has plain numbers: a later server may send an unknown number, and `Status(number)` would raise.
_STATUSES = frozenset(map(int, Status))
_WITH_POLICY = (Status.H_AUTHORITY, Status.H_TOO_BIG)


def in_flight(error: SwpksError, opcode: int) -> SwpksError:
    """Return the error of a call that was in flight when `error` ended the session.

    Only GOODBYE 3 promises that the call has not run.  After every other end the call may have run.  So the
    error of a call that changes something says that this is unknown.  This package never repeats such a call.
    """
    # If a call changes nothing, its caller may repeat it, so its error needs no warning. If the session ended
    # by GOODBYE 3 (`has_moved`), no call without an answer has run.
    spec = _spec(opcode)
    if spec is None or not spec.modifies or not isinstance(error, PeerError) or has_moved(error):
        return error
    changed = with_message(error, f"{error.message}; it is not known whether {spec.name} has run")
    changed.unknown = True
    return changed


_E = TypeVar("_E", bound=SwpksError)


def with_message(error: _E, message: str) -> _E:
    """Return an error of the same type and fields with another message."""
    # `__init__` is not called, because each class has other parameters. The error is a new object: one error
    # may end many calls, and each call gets its own message.
    changed = type(error).__new__(type(error))
    changed.__dict__.update(error.__dict__)
    changed.message, changed.args, changed.__cause__ = message, (message,), error
    return changed


def with_remedy(error: _E, remedy: str) -> _E:
    """Return an error of the same type and fields whose message ends with a remedy; `advised` is true."""
    changed = with_message(error, f"{error.message}; {remedy}")
    changed.advised, changed.__cause__ = True, error.__cause__
    return changed


def has_moved(error: BaseException | None) -> bool:
    """Return whether a session ended by GOODBYE 3.

    If so, its calls without an answer have not run.
    """
    return isinstance(error, SessionEnded) and error.reason == GoodbyeReason.MIGRATED


def printable(text: str) -> str:
    """Return a peer's text without the characters that a terminal would interpret."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class HcallError(SwpksError):
    """An h-call was refused.

    `status` is r3: a `Status`, or an int if no table has the number.  `opcode` is the h-call.  Some
    statuses mean that an argument is wrong.  Then `register` (4 to 12) is its register, and `argument` its
    name in the table.  `policy` is the object's policy word, if the answer has it.  With H_TOO_BIG, `size`
    is the size of the object in bytes.

    With a busy status, `retry_after` is the hinted wait in seconds.  If the h-call has a token, `token` is
    that of the next call.  Fields without a value are None.
    """

    def __init__(self, status: int, opcode: int, outputs: Sequence[int] = ()) -> None:
        self.status: Status | int = Status(status) if status in _STATUSES else status
        self.opcode = opcode
        self.register = blamed_register(status)
        spec = _spec(opcode)
        self.hcall = spec.name if spec else f"h-call 0x{opcode:X}"
        self.argument = _argument(spec, self.register)
        self.policy = _policy(spec, status, outputs)
        self.size = _output(spec, "size", outputs) if status == Status.H_TOO_BIG else None
        self.retry_after = RETRY_AFTER.get(Status(status)) if status in RETRY_AFTER else None
        self.token = _output(spec, "token", outputs) if self.retry_after is not None else None
        super().__init__(_rule(status, opcode), self._describe(spec))

    @property
    def facts(self) -> dict[str, object]:
        """The h-call, its status by name and number, and the further facts of the answer."""
        facts = {
            "hcall": self.hcall,
            "status": status_name(self.status),
            "r3": self.status,
            "register": self.register,
            "argument": self.argument,
            "policy": None if self.policy is None else describe(self.policy),
            "size": self.size,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _describe(self, spec: HCallSpec | None) -> str:
        text = f"{self.hcall} was refused with {status_name(self.status)}"
        if self.register is not None:
            text += f": {self.argument or 'an argument that the h-call does not have'} in r{self.register}"
            text += f" (spec/hcalls/{spec.opcode.name.lower()}.md#checks)" if spec else ""
        if self.size is not None:
            text += f"; the object has {self.size} bytes"
        if self.policy is not None:
            text += f"; policy of the object: {describe(self.policy)}"
        advice = ADVICE.get(_rule(self.status, self.opcode)) if self.opcode == Opcode.SIGNED_UPDATE else None
        return f"{text}; {advice}" if advice else text


def _rule(status: int, opcode: int) -> Rule:
    if blamed_register(status) is not None:
        return calls.ARGUMENT_RIGHT
    found = CALL_RULES.get((opcode, status)) or STATUS_RULES.get(status)
    return found or calls.STATUS_KNOWN


def _spec(opcode: int) -> HCallSpec | None:
    # `raw_call` sends any number, and `Opcode(number)` raises for an unknown one.
    return CALLS.get(Opcode(opcode)) if opcode in CALLS else None


def _argument(spec: HCallSpec | None, register: int | None) -> str | None:
    names = {arg.register: arg.name for arg in spec.args} if spec else {}
    return names.get(register) if register is not None else None


def _output(spec: HCallSpec | None, name: str, outputs: Sequence[int]) -> int | None:
    """Return the result called `name`, or None where the h-call or the answer has none."""
    for output in spec.outputs if spec else ():
        place = output.place
        if output.name == name and place < len(outputs):
            return outputs[place]
    return None


def _policy(spec: HCallSpec | None, status: int, outputs: Sequence[int]) -> Policy | None:
    """Return the policy word of a refusal; None if there is no word, or if it is 0."""
    # The register has a policy only with these two statuses (choices C-15 and C-17).
    word = _output(spec, "policy", outputs) if status in _WITH_POLICY else None
    return Policy(word & 0xFFFFFFFF) if word else None


class CallTooLarge(SwpksError):
    """A call was not sent, because the server would refuse its frame."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(protocol.CALL_SIZE, f"an h-call of {size} bytes, {limit} are the most")


class OpenRefused(SwpksError):
    """The server did not open a session; `status` is the reason, `advice` the end of the message."""

    def __init__(self, status: int, advice: str = "") -> None:
        # A later server may refuse with a status that this release does not know.
        known = status in OPEN_RULES
        self.status: int = OpenStatus(status) if known else status
        name = OpenStatus(status).name if known else f"status {status}"
        rule = OPEN_RULES.get(status, protocol.OPENED_STATUS)
        told = f"the server refused OPEN: {name}"
        super().__init__(rule, f"{told}; {advice}" if advice else told)


class NotReached(SwpksError):
    """No server of the partition was found: its place is not known, or no server listens there."""

    def __init__(self, message: str) -> None:
        super().__init__(protocol.OPEN_PLACE, f"the partition is not reached: {message}")


class WrongSocket(OperatorError):
    """A program gave a path at which there is another kind of thing than it needs.

    `found` is the kind of the thing at the path.
    """

    def __init__(self, path: str, found: OtherEnd, needed: OtherEnd, right: str) -> None:
        self.found = found
        message = f"{printable(path)} is {found.value}; needed is {needed.value}: {printable(right)}"
        super().__init__(COMMAND_SOCKET, message)


class ServerNotProven(PeerError):
    """The server does not hold the partition's access key."""

    def __init__(self) -> None:
        super().__init__(protocol.OPENED_PROOF, "the server's proof is wrong")


def _broken_rule(reason: int, text: str) -> Rule:
    """Return the rule that a GOODBYE about a protocol error names at the start of its text.

    For any other GOODBYE, and for an unknown name, it is the rule about the end of a session.
    """
    name = text.partition(":")[0]
    if reason == GoodbyeReason.PROTOCOL_ERROR:
        for each in vars(protocol).values():
            if isinstance(each, Rule) and each.id == name:
                return each
    return protocol.SESSION_OVER


class SessionEnded(PeerError):
    """The session is over, by a GOODBYE of either end; `reason` and `text` are those of the GOODBYE."""

    def __init__(self, reason: int, text: str = "") -> None:
        self.reason: int = GoodbyeReason(reason) if reason in GOODBYES else reason
        self.text = printable(text)
        words = GOODBYES[GoodbyeReason(reason)] if reason in GOODBYES else f"reason {reason}"
        message = f"the session has ended: {words}" + (f" ({self.text})" if text else "")
        super().__init__(_broken_rule(self.reason, text), message)


class ConnectionLost(PeerError):
    """The connection broke, or was closed, without a GOODBYE."""

    def __init__(self, message: str = "the server closed the connection without GOODBYE") -> None:
        super().__init__(protocol.SESSION_GOODBYE, message)
