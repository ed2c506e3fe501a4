"""A simple fake machine: its processors know eight instructions, and a real gdb stub controls them.

It runs the code that `assemble` makes, over memory streams. It stops as QEMU does: before an instruction with
a breakpoint, never while it steps, after each step.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Literal

import trio

from swpks.qemu import rsp
from swpks.qemu.rsp import Sign
from tests.qemu.assemble import (
    BASE,
    BLR,
    IDLE,
    NOP,
    PANIC,
    POWER_OFF,
    RESET,
    SC1,
    SPIN,
    TO_VIRTUAL,
    Kernel,
)

LITTLE, BIG = 0x8000000000001033, 0x8000000000001032
SIZE = 1 << 20
CODE, TREE = 0, 0x40000
REGISTERS = [*(f"r{n}" for n in range(32)), "pc", "msr", "cr", "lr", "ctr", "xer"]
REAL = (1 << 60) - 1

TARGET = '<target><xi:include href="core.xml"/></target>'
CORE = "<feature>" + "".join(f'<reg name="{name}" bitsize="64"/>' for name in REGISTERS) + "</feature>"


class Processor:
    """The registers of a processor, and whether it is idle."""

    def __init__(self, pc: int) -> None:
        self.values = dict.fromkeys(REGISTERS, 0) | {"pc": pc, "msr": LITTLE}
        self.idle = False


class FakeMachine:
    """The processors, the memory and the settings of a fake machine.

    The first processor starts at the address `main`, in real mode. The further ones start at `others`.
    `foreign` lists the h-calls that the machine itself executed. If `acks` is True, the stub requires acks.
    `odd` maps the beginning of a request to a false answer. The machine ends at the reset that follows
    `resets` resets. The stub answers the first `idle_steps` steps before their instruction has run.
    """

    def __init__(self, kernel: Kernel, tree: bytes, main: int, others: tuple[int, ...] = ()) -> None:
        self.memory = bytearray(SIZE)
        self.memory[CODE : CODE + len(kernel.code())] = kernel.code()
        self.tree = tree
        self.start = main & REAL
        self.others = others
        self.breakpoints: Counter[int] = Counter()
        self.foreign: list[int] = []
        self.events: list[str] = []
        self.ended = trio.Event()
        self.requests: list[bytes] = []
        self.acks = True
        self.resets = 1
        self.idle_steps = 0
        self.odd: dict[bytes, bytes] = {}
        self.boot()

    def boot(self) -> None:
        """Reset the machine."""
        self.processors = [Processor(self.start), *(Processor(pc) for pc in self.others)]
        self.memory[TREE : TREE + len(self.tree)] = self.tree
        self.processors[0].values["r3"] = TREE

    def run(self) -> bytes | None:
        """Run the processors in turn, one instruction each, until one stops; return the stop reply.

        Return None if the guest runs forever.
        """
        while True:
            busy = [(n, each) for n, each in enumerate(self.processors, 1) if not each.idle]
            if not busy:
                return b"T02thread:p01.01;"
            for number, processor in busy:
                if self.breakpoints[processor.values["pc"]]:
                    return b"T05thread:p01.%02x;" % number
                if self.word(processor) == SPIN:
                    return None
                if not self.execute(processor):
                    return b"W00"
                if self.events[-1:] == ["RESET"] and processor.values["pc"] == self.start:
                    # The reset has replaced the processors, so the old list is left.
                    break

    def word(self, processor: Processor) -> int:
        """Return the next instruction of a processor."""
        pc = processor.values["pc"]
        return int.from_bytes(self.memory[pc & REAL : (pc & REAL) + 4], "little")

    def execute(self, processor: Processor) -> bool:
        """Run one instruction; return False when the machine is off."""
        values = processor.values
        pc, word = values["pc"], self.word(processor)
        values["pc"] = pc + 4
        if word == PANIC:
            self.events.append("GUEST_PANICKED")
        if word in (POWER_OFF, PANIC) or (word == RESET and not self.resets):
            return False
        if word == RESET:
            self.resets -= 1
            self.events.append("RESET")
            self.boot()
        elif word == IDLE:
            processor.idle = True
        elif word == BLR:
            values["pc"] = values["lr"]
        elif word == TO_VIRTUAL:
            values["pc"] = BASE + pc + 4
        elif word == SC1:
            self.foreign.append(values["r3"])
            values["r3"] = 0
        elif word >> 26 == 14:  # addi, which assemblers write as li
            values[f"r{word >> 21 & 31}"] = word & 0xFFFF
        # Instruction `b`, or `bl` if the lowest bit is set.
        elif word >> 26 == 18:
            offset = word & 0x03FFFFFC
            values["lr"] = pc + 4 if word & 1 else values["lr"]
            values["pc"] = pc + offset - ((offset & 0x02000000) << 1)
        else:
            assert word == NOP, hex(word)
        return True


class FakeStub:
    """The gdb stub of the machine, served on a stream."""

    def __init__(self, machine: FakeMachine, stream: trio.abc.Stream) -> None:
        self.machine = machine
        self.stream = stream
        self.thread = 1
        self.real_memory = False
        self.last = b""
        self.over = False
        self.acks = True

    async def serve(self) -> None:
        decoder = rsp.Decoder()
        while data := await self.stream.receive_some():
            decoder.receive(bytes(data))
            for event in decoder.events():
                if event is Sign.NACK:
                    await self.stream.send_all(self.last)
                elif isinstance(event, bytes):
                    await self.take(event)
            if self.over:
                await self.stream.aclose()
                self.machine.ended.set()
                break

    async def take(self, request: bytes) -> None:
        machine = self.machine
        machine.requests.append(request)
        acks = self.acks
        answer = next((a for start, a in machine.odd.items() if request.startswith(start)), None)
        if answer is None:
            answer = self.answer(request)
        if acks:
            await self.stream.send_all(b"+")
        if answer is None:
            return
        self.last = rsp.encode(answer)
        await self.stream.send_all(self.last)
        self.over = answer[:1] == b"W"

    def answer(self, request: bytes) -> bytes | None:
        verbs: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"qSupported": self.supported,
            b"QStartNoAckMode": self.no_acks,
            b"qXfer:features:read:": self.document,
            b"Qqemu.PhyMemMode:1": self.set_real,
            b"Hg": self.choose,
            b"?": lambda _: b"T05thread:p01.01;",
            b"vCont;c": lambda _: self.machine.run(),
            b"vCont;s:": self.step,
            b"Z0,": lambda rest: self.breakpoint(rest, 1),
            b"z0,": lambda rest: self.breakpoint(rest, -1),
            b"p": self.read_register,
            b"P": self.write_register,
            b"m": self.read_memory,
            b"M": self.write_memory,
        }
        verb = max((each for each in verbs if request.startswith(each)), key=len, default=None)
        return verbs[verb](request[len(verb) :]) if verb else b""

    def supported(self, _rest: bytes) -> bytes:
        extra = b"" if self.machine.acks else b";QStartNoAckMode+"
        return b"PacketSize=200;qXfer:features:read+;vContSupported+" + extra

    def no_acks(self, _rest: bytes) -> bytes:
        self.acks = False
        return b"OK"

    def document(self, rest: bytes) -> bytes:
        name, _, where = rest.partition(b":")
        text = {b"target.xml": TARGET, b"core.xml": CORE}[name].encode()
        at, size = (int(each, 16) for each in where.split(b","))
        return (b"m" if at + size < len(text) else b"l") + text[at : at + size]

    def set_real(self, _rest: bytes) -> bytes:
        self.real_memory = True
        return b"OK"

    def choose(self, rest: bytes) -> bytes:
        self.thread = int(rest.rpartition(b".")[2], 16)
        return b"OK"

    def step(self, rest: bytes) -> bytes:
        number = int(rest.rpartition(b".")[2], 16)
        if self.machine.idle_steps:
            self.machine.idle_steps -= 1
            return b"T05thread:%b;" % rest
        return (
            b"T05thread:%b;" % rest if self.machine.execute(self.machine.processors[number - 1]) else b"W00"
        )

    def breakpoint(self, rest: bytes, change: int) -> bytes:
        address = int(rest.split(b",")[0], 16)
        if self.machine.breakpoints[address] + change < 0:
            return b"E22"
        self.machine.breakpoints[address] += change
        return b"OK"

    def _order(self) -> Literal["little", "big"]:
        return "little" if self._values()["msr"] & 1 else "big"

    def _values(self) -> dict[str, int]:
        return self.machine.processors[self.thread - 1].values

    def read_register(self, rest: bytes) -> bytes:
        return self._values()[REGISTERS[int(rest, 16)]].to_bytes(8, self._order()).hex().encode()

    def write_register(self, rest: bytes) -> bytes:
        number, _, value = rest.partition(b"=")
        raw = bytes.fromhex(value.decode())
        self._values()[REGISTERS[int(number, 16)]] = int.from_bytes(raw, self._order())
        return b"OK"

    def read_memory(self, rest: bytes) -> bytes:
        at, size = (int(each, 16) for each in rest.split(b","))
        assert self.real_memory
        return bytes(self.machine.memory[at : at + size]).hex().encode() if at + size <= SIZE else b"E14"

    def write_memory(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        at, size = (int(each, 16) for each in where.split(b","))
        raw = bytes.fromhex(data.decode())
        assert len(raw) == size
        self.machine.memory[at : at + size] = raw
        return b"OK"


async def monitor(machine: FakeMachine, stream: trio.abc.Stream) -> None:
    """Serve QEMU's monitor. Pending events precede each answer; the last events are sent before the end."""
    sent = 0

    async def say(message: dict[str, object]) -> None:
        await stream.send_all(json.dumps(message).encode() + b"\r\n")

    async def say_events() -> None:
        nonlocal sent
        new, sent = machine.events[sent:], len(machine.events)
        for name in new:
            await say({"event": name, "data": {"action": "poweroff", "guest": True}})

    async def end() -> None:
        await machine.ended.wait()
        await say_events()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        await say({"QMP": {"version": {}, "capabilities": []}})
        buffer = b""
        while data := await stream.receive_some():
            *lines, buffer = (buffer + bytes(data)).split(b"\n")
            for line in lines:
                await say_events()
                memory = {"base-memory": SIZE}
                asked = json.loads(line)["execute"]
                await say({"return": memory if asked == "query-memory-size-summary" else {}})
        nursery.cancel_scope.cancel()
    await stream.aclose()
