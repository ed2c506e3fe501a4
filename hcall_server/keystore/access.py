"""Access control: passwords, secure-boot mode, and the only caller of the authorisation decision."""

# Every operation on objects runs the same steps, in this order (`authority.py` has the reasons):
#
#   1. `AccessControl.state` compares the presented password with the consumer's.  That happens once and
#      first, so the time that it takes depends on no label and no object.
#   2. `AccessControl.demand`, with None for the policy, raises Forbidden if the password does not fit.
#      `enter` is steps 1 and 2 together.
#   3. The operation finds its object.  If there is none, it raises NotFound.
#   4. `AccessControl.demand`, with the policy of the object, raises Forbidden if that is not met.
#   5. The operation changes the contents, which may find no room.
#
# READ leaves step 2 out if it finds an object, because every caller may read a world-readable object.
#
# Passwords are ephemeral and never persisted:
#
#     state   event                     leads to
#     unset   set or generate           set
#     set     set or generate           set; the event is refused
#     any     IPL                       unset

from __future__ import annotations

from hmac import compare_digest
from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_server.keystore.authority import PasswordState, Verdict, authorise
from hcall_server.keystore.refusals import Forbidden, Taken

_ALLOWED = Verdict.ALLOWED
# Every h-call needs these members.  A look-up on the Enum class costs more than a function call.
_UNSET, _UNSET_PRESENTED = PasswordState.UNSET, PasswordState.UNSET_PRESENTED
_MATCHED, _MISSING, _WRONG = PasswordState.MATCHED, PasswordState.MISSING, PasswordState.WRONG


class Credentials(NamedTuple):
    """The consumer whose objects a call names, and the password that it presents; empty: none."""

    consumer: Consumer
    password: bytes

    def __repr__(self) -> str:
        presented = f"<{len(self.password)} bytes>" if self.password else "none"
        return f"Credentials({self.consumer.name}, password {presented})"


class Passwords:
    """The passwords of one partition in one IPL."""

    def __init__(self) -> None:
        self._passwords: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"Passwords(set for {sorted(self._passwords)})"

    def state(self, who: Credentials) -> PasswordState:
        """Compare the password of a call with the consumer's; empty means none.

        The time depends on the length of the presented password, but not on its bytes.
        """
        # A wrong password causes no delay.  An h-call never waits, so a delay would stop every partition.
        consumer, presented = who
        actual = self._passwords.get(consumer)
        if actual is None:
            return _UNSET_PRESENTED if presented else _UNSET
        if not presented:
            return _MISSING
        return _MATCHED if compare_digest(presented, actual) else _WRONG

    def set(self, consumer: Consumer, password: bytes) -> None:
        """Set a consumer's password; Taken if the consumer already has one in this IPL."""
        # A set password cannot be changed, not even by its holder.  The public sources do not decide this;
        # it is our choice C-4.
        if consumer in self._passwords:
            raise Taken(f"the {consumer.name} consumer already has a password")
        self._passwords[consumer] = password

    def items(self) -> list[tuple[int, bytes]]:
        """Return pairs of a consumer and its password, for a partition that moves."""
        return sorted(self._passwords.items())

    def take(self, consumer: int, password: bytes) -> None:
        """Set a password that was set on another system; a live migration is no IPL."""
        self._passwords[consumer] = password

    def reset(self) -> None:
        """Unset all passwords, as every IPL does."""
        self._passwords.clear()


class AccessControl:
    """The passwords and the secure-boot mode of one IPL, and the checks against them."""

    def __init__(self, secure_boot: SecureBoot) -> None:
        self.secure_boot = secure_boot
        self.passwords = Passwords()
        self.state = self.passwords.state

    def __repr__(self) -> str:
        return f"AccessControl({self.passwords!r}, {self.secure_boot.name})"

    def ipl(self, secure_boot: SecureBoot) -> None:
        """Start a new IPL: no passwords, and this secure-boot mode."""
        self.secure_boot = secure_boot
        self.passwords.reset()

    def enter(self, call: Opcode, who: Credentials) -> PasswordState:
        """Return the state of the password.  Forbidden if the password alone forbids `call`."""
        state = self.state(who)
        self.demand(call, state, None)
        return state

    def demand(self, call: Opcode, state: PasswordState, policy: int | None) -> None:
        """Raise Forbidden if the password or the policy forbids `call`.

        `policy` is the policy word of the object, None if the call is about no existing object.
        """
        verdict = authorise(call, policy, state, self.secure_boot)
        if verdict is not _ALLOWED:
            raise Forbidden(verdict, policy)
