"""A rule of the contract as a value: every refusal has its reason in this form.

    raise OperatorError(console.SIZE_RANGE, "2 KiB is no size for a keystore")

The same row is shown in many places: an exception, the server's log, an HTTP problem, the client's error,
the table in spec/rules.md. A message may have figures of its case, such as a limit of the firmware level.
The sentence of a rule has no such figure. It is the same text in every case, so it can be searched for and
compared.
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


# A mark stands here instead of a status: the same rule is H_P2 in one call and H_P5 in another.
class Positional(Enum):
    """Marks rules about one argument of an h-call."""

    ARGUMENT = "status of the argument's register"
    """Breaking the rule is answered with H_PARAMETER for r4, H_P2 for r5, up to H_P9 for r12."""


Answer = Status | Positional | OpenStatus | Fault
"""The answer to a broken rule.

A status or a position answers an h-call, an OPEN status answers OPEN.  All other rules have the fault.
"""


# A rule is a named tuple: a frozen dataclass takes 0.5 ms longer to define, and every client loads this
# module.
class Rule(NamedTuple):
    """One rule: its stable id, the sentence that has to be true, its page, and the answer if it is not true.

    `page` is a page with a heading, such as ``spec/protocol.md#framing``. `code` is the message number of
    the real management console, where it has one. If a positional rule belongs to only one h-call,
    `argument` is the name of the argument.
    """

    # The id is for programs, and never changes. The sentence is for people. It states a condition and no
    # failure, so the same text fits the log, the page and the answer.
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
        # OPEN may be refused because of the version, the partition, its access key, its power, or the bound
        # of sessions. The guest can change none of these; all but the version are set by an operator.
        return Fault.OPERATOR if isinstance(self.answer, OpenStatus) else Fault.GUEST

    @property
    def status(self) -> Status | None:
        """The status that an h-call returns if it breaks the rule, or None.

        It is None for a rule about one argument, because the status then depends on the argument's place.
        It is None too for a rule that no h-call can break.
        """
        return self.answer if isinstance(self.answer, Status) else None
