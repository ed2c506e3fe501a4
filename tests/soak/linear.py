"""A linearizability checker (Wing and Gong, with the memory of Lowe) for the calls of one partition.

A round is a few calls on several connections, each with the moments of its call and of its answer. It is
linearizable if the calls can be put in an order that keeps every "answered before called", and the order
within each connection, such that the model gives every answer that was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tests.hcalls.model import Model

LEVEL = "FW1110"
State = tuple[frozenset[Any], tuple[Any, ...], tuple[Any, ...]]
"""A model that can be compared: objects, passwords, and the keys that are not flushed, oldest first."""


class Call(NamedTuple):
    """A call as it was seen; `legal` applies it to a model and says if the answer is one that may come.

    `called` and `answered` are moments of one clock.
    """

    words: str
    legal: Callable[[Model, Any], bool]
    called: int
    answered: int
    answer: Any


class NotLinearizable(AssertionError):
    """No order of the calls explains the answers."""


def outcomes(lanes: Sequence[Sequence[Call]], starts: Iterable[State], total: int) -> set[State]:
    """Return every state that the partition may be in after a round; NotLinearizable if there is none.

    `lanes` has the calls of each connection in order; the partition has `total` bytes.
    """
    done = tuple(len(lane) for lane in lanes)
    todo = [((0,) * len(lanes), start) for start in starts]
    seen, ends = set(todo), set[State]()
    while todo:
        at, state = todo.pop()
        if at == done:
            ends.add(state)
            continue
        heads = [lane[n] for lane, n in zip(lanes, at, strict=True) if n < len(lane)]
        first = min(call.answered for call in heads)
        for number, (lane, n) in enumerate(zip(lanes, at, strict=True)):
            if n == len(lane) or lane[n].called > first:
                continue
            model = thaw(state, total)
            if lane[n].legal(model, lane[n].answer):
                step = (*at[:number], n + 1, *at[number + 1 :]), freeze(model)
                if step not in seen:
                    seen.add(step)
                    todo.append(step)
    if not ends:
        calls = sorted((call for lane in lanes for call in lane), key=_called)
        raise NotLinearizable("\n".join(map(_shown, calls)))
    return ends


def thaw(state: State, total: int) -> Model:
    """Return a model in a state, which the caller may change."""
    objects, passwords, unflushed = state
    return Model(total, LEVEL, 0, dict(objects), dict(passwords), list(unflushed))


def freeze(model: Model) -> State:
    """Return the state of a model. Of the changes of one label only the last one counts."""
    newest = dict.fromkeys(reversed(model.unflushed))
    unflushed = tuple(reversed(newest))
    return frozenset(model.objects.items()), tuple(sorted(model.passwords.items())), unflushed


def confirmed(model: Model, owner: int, label: bytes, password: bytes, answer: tuple[int, int]) -> bool:
    """Judge a CONFIRM. A flush may end at any time, so only the order of flushes is determined.

    "Flushed" takes all older changes with it, and nothing flushed is pending again.
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


def _called(call: Call) -> int:
    return call.called


def _shown(call: Call) -> str:
    return f"{call.called:4} to {call.answered:4}: {call.words} -> {call.answer!r:.60}"
