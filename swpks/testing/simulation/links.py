"""The control channel between the console and a system: answers are lost, requests are late or repeated."""

# The hard cases of this channel look the same to the console: there is no answer. The request may be lost, or
# its answer may be lost, or the request may still be under way. A late request arrives at a system whose
# state has changed, perhaps after the console has decided something else. The epoch of the request must then
# make it harmless, so only requests with an epoch come late here (REPEATED).
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import console as rules
from swpks.testing.console_link import MachineLink

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from random import Random

    from hcall_abi.control_views import EventView
    from hcall_abi.requests import ConsoleRequest
    from hcall_server.machine.machine import Machine
    from swpks.testing.simulation.life import Life
    from swpks.testing.simulation.trace import Tap, Trace

T = TypeVar("T")

REPEATED = frozenset(
    {"tellCustody", "expectPartition", "beginMigration", "releasePartition", "takePartition"}
)
"""Operations whose requests may come late or twice: each has an epoch, so an old one has no effect."""


class ControlLine(MachineLink):
    """The link from a console to a system; `bad` is the share of its requests that fail, from 0 to 1."""

    def __init__(self, name: str, chance: Random, trace: Trace, tap: Tap) -> None:
        super().__init__(None)
        self.name = name
        self.bad = 0.0
        self.slowest = 0.01
        self.background: trio.Nursery | None = None
        self.delays: dict[str, float] = {}
        """Seconds by which the next request of an operation is late; the console gets no answer to it."""
        self.delayed = trio.Event()
        self.unanswered = False
        """Whether the last request of the console got no answer."""
        self.shown: Callable[[object], None] = lambda answer: None
        """Called with each answer."""
        self._chance = chance
        self._trace = trace
        self._tap = tap

    def of(self, life: Life) -> LineOfConsole:
        """Return the link for one life of a console; it fails after the end of that life."""
        return LineOfConsole(self, life)

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Perform a request as the control channel does; OperatorError if request or answer is lost."""
        try:
            answer = await self._tried(request)
        except SwpksError as error:
            self.unanswered = error.rule is rules.CONSOLE_SERVED
            raise
        self.unanswered = False
        self.shown(answer)
        return answer

    async def _tried(self, request: ConsoleRequest[T]) -> T:
        await trio.sleep(self._chance.uniform(0, self.slowest))
        operation = request.verb.operation
        if request.body is not None:
            self._tap.listen(f"{operation} to {self.name}", msgspec.json.encode(request.body))
        if operation in self.delays and self.background and not self.away:
            self.background.start_soon(self._late, request, self.machine, self.delays.pop(operation))
            self.delayed.set()
            self._trace.note(self.name, f"{operation}: the request is under way")
            # The console waits for an answer until its life ends, or until its operator gives up.
            await trio.sleep_forever()
        # One random number decides. A third of the bad requests is lost, a third is late or doubled, and the
        # rest loses its answer. A request without an epoch is never late; it loses its answer instead.
        fate = self._chance.random() if self.bad else 1.0
        if fate < self.bad / 3:
            self._trace.note(self.name, f"{operation}: the request is lost")
            raise OperatorError(rules.CONSOLE_SERVED, "the request was lost")
        if fate < self.bad * 2 / 3 and operation in REPEATED and self.background:
            machine = None if self.away else self.machine
            self.background.start_soon(self._late, request, machine, self._chance.uniform(0, 3))
            if fate < self.bad / 2:
                self._trace.note(self.name, f"{operation}: the request is late")
                raise OperatorError(rules.CONSOLE_SERVED, "the request is late")
        elif fate < self.bad:
            self.lost_answers += 1
        try:
            answer = await self.perform(request)
        except SwpksError as error:
            self._trace.note(self.name, f"{operation}: {error.message[:100]}")
            self._tap.listen(f"{operation} of {self.name}", error.message.encode())
            raise
        self._trace.note(self.name, f"{operation} {request.name or ''}")
        if isinstance(answer, msgspec.Struct):
            self._tap.listen(f"{operation} of {self.name}", msgspec.json.encode(answer))
        return answer

    async def _late(self, request: ConsoleRequest[T], machine: Machine | None, seconds: float) -> None:
        """Perform a request `seconds` later, unless its machine has ended; drop the answer."""
        await trio.sleep(seconds)
        self._trace.note(self.name, f"{request.verb.operation}: a request comes late")
        try:
            await MachineLink(machine if machine is self.machine else None).call(request)
        except SwpksError as error:
            self._trace.note(self.name, f"{request.verb.operation}: {error.message[:100]}")


class LineOfConsole:
    """A link for one life of a console; it fails after the end of that life."""

    def __init__(self, line: ControlLine, life: Life) -> None:
        self._line = line
        self._life = life

    def __repr__(self) -> str:
        return f"LineOfConsole({self._line!r})"

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Perform a request; OperatorError if the console crashes before the answer."""
        self._demand_life()
        answer = await self._line.call(request)
        self._demand_life()
        return answer

    def events(self, console_id: str) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[EventView]]:
        """Open the stream of events for the console with this id."""
        self._demand_life()
        return self._line.events(console_id)

    def _demand_life(self) -> None:
        if not self._life.alive:
            raise OperatorError(rules.CONSOLE_SERVED, "the console is dead")
