"""Debian's kernels as guests: the packages to fetch, the programs in them, their output and their h-calls."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import trio

from hcall_abi.calls import Opcode
from hcall_abi.frames import HReturn
from swpks.qemu.bridge import Bridge, real
from swpks.qemu.console import PatientConsole
from swpks.qemu.elf import KernelImage, load
from swpks.qemu.errors import MachineFailed
from swpks.qemu.inferior import call_function
from swpks.qemu.machine import QemuMachine, check
from swpks.qemu.run import run_kernel
from swpks.qemu.stub import Stop
from swpks.testing import ServerProcess
from tests.qemu import initramfs
from tools.debian_archive import Archive, Unavailable

META = "linux-image-powerpc64le"
PAGE_MAKERS = ("get_zeroed_page_noprof", "get_zeroed_page")
GFP_KERNEL = 0xCC0
PATIENCE = 300
"""Most seconds of a boot, on a busy machine."""
INIT = """
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox cat /proc/keys
for f in /sys/firmware/plpks/config/*; do /bin/busybox echo "config ${f##*/} $(/bin/busybox cat $f)"; done
/bin/busybox echo "mode $(/bin/busybox hexdump -C /proc/device-tree/ibm,secure-boot)"
/bin/busybox reboot -f
"""


def busybox() -> Path:
    """Return a statically linked busybox for ppc64le."""
    archive = Archive("bookworm", "ppc64el")
    (path,) = archive.files(archive.package("busybox-static"), ["bin/busybox"])
    return path


def backports_kernel() -> Path:
    """Return the path of the current kernel of bookworm-backports."""
    archive = Archive("bookworm-backports", "ppc64el")
    image = archive.dependency(archive.package(META), "linux-image-")
    (path,) = archive.files(image, ["boot/vmlinux-*"])
    return path


def newest_kernel() -> Path:
    """Return the path of the kernel of sid; its image is in a separate package."""
    archive = Archive("sid", "ppc64el")
    image = archive.dependency(archive.package(META), "linux-image-")
    (path,) = archive.files(archive.dependency(image, "linux-binary-"), ["usr/lib/modules/*/vmlinuz"])
    return path


def need_qemu(kernel: Path) -> None:
    """Report the test as not run if QEMU is missing; the test command would install it."""
    try:
        check(QemuMachine(kernel))
    except MachineFailed as error:
        raise Unavailable(str(error)) from None


class Called(NamedTuple):
    """An h-call that the guest has made, and its answer."""

    name: str
    status: int
    answer: HReturn


class Guest:
    """A kernel, and one partition of a real server. The guest prints its report and reboots, forever."""

    def __init__(self, folder: Path, kernel: Path, server: ServerProcess) -> None:
        self.server = server
        self.kernel = kernel
        self.image: KernelImage = load(kernel)
        self.initrd = initramfs.write(folder / "initrd", busybox(), INIT)
        self.log = folder / "console"
        self.calls: list[Called] = []
        self.bridge: Bridge

    @property
    def console(self) -> str:
        """Return the output of the guest's console."""
        return self.log.read_text("utf-8", "replace")

    def note(self, opcode: int, answer: HReturn) -> None:
        self.calls.append(Called(Opcode(opcode).name, answer.status, answer))

    async def run(self, prepare: Callable[[Bridge], None]) -> None:
        """Run the machine until it ends; `prepare` sets hooks in the bridge."""
        machine = QemuMachine(self.kernel, self.initrd, "console=hvc0 panic=-1", serial=f"file:{self.log}")

        def prepared(bridge: Bridge) -> None:
            self.bridge = bridge
            prepare(bridge)

        console = PatientConsole(self.server.control_socket, "lpar1")
        try:
            with trio.fail_after(PATIENCE):
                await run_kernel(
                    machine, self.image, self.server.socket(), console, on_call=self.note, prepare=prepared
                )
        finally:
            self._tell()

    def _tell(self) -> None:
        """Print the console and the statuses of the h-calls, for a test that fails."""
        print(self.console)
        print(*(f"{call.name}={call.status}" for call in self.calls))

    async def page(self, stop: Stop) -> int:
        """Return the virtual address of a new page of the kernel's memory, filled with zeros."""
        maker = next(name for name in PAGE_MAKERS if name in self.image.symbols)
        return await call_function(self.bridge, stop, maker, GFP_KERNEL)

    async def put(self, address: int, data: bytes) -> int:
        """Write into the kernel's linear mapping; return the address."""
        await self.bridge.stub.write_memory(real(address), data)
        return address

    async def get(self, address: int, length: int) -> bytes:
        """Read from the kernel's linear mapping."""
        return await self.bridge.stub.read_memory(real(address), length)
