"""The states that one partition's keystore may have after a crash, derived from its writer's calls.

There is only one writer. It makes each call through a `History`. The history predicts the answer without
code of the engine, and notes every state of the durable part of the store. Calls run in order. So after a
crash the store must equal one of these states. It must not be older than the last state that a CONFIRM has
called flushed (R-21, R-22).
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.calls import Authorization, Confirmation, HcallError, ObjectRead, Request

OVERHEAD = 32
CONSUMERS = (1, 2, 3)
LABELS = tuple(b"label %d" % n + b"." * (n * 9) for n in range(7))
WRONG = b"not the password"

TRANSIENT = int(Policy.TRANSIENT)
IMMUTABLE = int(Policy.IMMUTABLE)
PWSET = int(Policy.PWSET)
# Zero stands here four times. So half of the objects have no policy.
POLICIES = (0, 0, 0, 0, int(Policy.WORLDREADABLE), PWSET, TRANSIENT, TRANSIENT | PWSET)

Key = tuple[int, bytes]
State = dict[Key, tuple[int, bytes]]


class Foretold(NamedTuple):
    """The predicted answer to a call: its status, and the object that a READ returns.

    `at` is for a CONFIRM: the number of the state in which the label last changed.
    """

    request: Request[Any]
    status: Status
    found: tuple[int, bytes] | None = None
    at: int | None = None
    present: bool = False


def used(objects: State) -> int:
    """Return the number of bytes that these objects use, as GET_CONFIG must report it."""
    return sum(len(label) + len(data) + OVERHEAD for (_, label), (_, data) in objects.items())


class History:
    """The history of one partition of `kbytes` KiB; `chance` chooses the writer's calls."""

    def __init__(self, chance: Random, kbytes: int) -> None:
        self.memory: State = {}
        self.states: list[State] = [{}]
        self.confirmed = 0
        self.facts = 0
        """Number of CONFIRMs that were answered "flushed"."""
        self.passwords: dict[int, bytes] = {}
        self.lost_passwords: dict[int, bytes] = {}
        self._changed: dict[Key, int] = {}
        self._chance = chance
        self._room = kbytes * 1024

    def anything(self) -> Foretold:
        """Return a call that the writer may make next. The history notes its effect at once."""
        kind = self._chance.choices(_KINDS, _WEIGHTS)[0]
        return kind(self, self._chance.choice(CONSUMERS), self._chance.choice(LABELS))

    def batch(self, longest: int) -> list[Foretold]:
        """Return up to `longest` calls, which the writer sends without a wait between them."""
        return [self.anything() for _ in range(self._chance.randint(1, longest))]

    def write(self, consumer: int, label: bytes, *, policy: int | None = None, size: int = 0) -> Foretold:
        chance, key = self._chance, (consumer, label)
        if policy is None:
            policy = IMMUTABLE if chance.random() < 0.02 else chance.choice(POLICIES)
        data = chance.randbytes(size or chance.choice((1, 20, 64, 300, 3000)))
        request = calls.write_object(self._whose(consumer), label, data, policy)
        if key in self.memory:
            return Foretold(request, Status.H_RESOURCE)
        if policy & PWSET and consumer not in self.passwords:
            return Foretold(request, Status.H_AUTHORITY)
        if used(self.memory) + used({key: (policy, data)}) > self._room:
            return Foretold(request, Status.H_NO_MEM)
        self._become({**self.memory, key: (policy, data)}, key, durable=not policy & TRANSIENT)
        return Foretold(request, Status.H_SUCCESS)

    def remove(self, consumer: int, label: bytes) -> Foretold:
        request, key = calls.remove_object(self._whose(consumer), label), (consumer, label)
        if key not in self.memory:
            return Foretold(request, Status.H_NOT_FOUND)
        policy = self.memory[key][0]
        if policy & IMMUTABLE:
            return Foretold(request, Status.H_AUTHORITY)
        rest = {other: held for other, held in self.memory.items() if other != key}
        self._become(rest, key, durable=not policy & TRANSIENT)
        return Foretold(request, Status.H_SUCCESS)

    def read(self, consumer: int, label: bytes) -> Foretold:
        request = calls.read_object(self._whose(consumer), label)
        held = self.memory.get((consumer, label))
        if held is None:
            return Foretold(request, Status.H_NOT_FOUND)
        if held[0] & PWSET and consumer not in self.passwords:
            return Foretold(request, Status.H_AUTHORITY)
        return Foretold(request, Status.H_SUCCESS, found=held)

    def confirm(self, consumer: int, label: bytes) -> Foretold:
        request, key = calls.confirm_object_flushed(self._whose(consumer), label), (consumer, label)
        return Foretold(request, Status.H_SUCCESS, at=self._changed.get(key, 0), present=key in self.memory)

    @property
    def all_confirmed(self) -> bool:
        """Return whether all written changes are known to be flushed."""
        return self.confirmed == len(self.states) - 1

    def newest_confirm(self) -> Foretold:
        """Return a CONFIRM for the label that changed last."""
        return self.confirm(*max(self._changed, key=lambda key: self._changed[key]))

    def set_password(self, consumer: int, label: bytes) -> Foretold:
        password = self._chance.randbytes(self._chance.randint(1, 64))
        request = calls.set_password(consumer, password)
        if consumer in self.passwords:
            return Foretold(request, Status.H_IN_USE)
        self.passwords[consumer] = password
        return Foretold(request, Status.H_SUCCESS)

    def intrude(self, consumer: int, label: bytes) -> Foretold:
        """Return a change without the right password; the server must refuse it."""
        who = Authorization(consumer, WRONG)
        request = self._chance.choice((calls.write_object(who, label, b"x"), calls.remove_object(who, label)))
        return Foretold(request, Status.H_AUTHORITY)

    def check(self, foretold: Foretold, result: Any) -> None:
        """Assert that the result of a call, or its HcallError, is the predicted one."""
        if isinstance(result, HcallError):
            assert result.status == foretold.status, (foretold, result)
            return
        assert foretold.status == Status.H_SUCCESS, (foretold, result)
        if isinstance(result, ObjectRead):
            assert (int(result.policy), result.data) == foretold.found
        elif isinstance(result, Confirmation):
            assert foretold.at is not None
            self._learn(foretold.at, foretold.present, result)

    def found(self, state: State) -> int:
        """Accept the state that is found after a crash; return how many of the newest states were lost.

        The test fails unless the state is a noted one. It must not be older than the last confirmed state.
        """
        # A state may occur several times in the history. The newest place counts, in favour of the server.
        numbers = [n for n, each in enumerate(self.states) if each == state]
        assert numbers, f"a state that never was: {self._difference(state)}"
        assert numbers[-1] >= self.confirmed, (
            f"state {numbers[-1]} of {len(self.states)}, but {self.confirmed} was confirmed"
        )
        lost = len(self.states) - 1 - numbers[-1]
        self.memory, self.states, self.confirmed = dict(state), [dict(state)], 0
        self._changed = {}
        self._forget_passwords()
        return lost

    def opened_with(self, password: bytes) -> None:
        """Note that every consumer now has this password."""
        self.passwords = dict.fromkeys(CONSUMERS, password)

    def ipl(self) -> None:
        """Note a restart of the partition: it loses only passwords and TRANSIENT objects."""
        self.memory = {key: held for key, held in self.memory.items() if not held[0] & TRANSIENT}
        self._forget_passwords()

    def all_flushed(self) -> None:
        """Note that the server stopped in good order: the newest state is durable (R-20)."""
        self.confirmed = len(self.states) - 1

    def _forget_passwords(self) -> None:
        self.lost_passwords, self.passwords = self.passwords, {}

    def _learn(self, at: int, present: bool, confirmation: Confirmation) -> None:
        if not confirmation.flushed:
            assert at > self.confirmed, "flushed once, it is not pending again"
            return
        assert confirmation.present == present
        self.facts += 1
        self.confirmed = max(self.confirmed, at)

    def _whose(self, consumer: int) -> Authorization:
        return Authorization(consumer, self.passwords.get(consumer, b""))

    def _become(self, memory: State, key: Key, *, durable: bool) -> None:
        self.memory = memory
        if durable:
            self.states.append({key: held for key, held in memory.items() if not held[0] & TRANSIENT})
            self._changed[key] = len(self.states) - 1

    def _difference(self, state: State) -> str:
        nearest = min(self.states, key=lambda each: len(set(each.items()) ^ set(state.items())))
        return f"beside the nearest one there are {set(state) ^ set(nearest)} or other contents"


_KINDS = (
    History.write,
    History.remove,
    History.confirm,
    History.read,
    History.set_password,
    History.intrude,
)
_WEIGHTS = (8, 6, 6, 2, 0.4, 0.6)
