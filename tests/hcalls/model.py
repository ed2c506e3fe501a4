"""A partition's keystore as a plain model: dictionaries, the oracle's answers, and the unflushed changes.

It has neither generations nor registers. The state machine of the tests compares every answer of the engine
with the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swpks.conformance.oracle import GRANTED, UNTIL_IPL, WRAPPING_KEY, Presented, answer
from swpks.conformance.oracle import MatrixRow as Row
from swpks.conformance.oracle import OracleCall as Call
from tests.guest import OVERHEAD

NO_MEM, TOO_BIG = -9, -64
Key = tuple[int, bytes]


@dataclass
class Model:
    """One partition; `total` in bytes, `level` the name of its firmware level."""

    total: int
    level: str
    mode: int = 0
    objects: dict[Key, tuple[int, bytes]] = field(default_factory=dict)
    passwords: dict[int, bytes] = field(default_factory=dict)
    unflushed: list[Key] = field(default_factory=list)
    """The object of each change since the last flush, oldest first."""
    made: int = 0
    """The number of wrapping keys that were made. Its 32 bytes stand for the key, which no call returns."""

    @property
    def used(self) -> int:
        return sum(len(label) + len(data) + OVERHEAD for (_, label), (_, data) in self.objects.items())

    @property
    def persistent(self) -> dict[Key, tuple[int, bytes]]:
        return {key: held for key, held in self.objects.items() if not held[0] & UNTIL_IPL}

    def set_password(self, owner: int, password: bytes) -> int:
        status = self._judge(Call.SET_PASSWORD, owner, b"", b"")[0]
        if status == GRANTED:
            self.passwords[owner] = password
        return status

    def write(self, owner: int, label: bytes, data: bytes, policy: int, password: bytes) -> int:
        status = self._judge(Call.WRITE, owner, label, password, asked=policy)[0]
        if status == GRANTED and self.used + len(label) + len(data) + OVERHEAD > self.total:
            status = NO_MEM
        if status == GRANTED:
            self.objects[owner, label] = policy, data
            self._changed((owner, label), policy)
        return status

    def gen_key(self, owner: int, label: bytes, policy: int, password: bytes) -> int:
        """Make a wrapping key, or a key of 32 bytes. `returned` sets the bytes of the latter."""
        status = self._judge(Call.KEY, owner, label, password, asked=policy)[0]
        if status == GRANTED and self.used + len(label) + 32 + OVERHEAD > self.total:
            status = NO_MEM
        if status == GRANTED:
            self.made += 1
            self.objects[owner, label] = policy, self.made.to_bytes(32, "big")
            self._changed((owner, label), policy)
        return status

    def returned(self, owner: int, label: bytes, key: bytes) -> None:
        """Set the bytes of a key that is not a wrapping key."""
        policy, _ = self.objects[owner, label]
        self.objects[owner, label] = policy, key

    def set_revoked(self, call: Call, owner: int, label: bytes, password: bytes) -> tuple[int, int]:
        status, shown = self._judge(call, owner, label, password)
        if status == GRANTED:
            policy, data = self.objects[owner, label]
            self.objects[owner, label] = shown, data
            if shown != policy:
                self._changed((owner, label), policy)
        return status, shown

    def wrap(self, owner: int, label: bytes, password: bytes) -> tuple[int, bytes]:
        """Return the status of WRAP, and the bytes that stand for the key in the model."""
        status = self._judge(Call.WRAP, owner, label, password)[0]
        return status, self.objects[owner, label][1] if status == GRANTED else b""

    def unwrap(self, owner: int, key: bytes, wrapped: int, password: bytes) -> int:
        """Return the status of UNWRAP for an object that was wrapped with a key under a policy."""
        found = [
            label
            for (consumer, label), (policy, data) in self.objects.items()
            if consumer == owner and policy & WRAPPING_KEY and data == key
        ]
        return self._judge(Call.UNWRAP, owner, found[0] if found else b"", password, wrapped=wrapped)[0]

    def read(self, owner: int, label: bytes, room: int, password: bytes) -> tuple[int, int, int, bytes]:
        status, shown = self._judge(Call.READ, owner, label, password)
        if status != GRANTED:
            return status, 0, shown, b""
        policy, data = self.objects[owner, label]
        fits = len(data) <= room
        return GRANTED if fits else TOO_BIG, len(data), policy, data if fits else b""

    def remove(self, owner: int, label: bytes, password: bytes) -> int:
        status = self._judge(Call.REMOVE, owner, label, password)[0]
        if status == GRANTED:
            policy, _ = self.objects.pop((owner, label))
            self._changed((owner, label), policy)
        return status

    def confirm(self, owner: int, label: bytes, password: bytes) -> tuple[int, int]:
        status = self._judge(Call.CONFIRM, owner, label, password)[0]
        if status == -10:
            return status, 0
        return (GRANTED, 0) if (owner, label) in self.unflushed else (status, 1)

    def labels(self, owner: int, password: bytes) -> list[bytes] | None:
        if self._judge(Call.LIST, owner, b"", password)[0] != GRANTED:
            return None
        return [label for consumer, label in self.objects if consumer == owner]

    def ipl(self, mode: int) -> None:
        self.objects, self.passwords, self.mode = self.persistent, {}, mode

    def _changed(self, key: Key, policy: int) -> None:
        if not policy & UNTIL_IPL:
            self.unflushed.append(key)

    def _judge(
        self,
        call: Call,
        owner: int,
        label: bytes,
        password: bytes,
        asked: int | None = None,
        wrapped: int = 0,
    ) -> tuple[int, int]:
        held = self.objects.get((owner, label))
        word = asked if asked is not None else held[0] if held else 0
        right = self.passwords.get(owner)
        shown = Presented.RIGHT if password == right else Presented.WRONG if password else Presented.NOTHING
        row = Row(
            call, owner, word, right is not None, shown, self.mode, held is not None, self.level, wrapped
        )
        return answer(row)
