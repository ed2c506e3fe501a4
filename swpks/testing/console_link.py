"""The link between a management console and a machine in the same process.

    link = MachineLink(machine)
    console = ManagementConsole(ConsoleStore(), {"lab": link}.__getitem__, entropy=..., date=...)

The link performs the verbs of the control channel directly.  A test can make it fail in three ways: the
machine can't be reached, an answer is lost after its verb was performed, or a stream breaks.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import trio

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console as rules

if TYPE_CHECKING:
    from hcall_abi.control_views import EventView
    from hcall_abi.requests import ConsoleRequest
    from hcall_server.machine.machine import Machine

T = TypeVar("T")


class MachineLink:
    """A `SystemLink` to `machine`.  A test may replace the machine, which is a restart of the system.

    While `away` is set, the machine can't be reached.  The answers of the next `lost_answers` requests are
    lost after the machine has performed them.  `asked` has the operation of each request that was performed.
    """

    def __init__(self, machine: Machine | None) -> None:
        self.machine = machine
        self.away = False
        self.lost_answers = 0
        self.asked: list[str] = []
        self._streams: list[trio.CancelScope] = []

    def __repr__(self) -> str:
        return f"MachineLink({self.machine!r})"

    def restart(self, machine: Machine | None) -> None:
        """Replace the machine, and break its streams; None powers the system off."""
        self.machine = machine
        self.break_stream()

    def break_stream(self) -> None:
        """End all streams of events, as a broken connection would."""
        for scope in self._streams:
            scope.cancel()

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Perform a request as the control channel does, and return its answer."""
        await trio.lowlevel.checkpoint()
        return await self.perform(request)

    async def perform(self, request: ConsoleRequest[T]) -> T:
        """Perform a request, and return its answer; OperatorError if the answer is lost."""
        from hcall_server.control_channel.performing import Call, Reply, performed
        from hcall_server.control_channel.verbs import PERFORMED

        machine = self._reached()
        machine.system.demand_identity(request.system_id)
        if request.name:
            machine.system.find(request.name)
        row = PERFORMED[request.verb.operation]
        if row.load:
            row.load(machine)
        found = await performed(row, Call(machine, request.name, request.body))
        self.asked.append(request.verb.operation)
        await trio.lowlevel.checkpoint()  # a console that is killed in this moment gets no answer
        # The answer is lost after the verb has had its effect.  The console can't know that.
        if self.lost_answers:
            self.lost_answers -= 1
            raise OperatorError(rules.CONSOLE_SERVED, "the answer was lost")
        if self.away or machine is not self.machine:
            raise OperatorError(rules.CONSOLE_SERVED, "the system went away")
        return cast("T", found.body if isinstance(found, Reply) else found)

    @asynccontextmanager
    async def events(self, console_id: str) -> AsyncIterator[trio.abc.ReceiveChannel[EventView]]:
        """Open the stream of events for the console with this id."""
        from hcall_server.machine.streams import demand_stream

        machine = self._reached()
        demand_stream(machine, console_id)
        # The channel has no bound: `_pump` sends without waiting, and a full channel would be an error.
        send, receive = trio.open_memory_channel["EventView"](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, machine, console_id, send)
            yield receive
            nursery.cancel_scope.cancel()

    async def _pump(self, machine: Machine, console_id: str, send: trio.MemorySendChannel[EventView]) -> None:
        from hcall_server.machine.streams import opened_stream

        scope = trio.CancelScope()
        self._streams.append(scope)
        try:
            with send, scope, opened_stream(machine, console_id) as reader:
                while (events := await reader.next()) is not None:
                    for event in events:
                        send.send_nowait(event)
        finally:
            self._streams.remove(scope)

    def _reached(self) -> Machine:
        if self.away or self.machine is None:
            raise OperatorError(rules.CONSOLE_SERVED, "nothing serves this system")
        return self.machine
