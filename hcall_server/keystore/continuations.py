"""Continue tokens of calls that were answered "busy": what goes on later, and with which token.

Nothing is kept but the token: a busy answer has done nothing yet, so the call that goes on is
judged as if it were the first.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from hcall_abi.calls import Opcode

MAX_OPEN = 16
"""How many busy calls are remembered; the oldest is dropped for a new one, its token goes stale."""


class Continuations:
    """The busy calls of one partition."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._open: dict[int, Opcode] = {}

    def __contains__(self, key: tuple[Opcode, int]) -> bool:
        call, token = key
        return self._open.get(token) is call

    def issue(self, call: Opcode) -> int:
        """Return a token with which `call`, answered "busy", may go on once."""
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        token = new_token(self._entropy, self._open)
        self._open[token] = call
        return token

    def retire(self, token: int) -> None:
        """Note that a call has gone on with a token; 0 is none."""
        self._open.pop(token, None)

    def clear(self) -> None:
        """Forget every busy call, as an IPL does."""
        self._open.clear()


def new_token(entropy: Callable[[int], bytes], taken: Container[int]) -> int:
    """Return a random token of 64 bits that is neither 0 nor taken, so that none can be guessed."""
    token = int.from_bytes(entropy(8), "big")
    while not token or token in taken:
        token = (token + 1) % (1 << 64)
    return token
