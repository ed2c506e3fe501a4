"""The bridge between a guest in QEMU and its partition: the action at each stop of the guest.

- At the start of the kernel, the bridge completes the device tree.  After a reset of the machine it also
  makes an IPL of the partition.
- When the driver calls a gate, the bridge sets breakpoints at the gate's ``sc 1``.  Then the call continues.
- At a hypervisor call, the partition answers an H_PKS call.  QEMU carries out any other call.
"""

# How the h-calls of a kernel reach the partition
#
# QEMU's pseries machine has no keystore: it answers every H_PKS call with H_FUNCTION.  The bridge stops the
# guest before such a call gets to QEMU, and answers it from the partition.  It guarantees four things:
#
#   1. Neither QEMU nor the kernel is changed.  A breakpoint of QEMU's gdb stub changes no memory of the
#      guest. The bridge changes registers, output buffers of a call, and the flattened device tree before it
#      is read.
#   2. The partition gets exactly the h-calls of the kernel's driver, in their order.  The guest is stopped
#      during each of them.
#   3. Each call has one answer, or the command ends.  If the session breaks during a call, the answer is
#      H_ABORTED, because the call may or may not have run.  The bridge never repeats a call by itself.
#   4. Each reset of the machine is one IPL of the partition.  A kexec is none: passwords survive it.
#
# `chain.ChainBridge` is this bridge for a machine that boots from a disk; it begins at the reset.
#
# Why two kinds of breakpoints.  The instruction that makes an h-call is `sc 1`, in `plpar_hcall` and
# `plpar_hcall9`.  The whole kernel makes h-calls by these two functions.  QEMU is slower in a 4 KiB page of
# code with a breakpoint.  Permanent breakpoints at `sc 1` would make the guest three times slower.  So the
# permanent breakpoints are at the calls of these functions in the keystore's driver.  A stop there sets the
# breakpoints at `sc 1`, and the end of the call clears them.  Meanwhile, another processor may stop at `sc 1`
# with another h-call.  Then the bridge lets this processor run the one instruction, and QEMU answers.
#
# Why the bridge counts.  With several processors, two calls of the driver may be in a gate at once.  The end
# of the first call must not clear the breakpoints of the other.  So `_under_way` has the number of calls in
# each gate, and the end of the last one clears them.  A reset sets all numbers to zero: the calls that it
# cuts off never end.
#
# Why the device tree.  The driver does nothing unless `/rtas/ibm,hypertas-functions` has `hcall-pks`.  So the
# bridge adds it before the kernel reads the tree.  `early_setup` is the last function before that, and its
# argument in r3 is the address of the tree.  A breakpoint has a virtual address, and the kernel may run there
# with or without translation.  So there are two breakpoints: at the virtual address and at the real one.
#
# Alternatives that were tried and dropped:
#
#   - Breakpoints at `sc 1` all the time: simpler, no emulated branch and no count, but too slow (see above).
#   - A change of the device tree in SLOF, QEMU's usual firmware: it does not survive into Linux.
#   - A socket with an address for the stub: another process could connect, and read all of the guest's
#     memory. The stub is an inherited socket pair (machine.py).
#
# A second way to test the driver is its C file in user space (docs/driver.md): about 100,000 writes a
# second.  But it has no page tables and no userland.  So both exist.

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from hcall_abi.calls import CALLS
from hcall_abi.consumers import SecureBoot
from hcall_abi.frames import HReturn
from swpks.qemu import devicetree
from swpks.qemu.breakpoints import BreakpointGroup
from swpks.qemu.callsites import CallSites, Gate, find_callsites
from swpks.qemu.elf import KernelImage
from swpks.qemu.errors import GuestStopped
from swpks.qemu.memory import SeenMemory, marshal_slowly
from swpks.qemu.partition import ServedPartition
from swpks.qemu.qmp import Qmp
from swpks.qemu.stub import Ended, Stop, Stub

KERNEL_ENTRY = "early_setup"
"""The last function before the kernel reads the device tree; r3 has the address of the tree."""
FUNCTIONS = ("/rtas", "ibm,hypertas-functions")
ADVERTISED = b"hcall-pks"
"""The name of the keystore's h-calls in the property of `FUNCTIONS` (spec/qemu.md#the-device-tree)."""
SECURE_BOOT = "ibm,secure-boot"
"""The root's property with the secure-boot mode of the current IPL, in four bytes."""
STEPS = 10
"""Most steps to run one instruction; after them, GuestStopped is raised."""
ARGUMENTS = tuple(f"r{number}" for number in range(4, 13))

