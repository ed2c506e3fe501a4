"""The calls of one partition in a round of races, for the checker of `swpks.testing.simulation.linear`.

In a round, several connections make a few calls each. The model must explain every observed answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from swpks.testing.simulation.linear import NotLinearizable
from swpks.testing.simulation.linear import outcomes as search
from tests.hcalls.model import Model

__all__ = ["Call", "NotLinearizable", "State", "confirmed", "freeze", "outcomes", "thaw"]

LEVEL = "FW1110"
State = tuple[frozenset[Any], tuple[Any, ...], tuple[Any, ...]]
"""A model as a value: objects, passwords, and the keys of unflushed changes, oldest first."""


class Call(NamedTuple):
    """An observed call. `legal` applies it to a model and returns whether the answer is allowed.

    `called` and `answered` are moments of one clock.
    """

    words: str
    legal: Callable[[Model, Any], bool]
    called: int
    answered: int
    answer: Any

    def __str__(self) -> str:
        return f"{self.called:4} to {self.answered:4}: {self.words} -> {self.answer!r:.60}"


def outcomes(lanes: Sequence[Sequence[Call]], starts: Iterable[State], total: int) -> set[State]:
    """Return every state that the partition may have after a round.

    `lanes` has the calls of each connection in order; the partition has `total` bytes. If no order explains
    the answers, raise NotLinearizable.
    """

    def step(state: State, call: Call) -> Iterator[State]:
        model = thaw(state, total)
        if call.legal(model, call.answer):
            yield freeze(model)

    return search(lanes, starts, step)


def thaw(state: State, total: int) -> Model:
    """Return a new model that has this state. The caller may change the model."""
    objects, passwords, unflushed = state
    return Model(total, LEVEL, 0, dict(objects), dict(passwords), list(unflushed))


def freeze(model: Model) -> State:
    """Return the state of a model. Of several changes of one label, only the last counts."""
    newest = dict.fromkeys(reversed(model.unflushed))
    unflushed = tuple(reversed(newest))
    return frozenset(model.objects.items()), tuple(sorted(model.passwords.items())), unflushed


def confirmed(model: Model, owner: int, label: bytes, password: bytes, answer: tuple[int, int]) -> bool:
    """Return whether the answer to a CONFIRM is allowed. Flushes are ordered, and may end at any time.

    "Flushed" includes all older changes, and a flushed change is never pending again.
    """
    expected = model.confirm(owner, label, password)
    pending = (owner, label) in model.unflushed
    if answer == expected or not pending or expected[0] < 0:
        return answer == expected
    last = len(model.unflushed) - 1 - model.unflushed[::-1].index((owner, label))
    before, model.unflushed = model.unflushed, model.unflushed[last + 1 :]
    if answer == model.confirm(owner, label, password):
        return True
    model.unflushed = before
    return False
