"""Label lists that take several calls: a snapshot of what is left to tell, by continue token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hcall_abi.consumers import Consumer
from hcall_server.keystore.tokens import Tokens

Labels = Sequence[bytes]


class Listings(Tokens[tuple[Consumer, Labels]]):
    """The unfinished label lists of one partition."""

    def __contains__(self, key: tuple[Consumer, int]) -> bool:
        consumer, token = key
        return token in self._open and self._open[token][0] is consumer

    def take(self, token: int) -> Labels:
        """Return the labels left under a token that `in` has confirmed."""
        return self._open[token][1]

    def keep(self, consumer: Consumer, used: int, rest: Labels) -> int:
        """Retire the token `used` and return one for `rest`, 0 when nothing is left."""
        self.retire(used)
        return self.issue((consumer, rest)) if rest else 0


def fitting(labels: Labels, room: int, size: Callable[[bytes], int]) -> int:
    """Return how many of `labels`, from the first, fit into `room` bytes."""
    for count, label in enumerate(labels):
        room -= size(label)
        if room < 0:
            return count
    return len(labels)
