"""The bridge of a machine that boots from a disk: firmware, boot loader, kernel.

- At the reset vector, the bridge makes an IPL of the partition.
- At the boot loader's entry, it gives firmware the keystore's services, and locks firmware's objects.
- At firmware's `sc 1`, it sends an H_PKS call to the partition.
- At the hand-over, it sets the breakpoints of the kernel, and clears those of firmware.
"""

# How firmware and boot loader take their keys from the partition
#
# With `-kernel`, QEMU starts the kernel itself, so the first two consumers make no call.  From a disk the
# machine boots as a real one: SLOF (QEMU's firmware), a boot loader, the kernel.  This bridge must guarantee:
#
#   1. The binaries are not changed: neither SLOF, nor the loader, nor the kernel.  SLOF gets words of Forth
#      through its own client interface (`firmware.forth`).
#   2. The partition gets the h-calls of three consumers, in their order: firmware's before the loader runs,
#      the loader's through firmware, the kernel's by its driver.
#   3. Each reset of the machine is one IPL, at the reset vector.  So firmware's h-calls belong to the new
#      IPL.
#   4. A reset or an end of the machine at any moment is handled, also in the middle of a call from outside.
#
# Five groups of breakpoints, each set only while it is needed:
#
#   reset       always.  SLOF and Linux pass the address 0x100 without a reset too.  So the bridge asks QEMU
#               how often the machine was reset.
#   loader      from the reset to the loader's start.  SLOF may run other code at this address before.  So the
#               code there is compared with the code on the disk.
#   firmware    the one `sc 1` in firmware's page, from its installation to the hand-over.
#   start       `early_setup`, from the hand-over on.  Before the hand-over, this group and the next would
#               cost SLOF 2.4 s.  They would also stop the loader if it uses the same address.
#   kernel      all other breakpoints in the kernel.  They are set when the kernel is known to be that of
#               `--kernel`.  In another kernel they would be in the middle of other code, and the bridge would
#               change its registers.
#
# A call from outside is nested.  It begins in the stop at the loader's entry, and the guest runs on until
# firmware returns.  The same function handles the stops in between.  If the machine is reset meanwhile, the
# call never returns.  So the reset raises `CallCut`, which leaves the call.  Then the bridge handles the
# reset as any other one.
#
# The disk may have another kernel than `--kernel` names.  So the code of `early_setup` is compared with the
# kernel's file.  Most other kernels do not even stop at its address.  Then the end of the machine, a reset,
# or the time limit of `DiskBoot` reports the other kernel.

from __future__ import annotations

from contextlib import AbstractContextManager

from hcall_abi.consumers import SecureBoot
from hcall_abi.statuses import Status, status_name
from swpks.qemu import devicetree
from swpks.qemu.boot import BootStage, DiskBoot
from swpks.qemu.breakpoints import BreakpointGroup
from swpks.qemu.bridge import (
    ADVERTISED,
    FUNCTIONS,
    KERNEL_ENTRY,
    SECURE_BOOT,
    Bridge,
    OnCall,
    real,
)
from swpks.qemu.callsites import HYPERVISOR_CALL
from swpks.qemu.elf import KernelImage
from swpks.qemu.errors import FirmwareUnsuitable, LoaderUnsuitable, OtherKernel
from swpks.qemu.firmware import forth
from swpks.qemu.firmware.client_interface import CallCut, ClientInterface, status_of
from swpks.qemu.partition import ServedPartition
from swpks.qemu.qmp import Qmp
from swpks.qemu.stub import Stop, Stub

RESET_VECTOR = 0x100
COMPARED = 64
"""Bytes of a kernel's first function that are compared."""


