"""QEMU: its command line, and its process, whose gdb stub and monitor are connected before it runs.

Stub and monitor are socket pairs that QEMU inherits, so there is no port to choose and no path to remove. No
other process can connect to the stub, which gives access to all of the guest's memory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import trio

from hcall_abi.errors import OperatorError
from hcall_abi.rules.service import COMMAND_FILE
from hcall_abi.scarcity import scarcity_of
from swpks.qemu.cleanup import Cleanup
from swpks.qemu.errors import MachineFailed
from swpks.qemu.initrd import check_initrd
from swpks.qemu.warnings import passed_on

PROGRAM = "qemu-system-ppc64"
BOARD = "pseries,x-vof=on"
"""The machine: a partition, with QEMU's small built-in firmware (VOF), which starts a kernel at once."""
DISK_BOARD = "pseries"
"""The machine that boots from a disk, with SLOF as its firmware; VOF has no disks."""
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

    If `disk` is given, the machine boots from it.  Then `kernel` gives only the symbols.  `serial` is the
    console, in the form of QEMU's option -serial.  With a disk, only the terminal and `file:PATH` are
    allowed.  `program` is QEMU.
    """

    kernel: Path
    initrd: Path | None = None
    append: str = COMMAND_LINE
    options: Sequence[str] = field(default=())
    serial: str = TERMINAL
    program: str = PROGRAM
    disk: Path | None = None


class Wires(NamedTuple):
    """The started machine: streams to its gdb stub and to its monitor, and its process.

    `console` has the bytes that a machine with a disk prints; without a disk it is None.
    """

    stub: trio.abc.Stream
    monitor: trio.abc.Stream
    process: trio.Process
    console: trio.abc.ReceiveStream | None = None


def command_line(machine: QemuMachine, stub: int, monitor: int, console: int | None = None) -> list[str]:
    """Return QEMU's command line.

    `stub` and `monitor` are descriptors of connected sockets.  A machine with a disk also needs `console`,
    a descriptor that gets a copy of the console.  The machine's own options come last, so they override the
    others.
    """
    board = BOARD if machine.disk is None else DISK_BOARD
    return [
        *(machine.program, "-machine", board, "-cpu", CPU, "-m", MEMORY),
        *("-nodefaults", "-vga", "none", "-display", "none"),
        *(_direct(machine) if console is None else _from_disk(machine, console)),
        *("-chardev", f"socket,id=swpks-stub,fd={stub}", "-gdb", "chardev:swpks-stub"),
        *("-chardev", f"socket,id=swpks-monitor,fd={monitor}"),
        *("-mon", "chardev=swpks-monitor,mode=control"),
        "-S",  # halted, so that breakpoints are set before the first instruction
        *machine.options,
    ]


def _direct(machine: QemuMachine) -> list[str]:
    """Return the options of a kernel that QEMU starts."""
    initrd = ["-initrd", str(machine.initrd)] if machine.initrd else []
    return [
        *("-serial", machine.serial, "-kernel", str(machine.kernel)),
        *(*initrd, "-append", machine.append),
    ]


def _from_disk(machine: QemuMachine, console: int) -> list[str]:
    """Return the options of a disk, and of a console that QEMU copies to a descriptor.

    `-serial` can't copy the console, so the console is a character device.
    """
    # A relative path with a colon would be taken for a protocol, such as nbd:.
    disk = machine.disk or Path()
    log = f"id=swpks-console,logfile=/dev/fd/{console}"
    if machine.serial == TERMINAL:
        kind = [f"stdio,mux=on,signal=off,{log}", "-mon", "chardev=swpks-console,mode=readline"]
    else:
        kind = [f"file,path={_escaped(machine.serial.removeprefix('file:'))},{log}"]
    return [
        *("-chardev", *kind, "-serial", "chardev:swpks-console"),
        *("-drive", f"file={_escaped(str(disk.absolute()))},format=raw,if=none,id=swpks-disk"),
        *("-device", "virtio-blk-pci,drive=swpks-disk,bootindex=0"),
    ]


def _escaped(path: str) -> str:
    """Return a path in the form of QEMU's options.

    A comma ends the value of an option, so each comma of the path is doubled.
    """
    return path.replace(",", ",,")


def check(machine: QemuMachine) -> None:
    """Raise MachineFailed if QEMU is not installed, and OperatorError if a file cannot be read."""
    if shutil.which(machine.program) is None:
        raise MachineFailed(f"{machine.program} is not installed (Debian: apt-get install qemu-system-ppc)")
    for needed in filter(None, (machine.kernel, machine.initrd, machine.disk)):
        if not needed.is_file():
            raise OperatorError(COMMAND_FILE, f"{needed} is no file")
        if not os.access(needed, os.R_OK):
            raise OperatorError(COMMAND_FILE, f"{needed} may not be read by this user")
    if machine.initrd:
        check_initrd(machine.initrd)


@asynccontextmanager
async def start(machine: QemuMachine, cleanup: Cleanup | None = None, **streams: Any) -> AsyncIterator[Wires]:
    """Run QEMU, halted before its first instruction, for the length of a block.

    If QEMU still runs at the end of the block, it is ended.  If this process is killed, `cleanup` ends
    QEMU.

    `streams` are `stdin`, `stdout` and `stderr` as for `subprocess.Popen`.  QEMU inherits a stream that is
    not given.  Without `stderr`, QEMU's errors are passed on except the expected warnings
    (`swpks.qemu.warnings`).  Errors are those of `check`.
    """
    check(machine)
    filtered = "stderr" not in streams
    streams.setdefault("stderr", subprocess.PIPE)
    (ours_stub, theirs_stub), (ours_monitor, theirs_monitor) = socket.socketpair(), socket.socketpair()
    # After the start, this process closes its copies of QEMU's descriptors.  Otherwise the streams would stay
    # open when QEMU has ended.
    with theirs_stub, theirs_monitor, _copied_console(machine) as (ours_console, theirs_console):
        fds = (theirs_stub.fileno(), theirs_monitor.fileno(), *theirs_console)
        with _closed_at_failure(ours_stub.close, ours_monitor.close):
            process = await _started(command_line(machine, *fds), pass_fds=fds, **streams)
    console = None if ours_console is None else trio.lowlevel.FdStream(ours_console)
    async with passed_on(process.stderr if filtered else None, machine.program), _ended(process):
        if cleanup:
            # QEMU is registered before anything else.  From here on, a SIGKILL of this process does not leave
            # QEMU behind.
            cleanup.end_process(process.pid)
        async with _stream(ours_stub) as stub, _stream(ours_monitor) as monitor:
            yield Wires(stub, monitor, process, console)


@contextmanager
def _copied_console(machine: QemuMachine) -> Iterator[tuple[int | None, tuple[int, ...]]]:
    """Yield both ends of a pipe for a copy of the guest's serial output: ours, and QEMU's.

    A machine without a disk has no such pipe.  QEMU's end is closed at the end of the block.  Our end is
    closed only if the block fails.
    """
    if machine.disk is None:
        yield None, ()
        return
    ours, theirs = os.pipe()
    try:
        with _closed_at_failure(partial(os.close, ours)):
            yield ours, (theirs,)
    finally:
        os.close(theirs)


@contextmanager
def _closed_at_failure(*closes: Callable[[], None]) -> Iterator[None]:
    """Call these functions if the block fails."""
    try:
        yield
    except BaseException:
        for close in closes:
            close()
        raise


async def _started(words: list[str], **options: Any) -> trio.Process:
    """Start QEMU; MachineFailed if the system refuses its file."""
    try:
        return await trio.lowlevel.open_process(words, **options)
    except OSError as error:
        if scarcity_of(error):
            raise
        raise MachineFailed(f"{words[0]} cannot be started: {error.strerror or error}") from None


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
