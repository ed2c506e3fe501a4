"""A linearizability checker: Wing and Gong's search, with the memory of Lowe.

A history has several lanes.  A lane has the calls of one connection, in order.  The history is linearizable
if all calls have one common order that keeps three rules.  Calls of a lane stay in their order.  A call
that was answered before another call was made comes first.  The model allows each answer.
"""

# The checker of linearizability
#
# Several connections call one partition at the same time. The promise is that the calls take effect
# one after the other. `outcomes` decides whether some order explains all answers. It must guarantee two
# things:
#
#   1. No false alarm. If such an order exists, it is found: the search is complete.
#   2. No free pass. An order counts only if it keeps three rules:
#        - Calls of one lane stay in their order. A server runs the calls of a connection in order.
#        - A call that was answered before another one was called precedes it.
#        - `step`, the model, allows each answer in its state.
#
# The search is that of Wing and Gong. A node is a position in each lane and a state of the model. From a
# node, the head of each lane is a candidate for the next call. A head is excluded if it was called after the
# answer of another head: that other call must come first. Then `step` returns the states behind the call.
# From a dead end, the search goes on at an earlier node, which is on the stack.
#
# That search alone visits a node once for each way that leads to it. Lowe added a memory: if the same calls
# have led to the same state before, the rest needs no second search. Here the calls of a node are the
# positions in the lanes, so a node is a pair that can be hashed, and `seen` is a set. This is why a state of
# a model has to be hashable and has to have one form only: two forms of the same state would be two nodes.
#
# How much work it is. The problem is NP-complete in general. A history of n calls in k lanes has at most
# (n/k + 1)^k positions. The rule "answered before called" leaves far fewer: only calls that overlap have more
# than one order. So this module has no limit of time. Its callers limit how many calls overlap:
#
#   - A guest makes at most three calls at once, and a visit has a dozen of such rounds.
#   - A round of the soak has up to five calls on each of four sockets. The next round begins in the states
#     in which the last one may have ended. This is why all ends are returned, and not the first one.
#   - A call without an answer may run at any time until `answered`, or never. If `answered` is infinity, the
#     call stays a candidate to the end, and may double the nodes. So `Visit.known` sets `answered` to the end
#     of the connection. `histories` leaves out lost calls that change nothing.
#
# Two things look better and are not used. A search that stops at the first order is quicker, but loses the
# other ends, in which the next round may begin. A checker for each label would be much quicker. Usually that
# is possible: a history is linearizable if the calls of each object are (linearizability is local). But
# labels of one partition share passwords, IPLs, crashes and flushes. They are one object.

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol, TypeVar


class Timed(Protocol):
    """A call with the moment at which it was made and the moment of its answer, by one clock."""

    @property
    def called(self) -> float:
        """The moment at which the call was made; the call has not run before it."""

    @property
    def answered(self) -> float:
        """The moment of the answer; the call has run before it.  Infinity if the moment is not known."""


C = TypeVar("C", bound=Timed)
S = TypeVar("S", bound=Hashable)


class NotLinearizable(AssertionError):
    """No order of the calls explains the answers."""


def outcomes(
    lanes: Sequence[Sequence[C]], starts: Iterable[S], step: Callable[[S, C], Iterable[S]]
) -> set[S]:
    """Return every state in which a history may end; NotLinearizable if no order of its calls exists.

    The history begins in one of `starts`.  `step` makes a call in a state, and returns the possible states
    after it.  If the model gives another answer, `step` returns no state.  A call without an answer may
    never have run.  So for such a call `step` also returns the unchanged state.
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
        # `furthest` is only for the text of a failure: the fault is near the end of the longest order.
        if sum(at) >= sum(furthest):
            furthest = at
        # In each lane, the head is answered first. So the earliest answer of all belongs to a head.
        heads = [lane[n] for lane, n in zip(lanes, at, strict=True) if n < len(lane)]
        first = min(call.answered for call in heads)
        for number, (lane, n) in enumerate(zip(lanes, at, strict=True)):
            if n == len(lane) or lane[n].called > first:
                continue
            further = (*at[:number], n + 1, *at[number + 1 :])
            # A node is noted when it is put on the stack. Otherwise it could be put there twice before it is
            # taken.
            for after in step(state, lane[n]):
                if (further, after) not in seen:
                    seen.add((further, after))
                    todo.append((further, after))
    if not ends:
        raise NotLinearizable(_shown(lanes, furthest))
    return ends


def _shown(lanes: Sequence[Sequence[C]], furthest: tuple[int, ...]) -> str:
    """Return the text of all calls by their moments; `>` marks calls that the longest order lacks."""
    marked = [
        (call.called, f"{'' if n < reached else '> '}{call}")
        for lane, reached in zip(lanes, furthest or (0,) * len(lanes), strict=True)
        for n, call in enumerate(lane)
    ]
    return "\n".join(text for _, text in sorted(marked, key=lambda each: each[0]))
