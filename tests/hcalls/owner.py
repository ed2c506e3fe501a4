"""The operating system of a partition for which the console allows signed updates."""

from __future__ import annotations

from collections.abc import Mapping

from hcall_abi.calls import Opcode
from hcall_client.guests import authvar
from tests.guest import ALL_CALLS, SYSTEM, Answer, Guest, auth_block, make_partition
from tests.secvar.keys import BEFORE, kek, pk, update

PASSWORD = b"the right password, of 32 bytes."
H_NOT_FOUND = -7
ARMED = ALL_CALLS


def first_pk() -> bytes:
    """Return an unsigned update of PK."""
    return authvar.payload(BEFORE, b"no PKCS#7", pk().lists)


class Owner(Guest):
    """The operating system, with its password set."""

    def __init__(self, attributes: Mapping[str, int] = ARMED, **how) -> None:
        super().__init__(make_partition(attributes=attributes, **how))
        assert self.set_password(SYSTEM, PASSWORD) == Answer(0)

    def update(
        self, name: str, payload: bytes, *, flags: int = 0, policy: int | None = None, **other
    ) -> Answer:
        """Send SIGNED_UPDATE as Linux does. The arguments in `other` replace those of Linux."""
        usual = {
            "authorization": auth_block(SYSTEM, PASSWORD),
            "label": authvar.variable_label(name),
            "policy": authvar.variable_policy(name) if policy is None else policy,
            "flags": flags,
            "data": payload,
            "token": 0,
        }
        return self.do(Opcode.SIGNED_UPDATE, **{**usual, **other})

    def stored(self, name: str) -> bytes | None:
        """Return the data of READ, or None if the variable does not exist."""
        answer = self.read(SYSTEM, authvar.variable_label(name), password=PASSWORD)
        assert answer.status in {0, H_NOT_FOUND}
        return None if answer.status else answer.written

    def confirmed(self, name: str) -> Answer:
        """Call CONFIRM_OBJECT_FLUSHED for a variable."""
        return self.confirm(SYSTEM, authvar.variable_label(name), password=PASSWORD)

    def flush(self) -> None:
        """Make everything durable."""
        keystore = self.partition.keystore
        assert keystore is not None
        keystore.contents.mark_flushed(keystore.contents.generation)

    def picture(self) -> object:
        """Return all state that a refusal must not change."""
        keystore = self.partition.keystore
        assert keystore is not None
        return (
            keystore.contents.snapshot(),
            keystore.contents.used,
            keystore.contents.generation,
            self.partition.attributes,
        )


def set_up() -> Owner:
    """Return a guest with PK and KEK, whose latch is used up."""
    guest = Owner()
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.update("KEK", update("KEK", kek().lists)) == Answer(0)
    return guest
