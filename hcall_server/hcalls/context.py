"""The inputs of argument checks besides the call itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hcall_server.hcalls.memory import Pieces, Registers
from hcall_server.keystore.limits import KeystoreLimits
from hcall_server.keystore.tokens import Continuations, Listings


class Context(NamedTuple):
    """The partition's limits and open tokens, and how strict its memory is.

    `strict`: check alignment and page crossing (R-76).  `page_aligned`: check that wrap buffers start at a
    page; the operator can relax this check without the others.
    """

    limits: KeystoreLimits
    listings: Listings
    continuations: Continuations
    strict: bool
    page_aligned: bool


Check = Callable[[Registers, Pieces, Context], object]
"""Returns the value of an argument, or raises Refusal with the status of its position."""