_REAL = (1 << 60) - 1
_WORD = (1 << 64) - 1


OnCall = Callable[[int, HReturn], None]
"""Called after every h-call, with its opcode and the answer."""
Hook = Callable[[Stop], Awaitable[None]]
"""The action at a stop; after it, the bridge runs the instruction at the stop."""


def real(address: int) -> int:
    """Return the real address for a virtual address in the kernel's linear mapping: its lowest 60 bits."""
    return address & _REAL


class ResetMeanwhile(Exception):
    """The machine was reset while the bridge waited for the partition."""


class Bridge:
    """Serves the guest of one machine from one partition.

    `on_call` is called after every h-call.  `hook` adds an action at the start of a kernel function.
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
        self._gates = {gate: BreakpointGroup(stub, gate.hypervisor_calls) for gate in self._sites.gates}
        self._hooks: dict[int, Hook] = {}

    def hook(self, function: str, hook: Hook) -> None:
        """Make the bridge call `hook` at each start of this kernel function; call this before `run`."""
        self._hooks[self.image.find(function).local_entry] = hook

    async def run(self) -> Ended:
        """Serve the guest until its machine ends; GuestStopped if the guest stops and cannot go on."""
        self._memory_size = await self.monitor.memory_size()
        await self._begin()
        while True:
            stop = await self.stub.resume()
            if isinstance(stop, Ended):
                return stop
            await self.handle(stop)

    async def _begin(self) -> None:
        """Set the breakpoints that the machine starts with."""
        await self._kernel_points().set()

    def _kernel_points(self) -> BreakpointGroup:
        """Return the breakpoints that stay in the kernel; a gate's breakpoints are set for each call."""
        places = (address for address in self._places if not self._is_gate(address))
        return BreakpointGroup(self.stub, (*places, *self._hooks))

    async def handle(self, stop: Stop) -> None:
        """Run the action that belongs to the address where the guest has stopped."""
        await self.stub.select(stop.thread)
        (address,) = await self.stub.read("pc")
        if address in self._hooks:
            await self._hooks[address](stop)
            await self._step_from(stop, address)
        elif address in self._places:
            # After a reset the processor is at its reset vector.  So this stop needs no more action, and the
            # guest runs on.
            with suppress(ResetMeanwhile):
                await self._places[address](stop, address)
        elif stop.signal != _TRAP:
            raise GuestStopped(f"the guest has stopped at 0x{address:X} for good (signal {stop.signal})")

    async def _step_from(self, stop: Stop, address: int) -> None:
        """Run the instruction at a breakpoint.

        A busy QEMU may answer a step before it has run the instruction.  So the bridge repeats the step
        until the address has changed.  Without that, the guest would stop here again, and a hook would be
        called twice.
        """
        for _ in range(STEPS):
            if isinstance(await self.stub.step(stop.thread), Ended):
                return
            await self.stub.select(stop.thread)
            (reached,) = await self.stub.read("pc")
            if reached != address:
                return
        raise GuestStopped(f"QEMU does not run the instruction at 0x{address:X}")

    def _entries(self) -> set[int]:
        """Return the addresses at which the kernel may start: with and without translation."""
        entry = self.image.find(KERNEL_ENTRY)
        return {at for each in (entry.address, entry.local_entry) for at in (each, real(each))}

    def _table(self) -> dict[int, Callable[[Stop, int], Awaitable[None]]]:
        """Return the action for each address at which the bridge stops the guest."""
        return {
            **dict.fromkeys(self._entries(), self._kernel_starts),
            **dict.fromkeys(self._sites.calls, self._driver_calls),
            **{at: self._hypervisor_call for gate in self._sites.gates for at in gate.hypervisor_calls},
        }

    def _server_asked(self) -> AbstractContextManager[None]:
        """Return the block of a request to the partition's server, in which the guest stands still."""
        return nullcontext()

    def _is_gate(self, address: int) -> bool:
        return any(address in gate.hypervisor_calls for gate in self._sites.gates)

    async def _kernel_starts(self, stop: Stop, address: int) -> None:
        """After a reset, restart the partition; then complete the device tree.

        A kernel that was started by kexec stops here too, but a kexec is no IPL.
        """
        # early_setup also runs after a kexec. Only a reset, which QEMU reports over QMP, is an IPL.
        if await self._was_reset():
            with self._server_asked():
                await self._partition.ipl()
        await self._drop_calls()
        with self._server_asked():
            mode = await self._partition.secure_boot()
        await self._demand_no_reset()
        await self._advertise(mode)
        await self._step_from(stop, address)

    async def _was_reset(self) -> bool:
        """Return whether the machine was reset since the last call of this function."""
        before, self._resets = self._resets, await self.monitor.resets()
        return self._resets != before

    async def _demand_no_reset(self) -> None:
        """Raise ResetMeanwhile if the machine was reset since `_was_reset`.

        The guest is stopped while the bridge waits for the partition, but another program may reset the guest
        meanwhile.  After a reset the registers are those of the new boot, and must not be written.
        """
        if self._resets not in (None, await self.monitor.resets()):
            raise ResetMeanwhile

    async def _drop_calls(self) -> None:
        """Forget all calls of the driver that have not ended: a reset has cut them off."""
        self._under_way.clear()
        for points in self._gates.values():
            await points.clear()

    async def _advertise(self, mode: SecureBoot) -> None:
        (pointer,) = await self.stub.read("r3")
        at = real(pointer)
        size = devicetree.tree_size(await self.stub.read_memory(at, devicetree.HEADER_SIZE))
        before = await self.stub.read_memory(at, size)
        after = self._completed(before, mode)
        # Only the changed part is written: the tree has much padding, and each KiB of a write is a packet.
        changed = [n for n in range(size) if before[n] != after[n]]
        if changed:
            await self.stub.write_memory(at + changed[0], after[changed[0] : changed[-1] + 1])

    def _completed(self, tree: bytes, mode: SecureBoot) -> bytes:
        """Return the tree with the partition's properties, where the machine's tree lacks them."""
        tree = devicetree.with_string(tree, *FUNCTIONS, ADVERTISED)
        if mode != SecureBoot.OFF:  # Linux takes a tree without the property for OFF
            tree = devicetree.with_root_property(tree, SECURE_BOOT, mode.to_bytes(4, "big"))
        return tree

    async def _driver_calls(self, _stop: Stop, address: int) -> None:
        """Emulate the ``bl``: set the breakpoints of the gate, set LR, jump."""
        gate = self._sites.calls[address]
        await self._gates[gate].set()
        self._under_way[gate] += 1
        await self.stub.write({"lr": address + 4, "pc": gate.entry})

    async def _hypervisor_call(self, stop: Stop, address: int) -> None:
        """Answer the call at an `sc 1` if it is an h-call of the keystore; otherwise let QEMU answer it."""
        if await self._answer(address):
            await self._end_call(next(each for each in self._gates if address in each.hypervisor_calls))
        else:
            await self._step_from(stop, address)

    async def _answer(self, address: int) -> bool:
        """Answer the call at an `sc 1`, and return True.

        If the call is no h-call of the keystore, do nothing and return False.
        """
        opcode, *registers = await self.stub.read("r3", *ARGUMENTS)
        if opcode not in CALLS:
            return False
        answer = await self._make(opcode, tuple(registers))
        for at, data in answer.writes:
            await self.stub.write_memory(at, data)
        results = dict(zip(ARGUMENTS, answer.registers, strict=True))
        # The processor goes on after `sc 1`, so QEMU never gets this h-call. The status in r3 is signed: a
        # negative one has to fill all 64 bits.
        await self.stub.write({"r3": answer.status & _WORD, **results, "pc": address + 4})
        return True

    async def _make(self, opcode: int, registers: tuple[int, ...]) -> HReturn:
        seen = SeenMemory(self._memory_size)
        request = await marshal_slowly(opcode, registers, seen, self.stub.read_memory)
        with self._server_asked():
            answer = await self._partition.call(request)
        if self._on_call:
            self._on_call(opcode, answer)
        await self._demand_no_reset()
        return answer

    async def _end_call(self, gate: Gate) -> None:
        """Count the end of a call of a gate; after the last one, clear the gate's breakpoints."""
        if not self._under_way[gate]:
            return  # a reset has cut this call off
        self._under_way[gate] -= 1
        if not self._under_way[gate]:
            await self._gates[gate].clear()


_TRAP = 5
"""SIGTRAP: the signal of a breakpoint, or of a step."""
