"""The bridge between a guest in QEMU and its partition: the action at each stop of the guest.

The kernel starts          a machine that was reset has an IPL; the device tree is completed
The driver calls a gate    the ``sc 1`` instructions of the gate become breakpoints, the call goes on
A hypervisor call          one of ours goes to the partition; any other is left to QEMU

Only the driver's call sites have permanent breakpoints.  The gates serve all h-calls of the kernel, and QEMU
runs a page of code with a breakpoint several times slower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from hcall_abi.calls import CALLS
from hcall_abi.consumers import SecureBoot
from hcall_abi.frames import HReturn
from swpks.qemu import devicetree
from swpks.qemu.callsites import CallSites, Gate, find_callsites
from swpks.qemu.elf import KernelImage
from swpks.qemu.errors import GuestStopped
from swpks.qemu.memory import SeenMemory, marshal_slowly
from swpks.qemu.partition import ServedPartition
from swpks.qemu.qmp import Qmp
from swpks.qemu.stub import Ended, Stop, Stub

KERNEL_ENTRY = "early_setup"
"""The first function of the kernel that has the device tree, in r3, and the last before it is read."""
FUNCTIONS = ("/rtas", "ibm,hypertas-functions")
ADVERTISED = b"hcall-pks"
"""The string that says that there is a keystore (spec/qemu.md#the-device-tree)."""
SECURE_BOOT = "ibm,secure-boot"
"""The root's property with the secure-boot mode of the current IPL, in four bytes."""
STEPS = 10
"""Most steps that are tried to run one instruction."""
ARGUMENTS = tuple(f"r{number}" for number in range(4, 13))

_REAL = (1 << 60) - 1
_WORD = (1 << 64) - 1


OnCall = Callable[[int, HReturn], None]
"""Called after every h-call, with its opcode and the answer."""
Hook = Callable[[Stop], Awaitable[None]]
"""The action at a stop; afterwards the instruction there is run."""


def real(address: int) -> int:
    """Return the real address behind one of the kernel's linear mapping: without its highest four bits."""
    return address & _REAL


class Bridge:
    """Serves one machine; see the module.

    `on_call` is called after every h-call.  `hook` adds an action at a function's start.
    """

    def __init__(
        self,
        stub: Stub,
        qmp: Qmp,
        image: KernelImage,
        partition: ServedPartition,
        on_call: OnCall | None = None,
    ) -> None:
        self.stub = stub
        self.image = image
        self.monitor = qmp
        self._partition = partition
        self._on_call = on_call
        self._sites: CallSites = find_callsites(image)
        self._under_way: Counter[Gate] = Counter()
        self._resets: int | None = None
        self._memory_size = 0
        self._places = self._table()
        self._hooks: dict[int, Hook] = {}

    def hook(self, function: str, hook: Hook) -> None:
        """Have `hook` called whenever `function` of the kernel is; before `run`."""
        self._hooks[self.image.find(function).local_entry] = hook

    async def run(self) -> Ended:
        """Serve the guest until its machine ends; GuestStopped where it stops and cannot go on."""
        self._memory_size = await self.monitor.memory_size()
        for address in (*self._places, *self._hooks):
            if not self._is_gate(address):
                await self.stub.set_breakpoint(address)
        while True:
            stop = await self.stub.resume()
            if isinstance(stop, Ended):
                return stop
            await self.handle(stop)

    async def handle(self, stop: Stop) -> None:
        """Run the action of the address where the guest stopped."""
        await self.stub.select(stop.thread)
        (address,) = await self.stub.read("pc")
        if address in self._hooks:
            await self._hooks[address](stop)
            await self._step_from(stop, address)
        elif address in self._places:
            await self._places[address](stop, address)
        elif stop.signal != _TRAP:
            raise GuestStopped(f"the guest has stopped at 0x{address:X} for good (signal {stop.signal})")

    async def _step_from(self, stop: Stop, address: int) -> None:
        """Run the instruction at a breakpoint.

        A busy QEMU may answer a step before it has run the instruction.  Then the next resume would stop
        here once more, and a hook would be called twice.
        """
        for _ in range(STEPS):
            if isinstance(await self.stub.step(stop.thread), Ended):
                return
            await self.stub.select(stop.thread)
            (reached,) = await self.stub.read("pc")
            if reached != address:
                return
        raise GuestStopped(f"QEMU does not run the instruction at 0x{address:X}")

    def _table(self) -> dict[int, Callable[[Stop, int], Awaitable[None]]]:
        """Return the actions by address."""
        entry = self.image.find(KERNEL_ENTRY)
        addresses = {entry.address, entry.local_entry}
        return {
            **{at: self._kernel_starts for each in addresses for at in (each, real(each))},
            **dict.fromkeys(self._sites.calls, self._driver_calls),
            **{at: self._hypervisor_call for gate in self._sites.gates for at in gate.hypervisor_calls},
        }

    def _is_gate(self, address: int) -> bool:
        return any(address in gate.hypervisor_calls for gate in self._sites.gates)

    async def _kernel_starts(self, stop: Stop, address: int) -> None:
        """Take note of a reset, and complete the device tree.

        A kernel that was started by kexec comes here as well; it has no IPL.
        """
        resets = await self.monitor.resets()
        if resets != self._resets:
            self._resets = resets
            await self._partition.ipl()
        for gate in list(self._under_way):
            await self._disarm(gate, all_of_them=True)
        await self._advertise()
        await self._step_from(stop, address)

    async def _advertise(self) -> None:
        (pointer,) = await self.stub.read("r3")
        at = real(pointer)
        size = devicetree.tree_size(await self.stub.read_memory(at, devicetree.HEADER_SIZE))
        before = await self.stub.read_memory(at, size)
        after = devicetree.with_string(before, *FUNCTIONS, ADVERTISED)
        mode = await self._partition.secure_boot()
        if mode != SecureBoot.OFF:  # to Linux a tree without the property says the same
            after = devicetree.with_root_property(after, SECURE_BOOT, mode.to_bytes(4, "big"))
        changed = [n for n in range(size) if before[n] != after[n]]
        if changed:
            await self.stub.write_memory(at + changed[0], after[changed[0] : changed[-1] + 1])

    async def _driver_calls(self, _stop: Stop, address: int) -> None:
        """Emulate the ``bl``: arm the breakpoints of the gate, set LR, jump."""
        gate = self._sites.calls[address]
        if not self._under_way[gate]:
            for at in gate.hypervisor_calls:
                await self.stub.set_breakpoint(at)
        self._under_way[gate] += 1
        await self.stub.write({"lr": address + 4, "pc": gate.entry})

    async def _hypervisor_call(self, stop: Stop, address: int) -> None:
        """Answer an h-call of ours; leave any other to QEMU, by running the instruction."""
        opcode, *registers = await self.stub.read("r3", *ARGUMENTS)
        if opcode not in CALLS:
            await self._step_from(stop, address)
            return
        answer = await self._make(opcode, tuple(registers))
        for at, data in answer.writes:
            await self.stub.write_memory(at, data)
        results = dict(zip(ARGUMENTS, answer.registers, strict=True))
        await self.stub.write({"r3": answer.status & _WORD, **results, "pc": address + 4})
        gate = next(each for each in self._sites.gates if address in each.hypervisor_calls)
        await self._disarm(gate)

    async def _make(self, opcode: int, registers: tuple[int, ...]) -> HReturn:
        seen = SeenMemory(self._memory_size)
        request = await marshal_slowly(opcode, registers, seen, self.stub.read_memory)
        answer = await self._partition.call(request)
        if self._on_call:
            self._on_call(opcode, answer)
        return answer

    async def _disarm(self, gate: Gate, *, all_of_them: bool = False) -> None:
        """One call is over; the breakpoints go with the last one."""
        if not self._under_way[gate]:
            return  # the machine was reset while this processor stood here
        self._under_way[gate] -= self._under_way[gate] if all_of_them else 1
        if not self._under_way[gate]:
            del self._under_way[gate]
            for at in gate.hypervisor_calls:
                await self.stub.clear_breakpoint(at)


_TRAP = 5
"""SIGTRAP: the signal of a breakpoint, or of a step."""
