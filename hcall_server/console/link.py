"""The interface between the management console and a managed system (spec/console.md#systems).

`swpks.hmc` makes links over sockets, `swpks.testing` makes links to machines in the same process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import trio

from hcall_abi.control_views import EventView
from hcall_abi.requests import ConsoleRequest

T = TypeVar("T")


class SystemLink(Protocol):
    """The connection to one managed system.

    Every function raises SwpksError.  The rule is `console.served` if the system can't be reached, and
    `console.answer` if it breaks the protocol.  Otherwise it is the rule by which the system refused.
    """

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Make one request and return its answer."""

    def events(self, console_id: str) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[EventView]]:
        """Open the stream of events as the console with this id; the channel ends when the stream breaks."""


Dial = Callable[[str], SystemLink]
"""Returns the link to a place, a path or ``https://HOST:PORT``; OperatorError for a malformed place."""
