"""QEMU itself: its command line, and a process whose stub and monitor are connected before it runs.

Both are socket pairs that QEMU inherits: there is no port to choose and no path to clean up.  No other
process can connect to the stub, which gives access to all of the guest's memory.
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

    `serial` is the console, as QEMU's option -serial names it; `program` is QEMU.
    """

    kernel: Path
    initrd: Path | None = None
    append: str = COMMAND_LINE
    options: Sequence[str] = field(default=())
    serial: str = TERMINAL
    program: str = PROGRAM


class Wires(NamedTuple):
    """The started machine: streams to its gdb stub and to its monitor, and its process."""

    stub: trio.abc.Stream
    monitor: trio.abc.Stream
    process: trio.Process


def command_line(machine: QemuMachine, stub: int, monitor: int) -> list[str]:
    """Return QEMU's command line; `stub` and `monitor` are descriptors of connected sockets.

    The machine's own options come last, so that they win.
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
        "-S",  # halted: breakpoints are set before the first instruction
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

    `cleanup` ends it if this process is killed.  `streams` are `stdin`, `stdout` and `stderr` as
    `subprocess.Popen` takes them; inherited unless given, `stderr` without the expected warnings of QEMU
    (`swpks.qemu.warnings`).  A process that still runs at the end of the block
    is ended.  MachineFailed as `check` does.
    """
    check(machine)
    filtered = "stderr" not in streams
    streams.setdefault("stderr", subprocess.PIPE)
    (ours_stub, theirs_stub), (ours_monitor, theirs_monitor) = socket.socketpair(), socket.socketpair()
    # Our copies of QEMU's ends are closed after its start: otherwise its end would not close the streams.
    with theirs_stub, theirs_monitor:
        fds = (theirs_stub.fileno(), theirs_monitor.fileno())
        process = await trio.lowlevel.open_process(command_line(machine, *fds), pass_fds=fds, **streams)
    async with passed_on(process.stderr if filtered else None, machine.program), _ended(process):
        if cleanup:
            # Before anything else: a SIGKILL of this process from here on does not leave QEMU behind.
            cleanup.end_process(process.pid)
        async with _stream(ours_stub) as stub, _stream(ours_monitor) as monitor:
            yield Wires(stub, monitor, process)


@asynccontextmanager
async def _ended(process: trio.Process) -> AsyncIterator[None]:
    """End QEMU after the block."""
    try:
        yield
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    """End QEMU: SIGTERM first, because then it restores the settings of the terminal."""
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(END_SECONDS):
            await process.wait()
        process.kill()
        await process.wait()


def _stream(ours: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours))
