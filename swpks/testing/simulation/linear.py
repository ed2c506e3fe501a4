"""A linearizability checker: Wing and Gong's search, with the memory of Lowe.

A history is a number of lanes.  A lane has the calls of one connection, in order.  The history is
linearizable if all calls can be put in one order: it keeps the order within each lane, and "answered before
called" between lanes, and the model takes each call in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol, TypeVar


class Timed(Protocol):
    """A call with the moments of its call and of its answer, of one clock."""

    @property
    def called(self) -> float:
        """The moment before which it has not run."""

    @property
    def answered(self) -> float:
        """The moment after which it does not run; infinity if no such moment is known."""


C = TypeVar("C", bound=Timed)
S = TypeVar("S", bound=Hashable)


class NotLinearizable(AssertionError):
    """No order of the calls explains the answers."""


def outcomes(
    lanes: Sequence[Sequence[C]], starts: Iterable[S], step: Callable[[S, C], Iterable[S]]
) -> set[S]:
    """Return every state that all calls may lead to; NotLinearizable if there is none.

    `step` returns the states behind a call in a state, none if its answer can't be that one.  A call with an
    unknown outcome returns the state itself too, because it may never have run.
    """
    done = tuple(len(lane) for lane in lanes)
    todo = [((0,) * len(lanes), start) for start in starts]
    seen, ends = set(todo), set[S]()
    furthest: tuple[int, ...] = ()
    while todo:
        at, state = todo.pop()
        if at == done:
            ends.add(state)
            continue
        if sum(at) >= sum(furthest):
            furthest = at
        heads = [lane[n] for lane, n in zip(lanes, at, strict=True) if n < len(lane)]
        first = min(call.answered for call in heads)
        for number, (lane, n) in enumerate(zip(lanes, at, strict=True)):
            if n == len(lane) or lane[n].called > first:
                continue
            further = (*at[:number], n + 1, *at[number + 1 :])
            for after in step(state, lane[n]):
                if (further, after) not in seen:
                    seen.add((further, after))
                    todo.append((further, after))
    if not ends:
        raise NotLinearizable(_shown(lanes, furthest))
    return ends


def _shown(lanes: Sequence[Sequence[C]], furthest: tuple[int, ...]) -> str:
    """Return all calls by their moments; those that no order of the search has reached have a mark."""
    marked = [
        (call.called, f"{'' if n < reached else '> '}{call}")
        for lane, reached in zip(lanes, furthest or (0,) * len(lanes), strict=True)
        for n, call in enumerate(lane)
    ]
    return "\n".join(text for _, text in sorted(marked, key=lambda each: each[0]))
