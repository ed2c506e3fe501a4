"""The types that the functions in `verbs` share, and the one place where a verb is performed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hcall_abi.control_views import Answered
from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.rules import storage as rules

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
    """The function that performs a verb; `load` imports its modules once, in a thread.

    `always`: the verb is also performed when another server may own the records of this system.
    """

    perform: Callable[[Call], Answer | Awaitable[Answer]]
    load: Callable[[Machine], object] | None = None
    always: bool = False


async def performed(row: Performed, call: Call) -> Answer:
    """Perform a verb; StorageError if another server may own the records, before it or at its end.

    Many changes are answered before they are durable, and copies are made from memory.  A former owner must
    not acknowledge such a change, and such a copy may be old.
    """
    if row.always:
        return await _answer(row, call)
    _demand_owner(call.machine, "it was not carried out")
    doubt = "the new owner shows whether it has taken effect"
    try:
        answer = await _answer(row, call)
    except SwpksError:
        _demand_owner(call.machine, doubt)  # the advice of most errors, "it is retried", is wrong now
        raise
    _demand_owner(call.machine, doubt)
    return answer


async def _answer(row: Performed, call: Call) -> Answer:
    answer = row.perform(call)
    return await answer if isinstance(answer, Awaitable) else answer


def _demand_owner(machine: Machine, effect: str) -> None:
    """Raise StorageError if another server may own the records of this system."""
    owner = machine.nvram.ownership
    if owner is not None and owner.over:
        message = "this server has lost the ownership of its NVRAM, so it acknowledges no request"
        raise StorageError(rules.NVRAM_OWNER, f"{message}: {effect}; stop this server")
