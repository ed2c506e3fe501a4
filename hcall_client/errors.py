"""What can go wrong between a client and its keystore: one exception a cause, none with a secret.

`HcallError` is an answer: the call ran and was refused.  The others end the session.
"""

from __future__ import annotations

from collections.abc import Sequence

from hcall_abi.calls import CALLS, HCallSpec, Opcode
from hcall_abi.errors import Fault, PeerError, SwpksError
from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_abi.policies import Policy, describe
from hcall_abi.statuses import FIRST_ARGUMENT_REGISTER, Status, blamed_register, status_name

_AGAIN = "a busy hypervisor is asked again later"

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

RULES = {
    **dict.fromkeys(RETRY_AFTER, _AGAIN),
    Status.H_FUNCTION: "the partition has a keystore, and its firmware level has this h-call",
    Status.H_STATE: "the partition is activated",
    Status.H_R_STATE: "nothing is modified while the partition's state forbids it",
    Status.H_ABORTED: "the hypervisor could finish the call",
    Status.H_NOT_FOUND: "the label names an object of this consumer",
    Status.H_NO_MEM: "label, data and overhead of all objects stay within the store",
    Status.H_AUTHORITY: "the consumer's password fits, and the policy of the object is met",
    Status.H_RESOURCE: "a write never overwrites; remove the object first",
    Status.H_TOO_BIG: "the object fits into the buffer",
    Status.H_IN_USE: "a consumer's password is set once in an IPL",
    Status.H_UNSUPPORTED: "the wrapped object has a format that this hypervisor knows",
    Status.H_BAD_DATA: "the wrapped object is as WRAP made it, to the bit",
    Status.H_INVALID_KEY: "the key fits the wrapping algorithm",
    Status.H_CONTINUE: "a list is asked for with the token of its last part",
}
"""What each status says was not so, as a rule; the server's log tells the exact one."""

_UPDATE_RULE = f"{RULES[Status.H_AUTHORITY]}; or the update breaks a rule, which the server's log names"

OPEN_RULES = {
    OpenStatus.NO_SUCH_PARTITION: "the partition id is 0 or one that this listener serves",
    OpenStatus.NOT_AUTHORISED: "a proof with the partition's access key, where one is demanded",
    OpenStatus.NOT_ACTIVATED: "the partition is powered on",
    OpenStatus.VERSION_NOT_SUPPORTED: "both ends speak protocol version 1",
    OpenStatus.TOO_MANY_SESSIONS: "the partition has a session to spare",
}
"""What each answer to OPEN says was not so."""

GOODBYES = {
    GoodbyeReason.DONE: "done",
    GoodbyeReason.PROTOCOL_ERROR: "protocol error",
    GoodbyeReason.IPL_OR_POWER_OFF: "IPL or power-off of the partition",
    GoodbyeReason.MIGRATED: "the partition has migrated",
    GoodbyeReason.SERVER_STOPPING: "the server is stopping",
    GoodbyeReason.IDLE_TOO_LONG: "idle too long",
    GoodbyeReason.TOO_SLOW_TO_READ: "too slow to read",
}
"""Why a session was ended, in words."""

_TELLS_POLICY = (Status.H_AUTHORITY, Status.H_TOO_BIG)


