"""Forwards verbs of the control channel to a system, and answers as that channel would (spec/control.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from hcall_abi.control import JSON, PROBLEM_JSON, PROMETHEUS, VERBS
from hcall_abi.control_views import HealthView
from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.problems import problem_of
from hcall_abi.requests import ConsoleRequest
from hcall_abi.rules import console
from hcall_abi.rules import hmc as rules
from hcall_client.console import ConsoleRefused
from hcall_server.console.systems import KnownSystem
from swpks.hmc import wire

Call = Callable[[KnownSystem, ConsoleRequest[Any]], Awaitable[Any]]
"""Makes a request of a system: `KnownSystem.call`, or `ManagementConsole.restore`."""
_VERBS = {verb.operation: verb for verb in VERBS if verb.operation != "watchEvents"}
_LINK = ("attachConsole", "detachConsole", "keepCopy", "forgetCopies")
_MOVES = ("expectPartition", "takePartition", "beginMigration", "releasePartition", "tellCustody")
_OWN = (*_LINK, *_MOVES)
"""Verbs of the console itself, which no command may forward.

The first ones would break the console's record in the system.  The others go past the register, so that two
systems might own one partition.
"""


def request_of(asked: wire.Forwarded) -> ConsoleRequest[Any]:
    """Return the request that a command wants forwarded; PeerError for an unknown verb or a wrong body."""
    verb = _VERBS.get(asked.operation)
    if verb is None or asked.operation in _OWN:
        raise PeerError(rules.HMC_OPERATION, f"{asked.operation[:40]!r} is no verb that can be forwarded")
    try:
        body = msgspec.json.decode(asked.body, type=verb.body) if verb.body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError(
            rules.HMC_OPERATION, f"{asked.operation}: a body of another shape ({error})"
        ) from None
    # All statuses of a verb have answers of the same type. Metrics have no type: they are text.
    kind = next(iter(verb.answers.values()))
    return ConsoleRequest(verb, kind or str, asked.name, body)


async def forwarded(
    request: ConsoleRequest[Any],
    system: KnownSystem,
    call: Call = KnownSystem.call,
    found_at: Callable[[str], str] = lambda name: "",
) -> bytes:
    """Make a request of a system through `call`; return the last message for the command.

    If the system lacks the partition, the refusal gets the text of `found_at`: the system that has it.
    """
    try:
        answer = await call(system, request)
    except SwpksError as error:
        place = found_at(request.name or "") if error.rule.id == console.NAME_EXISTS.id else ""
        return refusal(_placed(system.explained(error), place))
    statuses = list(request.verb.answers)
    if isinstance(answer, str):
        return wire.answer(statuses[0], PROMETHEUS, answer.encode())
    # The verb `health` has two statuses. If the health is bad, the status is an error, because a monitor has
    # to notice it.
    status = statuses[-1] if isinstance(answer, HealthView) and not answer.ok else statuses[0]
    return wire.answer(status, JSON, msgspec.json.encode(answer))


def _placed(error: SwpksError, place: str) -> SwpksError:
    """Return a refusal whose text ends with `place`.

    `place` says where the partition is; it may be "".
    """
    if place:
        # The system has proposed similar names of its own.  They are wrong, because the partition is known.
        error.message = f"{error.message.partition('; did you mean ')[0]}; {place}"
    # The problem of the system is passed on with its fields; only the detail is the console's text.
    if isinstance(error, ConsoleRefused):
        return ConsoleRefused(msgspec.structs.replace(error.problem, detail=error.message))
    return error


def refusal(error: SwpksError) -> bytes:
    """Return the last message after a refused request: the problem that the control channel would return."""
    problem = error.problem if isinstance(error, ConsoleRefused) else problem_of(error)
    return wire.answer(problem.status, PROBLEM_JSON, msgspec.json.encode(problem))
