"""The one shape of every error that swpks raises: whose fault, which rule, where it is written.

A kernel engineer who meets an error wants three things: who has to change something, which rule
was broken, and the page to read.  So every exception of the project carries them as attributes,
and its text ends in them.  No error text ever holds a password, a key or object data.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Fault(Enum):
    """Who has to change something for the error to go away."""

    GUEST = "guest"
    """The code in the partition: a bad argument, a wrong password, an unmet policy."""
    PEER = "peer"
    """The program at the other end of the socket: a malformed or unexpected frame."""
    OPERATOR = "operator"
    """Whoever started or configures the emulator: an impossible size, a second server."""
    STORAGE = "storage"
    """What was stored, or the place where it is stored: damage, a full disk, a lost key."""


class SwpksError(Exception):
    """An error with its fault, rule and spec section.

    `rule` is the broken rule as a short sentence; `section` is a page of `spec/` with a heading,
    such as ``spec/protocol.md#frame-header``.
    """

    fault: ClassVar[Fault]

    def __init__(self, message: str, *, rule: str, section: str) -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.section = section

    def __str__(self) -> str:
        return f"{self.message} [{self.fault.value} fault; rule: {self.rule}; see {self.section}]"


class PeerError(SwpksError):
    """The other end of a data channel broke the protocol."""

    fault = Fault.PEER


class OperatorError(SwpksError):
    """A configuration or a command asks for something that the rules refuse."""

    fault = Fault.OPERATOR


class StorageError(SwpksError):
    """Something at rest is damaged, missing, foreign or cannot be written."""

    fault = Fault.STORAGE
