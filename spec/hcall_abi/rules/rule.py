"""A rule of the contract as a value: every refusal has its reason in this form.

    raise OperatorError(console.SIZE_RANGE, "2 KiB is no size for a keystore")

The exception's text, the server's log line, the HTTP problem, the client's error and the table in
spec/rules.md show the same row.  A message may hold figures, such as a limit of the firmware level; a
sentence holds none that depends on them.  So a sentence can be searched for and compared.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from hcall_abi.frames import OpenStatus
from hcall_abi.statuses import Status


class Fault(Enum):
    """Who has to change something for the error to go away."""

    GUEST = "guest"
    """The code in the partition: a bad argument, a wrong password, an unmet policy."""
    PEER = "peer"
    """The program at the other end of the socket: a malformed or unexpected frame or request."""
    OPERATOR = "operator"
    """The person who starts or configures the emulator: an impossible size, a second server."""
    STORAGE = "storage"
    """Stored records, or the place where they are stored: damage, a full disk, a lost key."""
    INTERNAL = "internal"
    """The emulator itself: a bug."""


# Not a status: the same rule is H_P2 in one call and H_P5 in another.
class Positional(Enum):
    """Marks rules about one argument of an h-call."""

    ARGUMENT = "status of the argument's register"
    """Breaking the rule is answered with H_PARAMETER for r4, H_P2 for r5, up to H_P9 for r12."""


Answer = Status | Positional | OpenStatus | Fault
"""The answer to a broken rule.

A status or a position answers an h-call, an OPEN status answers OPEN.  All other rules have the fault.
"""


# A named tuple: a frozen dataclass takes 0.5 ms longer to define, and every client loads this module.
class Rule(NamedTuple):
    """One rule: its stable id, the sentence that has to be true, its place in `spec/`, and the answer if not.

    `page` is a page with a heading, such as ``spec/protocol.md#framing``.  `code` is the message number
    of the real management console, where it has one.  `argument` is the name of the argument that a
    positional rule of one h-call is about.
    """

    # The id is for programs and never changes. The sentence is for people; it states a condition, and
    # not a failure, so one text fits the log, the page and the answer.
    id: str
    sentence: str
    page: str
    answer: Answer
    code: str | None = None
    argument: str | None = None

    @property
    def fault(self) -> Fault:
        """Who has to change something: the guest for an h-call, the operator for an OPEN."""
        if isinstance(self.answer, Fault):
            return self.answer
        # Partition, access key, power and places at OPEN are all set by an operator; the guest can't
        # change them.
        return Fault.OPERATOR if isinstance(self.answer, OpenStatus) else Fault.GUEST

    @property
    def status(self) -> Status | None:
        """The status that a broken rule returns, or None.

        None for a rule about one argument, whose place decides, and for a rule that no h-call can break.
        """
        return self.answer if isinstance(self.answer, Status) else None
