"""The refusals of a keystore.  A refused operation has changed nothing.

The keystore knows no statuses.  A table in `hcall_server.hcalls.refusals` has the status and the registers
for each refusal.
"""

from __future__ import annotations

from hcall_server.keystore.authority import Verdict


class KeystoreRefusal(Exception):
    """An operation was refused; the text is the finding."""


class Forbidden(KeystoreRefusal):
    """The password or a policy forbids the call.

    `policy` is the policy word of the object, None if the call is about no existing object.
    """

    def __init__(self, verdict: Verdict, policy: int | None) -> None:
        by_password = verdict is Verdict.PASSWORD
        super().__init__(
            "the password does not fit" if by_password else "the policy of the object forbids it"
        )
        self.verdict = verdict
        self.policy = policy


class NotFound(KeystoreRefusal):
    """There is no such object of this consumer."""


class Taken(KeystoreRefusal):
    """The place of a new object or password is taken."""


class NoRoom(KeystoreRefusal):
    """The store has too few free bytes."""


class WrongKind(KeystoreRefusal):
    """The object is not of the kind that the operation needs."""
