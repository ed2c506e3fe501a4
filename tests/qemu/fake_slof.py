"""The fake machine with firmware and a boot loader: SLOF's client interface, and a loader that calls it.

Firmware and loader are programs of Python that run at their addresses.  The keystore's words run in the small
Forth, so the h-calls and their order are those of the real text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator

from swpks.qemu.bootdisk import DiskLoader
from tests.qemu.assemble import SPIN, Kernel
from tests.qemu.fake import BIG, CODE, LITTLE, REAL, TREE, FakeMachine, Processor
from tests.qemu.mini_forth import CELL, ForthFailed, MiniForth, Program

RESET_VECTOR, CLIENT, RETURN, HYPERVISOR_CALL = 0x100, 0x20000, 0x20100, 0x20200
LOADER, STACK, CLAIMED, HEAP, SCRATCH = 0x30000, 0x3F000, 0x50000, 0x80000, 0x3A000
LOADER_CODE = bytes(range(64))
ROOT = 0x1234
FUNCTION_MISSING = CELL - 2
"""The status that QEMU's own hypervisor answers to an unknown call: H_FUNCTION."""

Action = Callable[[Processor], bool]
"""Runs at an address; returns False when the machine is off."""
Steps = Generator[tuple[str, tuple[int | bytes, ...], int], list[int] | None, None]
"""A boot loader: it yields calls (service, arguments, number of results), and is sent the results.

None instead of results means that firmware has no such service.
"""