def printable(text: str) -> str:
    """Return a peer's text with everything that could upset a terminal replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class HcallError(SwpksError):
    """An h-call was refused.

    `status` is r3 and `opcode` the h-call.  Where the status blames an argument by its position,
    `register` (4 to 12) and `argument` (its name in the table) say which.  `policy` is the
    object's policy word where the answer tells it, and `size` the size of the object in bytes
    with H_TOO_BIG; both are None elsewhere.  With a busy status `retry_after` is the hinted wait in
    seconds, and `token` what the next call goes on with where the h-call has a token.
    """

    fault = Fault.GUEST

    def __init__(self, status: int, opcode: int, outputs: Sequence[int] = ()) -> None:
        self.status = status
        self.opcode = opcode
        self.register = blamed_register(status)
        spec = _spec(opcode)
        self.hcall = spec.name if spec else f"h-call 0x{opcode:X}"
        self.argument = _argument(spec, self.register)
        self.policy = _policy(spec, status, outputs)
        self.size = outputs[0] if status == Status.H_TOO_BIG and outputs else None
        self.retry_after = RETRY_AFTER.get(Status(status)) if status in RETRY_AFTER else None
        self.token = _output(spec, "token", outputs) if self.retry_after is not None else None
        self._of_update = status == Status.H_AUTHORITY and opcode == Opcode.SIGNED_UPDATE
        anchor = "rules" if self._of_update else "checks"
        place = f"{spec.opcode.name.lower()}.md#{anchor}" if spec else "index.md#order-of-checks"
        super().__init__(self._describe(), rule=self._rule(), section=f"spec/hcalls/{place}")

    def _describe(self) -> str:
        text = f"{self.hcall} was refused with {status_name(self.status)}"
        if self.register is not None:
            text += f": {self.argument or 'an argument that the h-call does not have'} in r{self.register}"
        if self.size is not None:
            text += f"; the object has {self.size} bytes"
        if self.policy is not None:
            text += f"; policy of the object: {describe(self.policy)}"
        return text

    def _rule(self) -> str:
        if self._of_update:
            return _UPDATE_RULE
        if self.register is not None:
            return f"{self.argument or 'every argument'} is what the page of the h-call says"
        return RULES.get(Status(self.status), _UNKNOWN) if self.status in RULES else _UNKNOWN


_UNKNOWN = "the status is listed on the page of the h-call"


def _spec(opcode: int) -> HCallSpec | None:
    return CALLS.get(Opcode(opcode)) if opcode in CALLS else None


def _argument(spec: HCallSpec | None, register: int | None) -> str | None:
    names = {arg.register: arg.name for arg in spec.args} if spec else {}
    return names.get(register) if register is not None else None


def _output(spec: HCallSpec | None, name: str, outputs: Sequence[int]) -> int | None:
    """Return the result called `name`, or None where the h-call or the answer has none."""
    for output in spec.outputs if spec else ():
        place = output.register - FIRST_ARGUMENT_REGISTER
        if output.name == name and place < len(outputs):
            return outputs[place]
    return None


def _policy(spec: HCallSpec | None, status: int, outputs: Sequence[int]) -> Policy | None:
    """Return the policy word that goes with a refusal; a word of 0 tells nothing."""
    word = _output(spec, "policy", outputs) if status in _TELLS_POLICY else None
    return Policy(word & 0xFFFFFFFF) if word else None


class CallTooLarge(SwpksError):
    """A call was not sent, because the server would refuse its frame."""

    fault = Fault.GUEST

    def __init__(self, size: int, limit: int) -> None:
        rule = f"the body of a frame has at most {limit} bytes at this server"
        super().__init__(f"an h-call of {size} bytes", rule=rule, section="spec/protocol.md#framing")


class OpenRefused(SwpksError):
    """The server did not open a session; `status` says why."""

    fault = Fault.OPERATOR

    def __init__(self, status: int) -> None:
        known = status in OPEN_RULES
        self.status: int = OpenStatus(status) if known else status
        name = OpenStatus(status).name if known else f"status {status}"
        rule = OPEN_RULES[OpenStatus(status)] if known else "the status of OPENED is 0 to 5"
        super().__init__(f"the server refused OPEN: {name}", rule=rule, section="spec/protocol.md#opened")


class ServerNotProven(PeerError):
    """The server does not hold the partition's access key."""

    def __init__(self) -> None:
        rule = "a client that gives a proof gets one back"
        super().__init__("the server's proof is wrong", rule=rule, section="spec/protocol.md#proof")


class SessionEnded(PeerError):
    """The session is over, by a GOODBYE of either end; `reason` and `text` are that frame's."""

    def __init__(self, reason: int, text: str = "") -> None:
        self.reason: int = GoodbyeReason(reason) if reason in GOODBYES else reason
        self.text = printable(text)
        words = GOODBYES[GoodbyeReason(reason)] if reason in GOODBYES else f"reason {reason}"
        message = f"the session has ended: {words}" + (f" ({self.text})" if text else "")
        super().__init__(message, rule="no frame follows GOODBYE", section="spec/protocol.md#goodbye")


class ConnectionLost(PeerError):
    """The connection broke, or was closed, without a GOODBYE."""

    def __init__(self, message: str = "the server closed the connection without GOODBYE") -> None:
        rule = "a session ends with GOODBYE"
        super().__init__(message, rule=rule, section="spec/protocol.md#goodbye")
