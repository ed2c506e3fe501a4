"""Tokens for what goes on in a later call: random, bounded in number, and stale once they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

MAX_OPEN = 16
"""How many tokens of a sort are open; the oldest is dropped for a new one and goes stale."""

T = TypeVar("T")


class Tokens(Generic[T]):
    """The open tokens of one sort, each with what it stands for; `entropy` makes them."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._open: dict[int, T] = {}

    def issue(self, item: T) -> int:
        """Return a token for `item`."""
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        token = self._new()
        self._open[token] = item
        return token

    def retire(self, token: int) -> None:
        """Let a token go that was used; 0 is none."""
        self._open.pop(token, None)

    def clear(self) -> None:
        """Let all tokens go, as an IPL does."""
        self._open.clear()

    def _new(self) -> int:
        """Return a random token of 64 bits that is neither 0 nor open, so that none can be guessed."""
        token = int.from_bytes(self._entropy(8), "big")
        while not token or token in self._open:
            token = (token + 1) % (1 << 64)
        return token
