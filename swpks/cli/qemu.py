"""`swpks qemu`: run an unmodified Linux kernel in QEMU with a partition's keystore.

    swpks qemu --partition lpar1 --kernel /boot/vmlinux-6.12.0-powerpc64le --initrd initrd.img
    swpks qemu --partition lpar1 --kernel vmlinux --append "console=hvc0 debug" -- -smp 2 -m 2G

A server that runs on the state folder is used; otherwise one is started, and stopped at the end.
Without a state folder the keystore is gone with the command.  The console is this terminal:
Ctrl-A x ends the machine.  A reboot of the guest is an IPL of the partition.

Exit status: 0 the machine has ended; 1 the stub, the guest or the server failed on the way; 2 the
command line, the kernel or QEMU cannot be used.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hcall_abi.attributes import attribute_number
from hcall_abi.calls import Opcode
from hcall_abi.console import is_partition_name
from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_abi.rules.console import NAME_FORM
from hcall_abi.statuses import status_name
from swpks.cli import streams
from swpks.cli.where import state_folder

if TYPE_CHECKING:
    from hcall_abi.frames import HReturn

DEFAULT_KBYTES = 64


class Wanted(NamedTuple):
    """The partition of the command line, and the size of its keystore in KiB if it is given."""

    name: str
    kbytes: int | None


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `qemu` to the command's subparsers; the result has `run` as its default `run`."""
    from swpks.qemu import machine
    from swpks.qemu.console import PATIENCE

    parser: argparse.ArgumentParser = subparsers.add_parser(
        "qemu",
        help="run a Linux kernel in QEMU with a partition's keystore",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "--partition",
        required=True,
        metavar="NAME[:KBYTES]",
        help="whose keystore, and its size where a server is started for it; 64 KiB in a new state folder",
    )
    add("--kernel", type=Path, required=True, metavar="FILE", help="vmlinux for ppc64le, with its symbols")
    add("--initrd", type=Path, metavar="FILE", help="the initramfs")
    add(
        "--append",
        default=machine.COMMAND_LINE,
        metavar="ARGS",
        help="kernel command line (default: %(default)s)",
    )
    add(
        "--state",
        type=Path,
        default=state_folder(),
        metavar="DIR",
        help="the server's state folder (default: SWPKS_STATE, else one that is removed at the end)",
    )
    add("--where", type=Path, metavar="SOCK", help="STORE/run/where.sock: follow a partition that moves")
    add("--trace", action="store_true", help="tell every h-call of the keystore on standard error")
    add(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="S",
        help="seconds that a server may be away while the guest runs (default: %(default)g)",
    )
    add("options", nargs="*", metavar="-- OPTION", help="options of qemu-system-ppc64; they win over ours")
    return parser


def run(options: argparse.Namespace) -> int:
    """Serve a kernel until its machine ends."""
    import trio

    from hcall_client.following import locate_at_async
    from swpks.qemu.callsites import find_callsites
    from swpks.qemu.console import PatientConsole
    from swpks.qemu.elf import load
    from swpks.qemu.machine import QemuMachine, check
    from swpks.qemu.run import run_kernel

    name, kbytes = wanted = _wanted(options.partition)
    # What cannot work is said before a server is started for it.
    machine = QemuMachine(options.kernel, options.initrd, options.append, options.options)
    image = load(options.kernel)
    find_callsites(image)
    check(machine)
    with _state(options.state) as state, _server(state, wanted):
        console = PatientConsole(state / "run" / "control.sock", name, options.patience)

        async def main() -> None:
            target = (
                locate_at_async(where, name) if (where := options.where) else state / "run" / f"{name}.sock"
            )
            told = _tell if options.trace else None
            await console.check(kbytes)
            await run_kernel(machine, image, target, console, on_call=told, patience=options.patience)

        trio.run(main)
    return 0


def _wanted(text: str) -> Wanted:
    """Return what NAME[:KBYTES] says; OperatorError by the rules of names and sizes."""
    name, colon, size = text.partition(":")
    if not is_partition_name(name):
        raise OperatorError(NAME_FORM, f"{name!r} is no name for a partition")
    return Wanted(name, attribute_number("keystore_kbytes", size) if colon else None)


@contextmanager
def _state(wanted: Path | None) -> Iterator[Path]:
    """Yield the state folder: the wanted one, or one that lasts no longer than the block."""
    if wanted is not None:
        yield wanted.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="swpks-") as folder:
        streams.complain("swpks: no --state: the keystore lasts as long as this command")
        yield Path(folder) / "state"


@contextmanager
def _server(state: Path, wanted: Wanted) -> Iterator[None]:
    """Have a server for the length of a block: the one that runs on the state, or one of our own."""
    from swpks.testing import ServerFailed, ServerProcess

    if _is_served(state / "run" / "control.sock"):
        yield
        return
    name, kbytes = wanted
    if kbytes is None and not (state.is_dir() and any(state.iterdir())):
        kbytes = DEFAULT_KBYTES
    try:
        server = ServerProcess(state, [name if kbytes is None else f"{name}:{kbytes}"])
        server.start()
    except (ServerFailed, OSError, ValueError) as error:  # the log beside the state may not be writable
        raise OperatorError(rules.SERVER_STARTS, str(error)) from None
    try:
        yield
    finally:
        if server.pid is not None:
            server.stop()


def _is_served(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(os.fspath(control))
        except OSError:
            return False
    return True


def _tell(opcode: int, answer: HReturn) -> None:
    """Tell of an h-call: its name and status, never what it carried."""
    name = Opcode(opcode).name
    with suppress(OSError):  # the guest goes on without a reader of its trace
        print(f"swpks: H_PKS_{name} -> {status_name(answer.status)}\r", file=sys.stderr, flush=True)