class ChainBridge(Bridge):
    """The bridge of one machine that boots from a disk."""

    def __init__(
        self,
        stub: Stub,
        qmp: Qmp,
        image: KernelImage,
        partition: ServedPartition,
        boot: DiskBoot,
        on_call: OnCall | None = None,
    ) -> None:
        super().__init__(stub, qmp, image, partition, on_call)
        self._boot = boot
        self._demand_free(boot.loader.entry)
        self._loader = BreakpointGroup(stub, [boot.loader.entry])
        self._firmware = BreakpointGroup(stub, [])
        self._start = BreakpointGroup(stub, self._entries())
        self._kernel = BreakpointGroup(stub, [])
        self._calling = False

    def _demand_free(self, entry: int) -> None:
        """Raise LoaderUnsuitable for a loader at an address that has an action of its own."""
        taken = "the reset vector" if entry == RESET_VECTOR else "watched for the kernel"
        if entry == RESET_VECTOR or entry in self._places:
            reason = f"the boot loader's entry 0x{entry:X} is {taken}: link it to another address"
            raise LoaderUnsuitable(f"{self._boot.disk}: {reason}")

    def _server_asked(self) -> AbstractContextManager[None]:
        """Return the block of a request: the time limits of the boot do not count a server's absence."""
        return self._boot.paused()

    async def _begin(self) -> None:
        points = self._kernel_points().addresses
        self._kernel = BreakpointGroup(self.stub, set(points) - self._entries())
        self._places[RESET_VECTOR] = self._reset_vector
        self._places[self._boot.loader.entry] = self._loader_starts
        await BreakpointGroup(self.stub, [RESET_VECTOR]).set()

    async def handle(self, stop: Stop) -> None:
        """Run the action of the address where the guest stopped; see `Bridge.handle`."""
        try:
            await self._handle_in_call(stop)
        except CallCut as cut:
            self._calling = False
            if isinstance(cut.stop, Stop):
                await self.handle(cut.stop)

    async def _handle_in_call(self, stop: Stop) -> None:
        """Handle a stop; during a call from outside, a reset raises CallCut."""
        await super().handle(stop)

    async def _reset_vector(self, stop: Stop, address: int) -> None:
        """Restart the partition, if the machine was reset."""
        if self._calling and self._resets != await self.monitor.resets():
            raise CallCut(stop)
        if await self._was_reset():
            if self._boot.stage is BootStage.HANDED_OVER:
                raise OtherKernel(self._boot.kernel)
            await self._restart()
        await self._step_from(stop, address)

    async def _restart(self) -> None:
        with self._server_asked():
            await self._partition.ipl()
        await self._drop_calls()
        await self._start.clear()
        await self._kernel.clear()
        await self._firmware.clear()
        await self._loader.set()
        self._boot.enter(BootStage.FIRMWARE)

    async def _loader_starts(self, stop: Stop, address: int) -> None:
        """Install the keystore's services if the boot loader starts here.

        SLOF may run other code at this address before.  That code just runs on.
        """
        if await self.stub.read_memory(address, len(self._boot.loader.code)) == self._boot.loader.code:
            (entry,) = await self.stub.read("r5")
            with self._server_asked():
                mode = await self._partition.secure_boot()
            await self._demand_no_reset()
            self._calling = True
            await self._install(ClientInterface(self.stub, stop, entry, self._handle_in_call), mode)
            self._calling = False
            await self._loader.clear()
            self._boot.enter(BootStage.LOADER)
        await self._step_from(stop, address)

    async def _install(self, client: ClientInterface, mode: SecureBoot) -> None:
        at = await client.interpret(forth.BASE) + forth.CALL_AT
        if await self.stub.read_memory(at, 4) != HYPERVISOR_CALL.to_bytes(4, "big"):
            raise FirmwareUnsuitable(f"its Forth has left no `sc 1` at 0x{at:X}")
        self._places[at] = self._firmware_calls
        self._firmware = BreakpointGroup(self.stub, [at])
        await self._firmware.set()
        # Without a keystore there are no services, as on a machine whose firmware has none.
        if await client.interpret(forth.GET_CONFIG) == Status.H_SUCCESS:
            await self._lock(client)
            await client.interpret(forth.SERVICES)
        await client.set_property(SECURE_BOOT, mode.to_bytes(4, "big"))

    async def _lock(self, client: ClientInterface) -> None:
        status = status_of(await client.interpret(forth.LOCK))
        if status != Status.H_SUCCESS:
            self._boot.notify(f"firmware has not locked its objects: {status_name(status)}")
        if self._boot.lock_boot_loader:
            await client.interpret(forth.LOCK_LOADER)

    async def _firmware_calls(self, stop: Stop, address: int) -> None:
        """Answer an h-call of firmware, or take its report of the hand-over."""
        opcode, status = await self.stub.read("r3", "r4")
        if opcode == forth.HAND_OVER:
            if status:
                shown = status_name(status_of(status))
                self._boot.notify(f"firmware has not locked the boot loader's objects: {shown}")
            await self.stub.write({"r3": Status.H_SUCCESS, "pc": address + 4})
            await self._firmware.clear()
            await self._start.set()
            self._boot.enter(BootStage.HANDED_OVER)
        elif not await self._answer(address):
            await self._step_from(stop, address)

    async def _kernel_starts(self, stop: Stop, address: int) -> None:
        # Only the first kernel is compared: a kexec may start any other kernel.
        if self._boot.stage is BootStage.HANDED_OVER:
            await self._compare_kernel()
            await self._kernel.set()
            self._boot.enter(BootStage.KERNEL)
        await super()._kernel_starts(stop, address)

    async def _compare_kernel(self) -> None:
        """Raise OtherKernel if the code in memory is not that of the kernel's file."""
        entry = self.image.find(KERNEL_ENTRY)
        code = self.image.code(entry)[:COMPARED]
        if await self.stub.read_memory(real(entry.address), len(code)) != code:
            raise OtherKernel(self._boot.kernel)

    def _completed(self, tree: bytes, _mode: SecureBoot) -> bytes:
        # The tree has the secure-boot mode already: SLOF has set it for the loader.
        return devicetree.with_string(tree, *FUNCTIONS, ADVERTISED)
