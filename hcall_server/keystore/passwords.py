"""The ephemeral passwords of the three consumers (R-04).

    state   event                     leads to
    unset   set or generate           set
    set     set or generate           set, refused with H_IN_USE
    any     IPL                       unset

There is no way back from set to unset but an IPL, and nothing here is ever persisted.
"""

from __future__ import annotations

from hmac import compare_digest

from hcall_abi.consumers import Consumer
from hcall_abi.statuses import Status
from hcall_server.keystore.authority import PasswordState
from hcall_server.keystore.refusal import Refusal

# Looking a member up on its class costs more than calling a function, and this is on every call's way.
_UNSET, _UNSET_PRESENTED = PasswordState.UNSET, PasswordState.UNSET_PRESENTED
_MATCHED, _MISSING, _WRONG = PasswordState.MATCHED, PasswordState.MISSING, PasswordState.WRONG


class Passwords:
    """The passwords of one partition in one IPL."""

    def __init__(self) -> None:
        self._passwords: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"Passwords(set for {sorted(self._passwords)})"

    def is_set(self, consumer: Consumer) -> bool:
        """Whether the consumer has set a password in this IPL."""
        return consumer in self._passwords

    def fits(self, consumer: Consumer, presented: bytes) -> bool:
        """Whether a call presents the password that is set, or none where none is set."""
        return compare_digest(self._passwords.get(consumer, b""), presented)

    def state(self, consumer: Consumer, presented: bytes) -> PasswordState:
        """Compare what a call presents with what is set; empty means none.

        The time tells nothing of the bytes; it may tell whether the length is right.
        """
        actual = self._passwords.get(consumer)
        if actual is None:
            return _UNSET_PRESENTED if presented else _UNSET
        if not presented:
            return _MISSING
        equal = compare_digest(presented, actual)
        return _MATCHED if equal else _WRONG

    def set(self, consumer: Consumer, password: bytes) -> None:
        """Set a consumer's password; Refusal (H_IN_USE) when it has one in this IPL."""
        if consumer in self._passwords:
            raise Refusal(
                Status.H_IN_USE,
                f"the {consumer.name} consumer already has a password",
                rule="a consumer's password is set once in an IPL",
                section="spec/policies.md#passwords",
            )
        self._passwords[consumer] = password

    def reset(self) -> None:
        """Forget all passwords, as every IPL does."""
        self._passwords.clear()
