"""The base class of every error that swpks raises: a message, and the rule that was broken.

An engineer who gets an error needs three facts: whose fault it is, which rule was broken, and the page to
read.  All three are in the row of the rule (`hcall_abi.rules`), and the text of an exception ends in them.
No error text ever holds a password, a key or object data.
"""

from __future__ import annotations

from hcall_abi.rules.rule import Fault, Rule


class SwpksError(Exception):
    """A broken rule: `rule` is its row, `message` is the finding of this case.

    The text begins with the message number of the real console, where the rule has one. If `advised` is
    true, the message has a remedy already. Then the program that prints the error does not add the rule's
    remedy (`hcall_abi.remedies`).
    """

    def __init__(self, rule: Rule, message: str, *, advised: bool = False) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.advised = advised

    @property
    def fault(self) -> Fault:
        """The party that has to change something, so that the error does not occur again."""
        return self.rule.fault

    @property
    def facts(self) -> dict[str, object]:
        """Facts of this case beside the rule, by their names in JSON."""
        return {}

    def __str__(self) -> str:
        rule = self.rule
        text = f"{rule.code}: {self.message}" if rule.code else self.message
        return f"{text} [{rule.fault.value} fault; rule {rule.id}: {rule.sentence}; see {rule.page}]"


class PeerError(SwpksError):
    """The other end of a data channel broke the protocol, or the session is over.

    `unknown` is true for a call that was in flight, may have run, and would have changed something.
    """

    unknown = False


class OperatorError(SwpksError):
    """A configuration or a command breaks a rule."""


class StorageError(SwpksError):
    """A stored record or file is damaged, missing, foreign or cannot be written."""


class LaterLevelError(StorageError):
    """A stored record or file has a level of a later release.  It is neither repaired nor replaced."""


class ScarcityError(SwpksError):
    """The host lacks a resource: descriptors, memory, threads, random bytes, space.  Nothing was changed.

    The same request may succeed later.
    """


class RuleBroken(SwpksError):
    """A signed update breaks one of its rules (`hcall_abi.rules.updates`)."""
