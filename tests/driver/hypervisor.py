"""Hypervisors for the driver without a server: the real engine with a virtual clock, and scripted answers."""

from typing import NamedTuple

from hcall_abi.faults import parse_fault
from hcall_abi.frames import HReturn
from hcall_client.request import Request
from hcall_server.faults.busy import BusyCalls
from hcall_server.faults.plan import Plan
from hcall_server.hcalls.dispatch import HypervisorCalls
from tests.client.engine import Engine


class Machine(Engine):
    """A partition of the real engine; changes are durable after `flush_after` microseconds of sleep.

    With 0 they are durable at once, with None never.
    """

    def __init__(
        self, level: str = "FW1110", kbytes: int = 64, secure_boot: int = 0, flush_after: int | None = 0
    ) -> None:
        super().__init__(level, kbytes, secure_boot)
        self.flush_after = flush_after
        self.clock = 0

    def answer(self, request: Request[HReturn]) -> HReturn:
        """Answer one h-call."""
        answer = self.do(request)
        if self.flush_after == 0 and self.partition.keystore:
            self.flush()
        return answer

    def ipl(self) -> None:
        """Restart the partition; its fault plan ends, because a new session begins."""
        super().ipl()
        self.calls = HypervisorCalls(self.partition)

    def set_faults(self, *faults: str) -> None:
        """Give the partition a fault plan, whose seconds are those of the virtual clock."""
        inner, plan = HypervisorCalls(self.partition), Plan(map(parse_fault, faults))
        self.calls = BusyCalls(
            inner, self.partition, plan, lambda: self.clock / 1_000_000, lambda refusal, opcode: None
        )

    def sleep(self, microseconds: int) -> None:
        """Add time to the virtual clock, and flush if it is time for that."""
        self.clock += microseconds
        if self.flush_after is not None and self.clock >= self.flush_after:
            self.flush()


class Script(NamedTuple):
    """A scripted answer: the status, then the values of r4 and the following registers."""

    status: int
    registers: tuple[int, ...] = ()


class Scripted:
    """A machine that gives scripted answers to some calls, and executes all other calls."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._scripts: dict[int, list[Script]] = {}
        self._always: dict[int, Script] = {}

    def next(self, opcode: int, *scripts: Script) -> None:
        """Script the answers to the next calls of one opcode."""
        self._scripts[int(opcode)] = list(scripts)

    def always(self, opcode: int, script: Script) -> None:
        """Script the answer to every call of one opcode, once those of `next` are used up."""
        self._always[int(opcode)] = script

    def call(self, request: Request[HReturn], /) -> HReturn:
        scripts = self._scripts.get(request.opcode)
        script = scripts.pop(0) if scripts else self._always.get(request.opcode)
        if script is None:
            return self.machine.answer(request)
        return HReturn(1, script.status, (*script.registers, *(0,) * (9 - len(script.registers))), ())
