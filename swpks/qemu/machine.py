"""QEMU: its command line, and its process, whose gdb stub and monitor are connected before it runs.

Stub and monitor are socket pairs that QEMU inherits, so there is no port to choose and no path to remove. No
other process can connect to the stub, which gives access to all of the guest's memory.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import trio

from swpks.qemu.cleanup import Cleanup
from swpks.qemu.errors import MachineFailed
from swpks.qemu.warnings import passed_on

PROGRAM = "qemu-system-ppc64"
BOARD = "pseries,x-vof=on"
"""The machine: a partition, with QEMU's small built-in firmware (VOF), which starts a kernel at once."""
CPU = "power9"
MEMORY = "1G"
COMMAND_LINE = "console=hvc0"
TERMINAL = "mon:stdio"
"""The console on this terminal, with QEMU's escape character Ctrl-A (x ends QEMU, h lists the keys)."""

END_SECONDS = 5.0
"""Seconds from SIGTERM to SIGKILL."""


@dataclass(frozen=True)
class QemuMachine:
    """A machine to start: a kernel, its initramfs and command line, and further options of QEMU.

    `serial` is the console, in the form of QEMU's option -serial; `program` is the name of the QEMU program.
    """

    kernel: Path
    initrd: Path | None = None
    append: str = COMMAND_LINE
    options: Sequence[str] = field(default=())
    serial: str = TERMINAL
    program: str = PROGRAM


class Wires(NamedTuple):
    """The started machine: its process, and the streams to its gdb stub and to its monitor."""

    stub: trio.abc.Stream
    monitor: trio.abc.Stream
    process: trio.Process


def command_line(machine: QemuMachine, stub: int, monitor: int) -> list[str]:
    """Return QEMU's command line; `stub` and `monitor` are descriptors of connected sockets.

    `options` of the machine come last, so that they override the others.
    """
    return [
        *(machine.program, "-machine", BOARD, "-cpu", CPU, "-m", MEMORY),
        *("-nodefaults", "-vga", "none", "-display", "none", "-serial", machine.serial),
        *("-kernel", str(machine.kernel)),
        *(("-initrd", str(machine.initrd)) if machine.initrd else ()),
        *("-append", machine.append),
        *("-chardev", f"socket,id=swpks-stub,fd={stub}", "-gdb", "chardev:swpks-stub"),
        *("-chardev", f"socket,id=swpks-monitor,fd={monitor}"),
        *("-mon", "chardev=swpks-monitor,mode=control"),
        "-S",  # halted, so that breakpoints are set before the first instruction
        *machine.options,
    ]


def check(machine: QemuMachine) -> None:
    """Raise MachineFailed if QEMU is not installed, or a file is missing."""
    if shutil.which(machine.program) is None:
        raise MachineFailed(f"{machine.program} is not installed (Debian: apt-get install qemu-system-ppc)")
    for needed in filter(None, (machine.kernel, machine.initrd)):
        if not needed.is_file():
            raise MachineFailed(f"{needed} is no file")


@asynccontextmanager
async def start(machine: QemuMachine, cleanup: Cleanup | None = None, **streams: Any) -> AsyncIterator[Wires]:
    """Run QEMU, halted before its first instruction, for the length of a block.

    `cleanup` ends QEMU if this process is killed.  `streams` are `stdin`, `stdout` and `stderr` as for
    `subprocess.Popen`.  QEMU inherits the streams that are not given, but `stderr` is passed on without the
    expected warnings (`swpks.qemu.warnings`).  If QEMU still runs at the end of the block, it is ended.
    Errors are those of `check`.
    """
    check(machine)
    filtered = "stderr" not in streams
    streams.setdefault("stderr", subprocess.PIPE)
    (ours_stub, theirs_stub), (ours_monitor, theirs_monitor) = socket.socketpair(), socket.socketpair()
    # This process closes its copies of QEMU's ends after the start: otherwise the streams would not end with
    # QEMU.
    with theirs_stub, theirs_monitor:
        fds = (theirs_stub.fileno(), theirs_monitor.fileno())
        process = await trio.lowlevel.open_process(command_line(machine, *fds), pass_fds=fds, **streams)
    async with passed_on(process.stderr if filtered else None, machine.program), _ended(process):
        if cleanup:
            # First of all: from here on, a SIGKILL of this process does not leave QEMU behind.
            cleanup.end_process(process.pid)
        async with _stream(ours_stub) as stub, _stream(ours_monitor) as monitor:
            yield Wires(stub, monitor, process)


@asynccontextmanager
async def _ended(process: trio.Process) -> AsyncIterator[None]:
    """End QEMU when the block ends."""
    try:
        yield
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    """End QEMU, first with SIGTERM, because then QEMU restores the settings of the terminal."""
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(END_SECONDS):
            await process.wait()
        process.kill()
        await process.wait()


def _stream(ours: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours))
