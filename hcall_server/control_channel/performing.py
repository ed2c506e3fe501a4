"""The types that the functions in `verbs` share: the call of a verb, and its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hcall_abi.control_views import Answered

if TYPE_CHECKING:
    from starlette.responses import Response

    from hcall_server.machine.machine import Machine


class Call(NamedTuple):
    """One request, checked against the row of its verb.

    `name` is the name of an existing partition, "" if the path has none.  `body` has the type in the row.
    `console` is the header Swpks-Console, None if the request has none.
    """

    machine: Machine
    name: str
    body: Any
    console: str | None = None


class Text(NamedTuple):
    """An answer as text, with its media type."""

    media_type: str
    content: bytes


class Reply(NamedTuple):
    """An answer whose status is not the first one in the row of its verb."""

    status: int
    body: Answered


class StreamAnswer(NamedTuple):
    """An answer without a fixed end; `response` writes it, as an ASGI application."""

    response: Response


Answer = Answered | Text | Reply | StreamAnswer


class Performed(NamedTuple):
    """The function that performs a verb; `load` imports its modules once, in a thread."""

    perform: Callable[[Call], Answer | Awaitable[Answer]]
    load: Callable[[Machine], object] | None = None
