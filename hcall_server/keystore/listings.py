"""Label lists that take several calls: a snapshot of what is left to tell, by continue token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hcall_abi.consumers import Consumer
from hcall_server.keystore.continuations import new_token

MAX_OPEN = 16
"""How many unfinished lists are kept; the oldest is dropped for a new one, its token goes stale."""

Labels = Sequence[bytes]


class Listings:
    """The unfinished label lists of one partition; `entropy` makes the tokens."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._open: dict[int, tuple[Consumer, Labels]] = {}

    def __contains__(self, key: tuple[Consumer, int]) -> bool:
        consumer, token = key
        return token in self._open and self._open[token][0] is consumer

    def take(self, token: int) -> Labels:
        """Return the labels left under a token that `in` has confirmed."""
        return self._open[token][1]

    def keep(self, consumer: Consumer, used: int, rest: Labels) -> int:
        """Retire the token `used` and return one for `rest`, 0 when nothing is left."""
        self._open.pop(used, None)
        if not rest:
            return 0
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        token = new_token(self._entropy, self._open)
        self._open[token] = (consumer, rest)
        return token

    def clear(self) -> None:
        """Drop every unfinished list, as an IPL does."""
        self._open.clear()


def fitting(labels: Labels, room: int, size: Callable[[bytes], int]) -> int:
    """Return how many of `labels`, from the first, fit into `room` bytes."""
    for count, label in enumerate(labels):
        room -= size(label)
        if room < 0:
            return count
    return len(labels)
