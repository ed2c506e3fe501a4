"""The entropy seam, with a check of the length of each result."""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.errors import ScarcityError
from hcall_abi.rules import service as rules


def checked(entropy: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return `entropy` with a check: ScarcityError if it fails, or returns another number of bytes.

    Without the check a short result would become a short password, key or nonce.
    """

    def random(size: int) -> bytes:
        try:
            made = entropy(size)
        except OSError as error:
            raise _scarce(error.strerror or str(error)) from None
        if len(made) != size:
            raise _scarce(f"{len(made)} bytes came, and {size} were asked for")
        return made

    return random


def _scarce(reason: str) -> ScarcityError:
    message = f"no random bytes ({reason}): look at the host's random number generator, then repeat"
    return ScarcityError(rules.SCARCE_ENTROPY, message, advised=True)