class FakeSlof(FakeMachine):
    """A machine that boots: firmware, then `loader`, then the kernel of FakeMachine.

    properties     the properties that were set at the root
    without        services that firmware lacks
    broken         firmware's Forth refuses every text
    is_full        `claim` fails
    sets           `setprop` works
    own_code       firmware runs code of its own at the loader's entry first
    refused        the loader powers the machine off and starts no kernel
    waits          the loader runs for ever and starts no kernel
    ends_by_guest  QEMU reports an end of the machine as one by the guest
    """

    def __init__(self, kernel: Kernel, tree: bytes, loader: Callable[[], Steps]) -> None:
        self.kernel = kernel
        self.loader = loader
        self.properties: dict[bytes, bytes] = {}
        self.without: set[str] = set()
        self.broken = False
        self.is_full = False
        self.sets = True
        self.own_code = False
        self.refused = False
        self.ends_by_guest = True
        self.waits = False
        self.at: dict[int, Action] = {
            RESET_VECTOR: self._firmware,
            LOADER: self._loader_starts,
            CLIENT: self._service,
            RETURN: self._returned,
        }
        super().__init__(kernel, tree, RESET_VECTOR)

    def boot(self) -> None:
        super().boot()
        self.passes = 0
        self.forth = MiniForth(self.memory, HEAP)
        self.programs: list[tuple[Program, int, int]] = []
        self.memory[LOADER : LOADER + len(LOADER_CODE)] = bytes(len(LOADER_CODE))
        self.processors[0].values["msr"] = BIG

    def execute(self, processor: Processor) -> bool:
        action = self.at.get(processor.values["pc"])
        runs = action(processor) if action else super().execute(processor)
        if not runs and self.ends_by_guest:
            self.events.append("SHUTDOWN")
        return runs

    def _firmware(self, processor: Processor) -> bool:
        """Pass the reset vector once more, as SLOF does, then start the loader."""
        self.passes += 1
        if self.passes == 2:
            self.memory[LOADER : LOADER + len(LOADER_CODE)] = bytes(64) if self.own_code else LOADER_CODE
            processor.values |= {"pc": LOADER, "r1": STACK, "r5": CLIENT}
        return True

    def _loader_starts(self, processor: Processor) -> bool:
        if self.own_code:
            self.own_code = False
            self.memory[LOADER : LOADER + len(LOADER_CODE)] = LOADER_CODE
            self.at[LOADER + 4] = self._goes_back
            processor.values["pc"] += 4
            return True
        self.running = self.loader()
        return self._go_on(processor, None)

    def _goes_back(self, processor: Processor) -> bool:
        processor.values["pc"] = LOADER
        return True

    def reset(self, _processor: Processor | None = None) -> bool:
        """Reset the machine. This is the action of an address."""
        self.events.append("RESET")
        self.boot()
        return True

    def _go_on(self, processor: Processor, results: list[int] | None) -> bool:
        """Run the loader up to its next call; at its end the kernel starts."""
        try:
            name, arguments, count = self.running.send(results)
        except StopIteration:
            return self._kernel_starts(processor)
        self.count = count
        self.cells = _block(self.memory, name, arguments, count)
        processor.values |= {"r3": SCRATCH, "lr": RETURN, "pc": CLIENT}
        return True

    def _kernel_starts(self, processor: Processor) -> bool:
        """Enter the kernel, or power off if the loader has none."""
        if self.refused:
            return False
        if self.waits:
            self.memory[SCRATCH : SCRATCH + 4] = SPIN.to_bytes(4, "little")
            processor.values["pc"] = SCRATCH
            return True
        self.memory[CODE : CODE + len(self.kernel.code())] = self.kernel.code()
        processor.values |= {"pc": self.kernel.symbols["start"][0] & REAL, "r3": TREE, "msr": LITTLE}
        return True

    def _returned(self, processor: Processor) -> bool:
        cells = struct.unpack_from(f">{self.count}I", self.memory, self.cells)
        return self._go_on(processor, None if processor.values["r3"] else list(cells))

    def _service(self, processor: Processor) -> bool:
        """Run a client service."""
        values = processor.values
        name_at, count, results = struct.unpack_from(">3I", self.memory, values["r3"])
        name = _text(self.memory, name_at).decode()
        arguments = struct.unpack_from(f">{count}I", self.memory, values["r3"] + 12)
        place = values["r3"] + 12 + 4 * count
        try:
            if name in self.without:
                raise KeyError(name)
            self.programs.append((self._run(name, arguments), place, results))
        except KeyError:
            values |= {"r3": CELL - 1, "pc": values["lr"]}
            return True
        return self._advance(processor, None)

    def _run(self, name: str, arguments: tuple[int, ...]) -> Program:
        """Return the program of a service; KeyError for an unknown one."""
        own: dict[str, Callable[..., Program]] = {
            "claim": self._claim,
            "release": lambda *_: _leave(self.forth, []),
            "finddevice": lambda _: _leave(self.forth, [ROOT]),
            "setprop": self._set_property,
            "interpret": self._interpret,
            "test": self._test,
        }
        if name in own:
            return own[name](*arguments)
        if name not in self.forth.services:
            raise KeyError(name)
        self.forth.stack += arguments
        return self.forth.call(name)

    def _claim(self, _at: int, size: int, _align: int) -> Program:
        assert size <= HEAP - CLAIMED
        return _leave(self.forth, [CELL - 1 if self.is_full else CLAIMED])

    def _test(self, name: int) -> Program:
        known = _text(self.memory, name).decode() in self.forth.services
        return _leave(self.forth, [0 if known else 0xFFFFFFFF])

    def _set_property(self, root: int, name: int, value: int, length: int) -> Program:
        assert root == ROOT
        self.properties[_text(self.memory, name)] = bytes(self.memory[value : value + length])
        return _leave(self.forth, [length if self.sets else CELL - 1])

    def _interpret(self, at: int) -> Program:
        """Run a Forth text. Then the top of the stack is the number of the exception, 0 for none."""
        try:
            if self.broken:
                raise ForthFailed("broken")
            yield from self.forth.run(_text(self.memory, at).decode())
            self.forth.stack.append(0)
        except ForthFailed:
            self.forth.stack[:] = [0, 0xFFFFFFF3]

    def _advance(self, processor: Processor, answer: tuple[int, ...] | None) -> bool:
        """Run the newest service up to its next h-call, or to its return."""
        program, place, count = self.programs[-1]
        values = processor.values
        try:
            registers = program.send(answer)  # type: ignore[arg-type]
        except StopIteration:
            self.programs.pop()
            cells = [number & 0xFFFFFFFF for number in self.forth.stack[-count:]] if count else []
            del self.forth.stack[:]
            struct.pack_into(f">{count}I", self.memory, place, *cells)
            values |= {"r3": 0, "pc": values["lr"]}
            return True
        self._prepare_call(values, registers)
        return True

    def _prepare_call(self, values: dict[str, int], registers: tuple[int, ...]) -> None:
        """Send the processor to the `sc 1` that the text has stored, with the registers of the h-call."""
        at = self.call_at
        self.at[at] = self._unanswered
        self.at[at + 4] = self._answered
        values |= {f"r{3 + n}": value for n, value in enumerate(registers)} | {"pc": at}

    @property
    def call_at(self) -> int:
        """The address of the `sc 1` that the text has stored."""
        word = struct.pack(">I", 0x44000022)
        return self.memory.index(word, HEAP)

    def _unanswered(self, processor: Processor) -> bool:
        """Answer an h-call as QEMU itself does: it has no keystore, so the function is missing."""
        self.foreign.append(processor.values["r3"])
        processor.values |= {"r3": FUNCTION_MISSING, "pc": processor.values["pc"] + 4}
        return True

    def _answered(self, processor: Processor) -> bool:
        values = processor.values
        return self._advance(processor, (values["r3"], values["r4"], values["r5"]))


def _leave(forth: MiniForth, numbers: list[int]) -> Program:
    """Return a program that leaves numbers on the stack."""
    forth.stack += numbers
    yield from ()


def _text(memory: bytearray, at: int) -> bytes:
    return bytes(memory[at : memory.index(0, at)])


def _block(memory: bytearray, name: str, arguments: tuple[int | bytes, ...], results: int) -> int:
    """Write the block of a loader's call; return the address of its results."""
    texts = SCRATCH + 0x100
    cells = []
    for each in (name.encode() + b"\0", *arguments):
        if isinstance(each, bytes):
            memory[texts : texts + len(each)] = each
            cells.append(texts)
            texts += len(each)
        else:
            cells.append(each)
    struct.pack_into(f">{2 + len(cells)}I", memory, SCRATCH, cells[0], len(arguments), results, *cells[1:])
    return SCRATCH + 12 + 4 * len(arguments)


def loader_image() -> DiskLoader:
    """Return the boot loader of this machine, as `loader_of` finds it on a disk."""
    return DiskLoader(LOADER, LOADER_CODE)
