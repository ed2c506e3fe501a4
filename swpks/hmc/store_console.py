"""The console for its commands: the verbs of its systems, and its own verbs (spec/console.md#own-verbs).

    console = StoreConsole("store", system="sys1")
    view = console.call(ipl("lpar1"))                       # as hcall_client.console.BlockingConsole has it
    systems = console.order(list[KnownSystemView], "systems")

Each call opens a new connection, and blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import msgspec

from hcall_abi.control import PROBLEM_JSON
from hcall_abi.control_views import Problem
from hcall_abi.errors import OperatorError
from hcall_abi.requests import ConsoleRequest
from hcall_abi.rules import console as rules
from hcall_client.console import (
    DEFAULT_TIMEOUT,
    ConsoleMisspoken,
    ConsoleRefused,
    ConsoleUnreachable,
    answer_of,
)
from hcall_client.errors import printable
from swpks.hmc.line_client import NamedFiles, NoConsole, Shown, Wire, converse

T = TypeVar("T")


class StoreUnreachable(ConsoleUnreachable):
    """No console serves the store, or a system of the console can't be reached."""

    def __init__(self, reason: str, *, advised: bool) -> None:
        self.reason = printable(reason)
        OperatorError.__init__(self, rules.CONSOLE_SERVED, self.reason, advised=advised)


class StoreConsole:
    """The console with this store; `system` is the -m of its verbs, `timeout` the seconds of each wait.

    A call raises ConsoleRefused if the request is refused, StoreUnreachable if no answer comes, and
    ConsoleMisspoken for a malformed answer.
    """

    def __init__(
        self, store: str | os.PathLike[str], system: str | None = None, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self.store = os.fsdecode(store)
        self.system = system
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"StoreConsole({self.store!r}, {self.system!r})"

    def call(self, request: ConsoleRequest[T]) -> T:
        """Make a request of a system through the console; return the answer."""
        ask = {"operation": request.verb.operation, "system": self.system, "name": request.name}
        body = msgspec.to_builtins(request.body) if request.body else None
        found = self._answer({"ask": {**ask, "body": body} if request.body else ask}, self.timeout, _silent())
        return answer_of(request, found.status, found.type, found.content.encode())

    def order(self, kind: type[T], verb: str, **operands: Any) -> T:
        """Carry out one of the console's own verbs; return the answer."""
        return self._ordered(kind, verb, operands, self.timeout, _silent())

    def follow(self, kind: type[T], verb: str, write: Callable[[str], None] | Shown, **operands: Any) -> T:
        """Carry out a verb that starts or follows a job; return the answer at the end of the job.

        `write` gets the progress.
        """
        shown = write if isinstance(write, Shown) else Shown(write, terminal=os.isatty(1))
        # There is no timeout: a job may wait for its system for days.
        return self._ordered(kind, verb, operands, None, shown)

    def _ordered(
        self,
        kind: type[T],
        verb: str,
        operands: dict[str, Any],
        timeout: float | None,
        shown: Shown,
    ) -> T:
        order = {"verb": verb, **operands}
        found = self._answer({"order": order}, timeout, shown)
        try:
            return msgspec.json.decode(found.content, type=kind)
        except msgspec.DecodeError as error:
            raise ConsoleMisspoken(verb, f"a body of another shape ({error})") from None

    def _answer(self, message: dict[str, Any], timeout: float | None, shown: Shown) -> WireAnswer:
        try:
            with closing(Wire(self.store, timeout)) as wire:
                # The words of a verb name no file, so the console can't make this process open one.
                last = converse(wire, message, NamedFiles(()), shown)
            found = msgspec.convert(last.get("answer"), WireAnswer)
        except NoConsole as error:
            # If no console answers, the remedy of the rule does not help, because it is about a system. So
            # `advised` leaves it out.
            raise StoreUnreachable(str(error), advised=True) from None
        except msgspec.ValidationError as error:
            raise ConsoleMisspoken("a command", f"a message of another shape ({error})") from None
        _check_reached(found)
        return found


def _silent() -> Shown:
    return Shown(lambda _: None, terminal=False)


class WireAnswer(msgspec.Struct):
    """The console's last message after a verb."""

    status: int
    type: str
    content: str


def _check_reached(found: WireAnswer) -> None:
    """If an answer is a problem, raise ConsoleRefused, or StoreUnreachable if the system is away."""
    if found.type != PROBLEM_JSON:
        return
    try:
        problem = msgspec.json.decode(found.content, type=Problem)
    except msgspec.DecodeError as error:
        raise ConsoleMisspoken("a command", f"a problem of another shape ({error})") from None
    if problem.rule_id == rules.CONSOLE_SERVED.id:
        raise StoreUnreachable(problem.detail, advised=problem.advised)
    raise ConsoleRefused(problem)
