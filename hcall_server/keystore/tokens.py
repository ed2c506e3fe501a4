"""Tokens of calls that continue later: random, bounded in number, and stale once they are used.

There are two kinds: a list of labels that takes several calls, and a call that was answered "busy".  A busy
answer has changed nothing yet.  So the continued call is checked as if it were the first.
"""

# Tokens are random, not counted up.  A token is checked with the arguments, before the password.  With a
# counter, the refusals would show a caller without the password which lists are open.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer

MAX_OPEN = 16
"""Most open tokens of a kind in one partition.

A guest may begin lists and never end them.  A new token then replaces the oldest one, which goes stale.
"""

T = TypeVar("T")


class Tokens(Generic[T]):
    """The open tokens of one kind, each with its item; `entropy` makes them."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._open: dict[int, T] = {}

    def issue(self, item: T) -> int:
        """Return a token for `item`.  If the entropy fails, no token is dropped."""
        token = self._new()
        self._place(token, item)
        return token

    def retire(self, token: int) -> None:
        """Drop a token that was used; no effect for 0, which means no token."""
        self._open.pop(token, None)

    def clear(self) -> None:
        """Drop all tokens, as an IPL does."""
        self._open.clear()

    def _place(self, token: int, item: T) -> None:
        if len(self._open) >= MAX_OPEN:
            # the oldest one, because a dict has the order of insertion
            del self._open[next(iter(self._open))]
        self._open[token] = item

    def _new(self) -> int:
        """Return a random token of 64 bits that is neither 0 nor open, so that none can be guessed."""
        token = int.from_bytes(self._entropy(8), "big")
        while not token or token in self._open:
            token = (token + 1) % (1 << 64)
        return token


class Continuations(Tokens[Opcode]):
    """The busy calls of one partition.  Each token permits one further call of the same h-call."""

    def __contains__(self, key: tuple[Opcode, int]) -> bool:
        call, token = key
        return self._open.get(token) is call


class Listings(Tokens[tuple[Consumer, Sequence[bytes]]]):
    """The unfinished label lists of one partition: a snapshot of the labels that are left."""

    def __contains__(self, key: tuple[Consumer, int]) -> bool:
        consumer, token = key
        return token in self._open and self._open[token][0] is consumer

    def items(self) -> list[tuple[int, Consumer, Sequence[bytes]]]:
        """Return each token with its consumer and the labels that are left, the oldest first."""
        return [(token, *item) for token, item in self._open.items()]

    def resume(self, token: int, consumer: int, rest: Sequence[bytes]) -> None:
        """Open a list that was open on another system."""
        self._place(token, (Consumer(consumer), rest))

    def take(self, token: int) -> Sequence[bytes]:
        """Return the labels left under a token; the caller has checked with `in` that the token is open."""
        return self._open[token][1]

    def keep(self, consumer: Consumer, used: int, rest: Sequence[bytes]) -> int:
        """Retire the token `used` and return one for `rest`, 0 when nothing is left.

        If the entropy fails, `used` stays good.
        """
        # The new token comes first, because this step can fail.  A call that fails must not use up its
        # token.
        token = self._new() if rest else 0
        self.retire(used)
        if token:
            self._place(token, (consumer, rest))
        return token
