"""The types that the functions in `verbs` share: the call of a verb, and its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hcall_abi.control_views import Answered

if TYPE_CHECKING:
    from starlette.responses import Response

    from hcall_server.machine.machine import Machine


class Call(NamedTuple):
    """One request, checked against its row.

    `name` is the name of an existing partition, "" if the path has none.  `body` is of the type in the row.
    `console` is the header Swpks-Console, None without it.
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
    """An answer with another status than the first one of its row."""

    status: int
    body: Answered


class StreamAnswer(NamedTuple):
    """An answer without a fixed end; `response` writes it, as an ASGI application."""

    response: Response


Answer = Answered | Text | Reply | StreamAnswer


class Performed(NamedTuple):
    """How a verb is performed; `load` imports the modules of `perform`, in a thread and once."""

    perform: Callable[[Call], Answer | Awaitable[Answer]]
    load: Callable[[Machine], object] | None = None
