"""`swpks qemu`: run an unmodified Linux kernel in QEMU with a partition's keystore.

    swpks qemu --partition lpar1 --kernel /boot/vmlinux-6.12.0-powerpc64le --initrd initrd.img
    swpks qemu --partition lpar1 --kernel vmlinux --append "console=hvc0 debug" -- -smp 2 -m 2G
    swpks qemu --partition lpar1 --disk boot.img --kernel vmlinux

A server that runs on the state folder is used; otherwise one is started, and stopped at the end.  Its
log is DIR.log, beside the state folder.  Without a state folder the keystore is removed at the end.
With --disk the machine boots from its disk: firmware, boot loader and kernel use the keystore.
The console is this terminal: Ctrl-A x ends the machine.  A reboot of the guest is an IPL of the
partition.  A power-off by the console ends the machine.

Exit status: 0 the guest or its user has ended the machine; 1 the stub, the guest or the server failed
on the way; 2 the command line, the kernel, the partition or QEMU cannot be used; 3 the state cannot be
stored; 4 the guest has panicked; 5 the console has powered the partition off; 6 the boot loader has
not started the kernel; 128 + N signal N has ended the command, such as 143 for SIGTERM.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcall_abi.calls import Opcode
from hcall_abi.statuses import status_name
from swpks.cli import streams
from swpks.cli.parser import CommandParser, WrongWords
from swpks.cli.qemu_disk import add_disk_options, file_path
from swpks.cli.where import socket_path, state_folder, state_path

if TYPE_CHECKING:
    from hcall_abi.frames import HReturn
    from swpks.cli.qemu_server import Wanted
    from swpks.qemu.boot import DiskBoot
    from swpks.qemu.cleanup import Cleanup
    from swpks.qemu.run import MachineEnd

PANIC, POWER_OFF, NOT_BOOTED = 4, 5, 6
"""Exit statuses of machines that have ended in order, but not by a power-off of the guest."""


_NO_ROOT = (
    ". The command line names no root file system, and a kernel panics without one: give --initrd FILE, or a "
    "disk (-- -drive ...) with root= in --append"
)
"""The end of the message of a panic, if neither an initramfs nor a root is on the command line."""


_OFF = (
    "the keystore of {name} is off (0 KiB): H_PKS calls answer H_FUNCTION, and Linux finds no keystore; "
    "--partition {name}:64 turns it on, and at a server of its own swpks hmc set {name} keystore_kbytes=64 "
    "while the partition is powered off"
)
"""No refusal: a test of a guest without a keystore asks for 0 KiB.  But more often it is an oversight."""


class QemuParser(CommandParser):
    """The parser of `swpks qemu`: the words after `--` are options of QEMU, and are not parsed.

    argparse alone would accept a word without an option as an option of QEMU, for instance an initramfs
    without --initrd.  Its errors do not mention `--`.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words before `--`; raise WrongWords with a hint for an unknown one."""
        words = list(sys.argv[1:] if args is None else args)
        cut = words.index("--") if "--" in words else len(words)
        single = [word for word in words[:cut] if _is_for_qemu(word)]
        if single:
            self._refuse(words[words.index(single[0]) : cut])
        try:
            found, unknown = super().parse_known_args(words[:cut], namespace)
        except WrongWords as error:
            raise self._with_stray(words[:cut], error) from None
        if len(named := [word for word in words[:cut] if word.partition("=")[0] == "--partition"]) > 1:
            self.error(f"--partition is given {len(named)} times: a machine is one partition, so name one")
        if wrong := unknown or found.options:
            self._refuse(words[words.index(wrong[0]) : cut] if wrong[0] in words else wrong)
        found.options = words[cut + 1 :]
        return found, []

    def _with_stray(self, words: list[str], error: WrongWords) -> WrongWords:
        """Return the error of missing options, with a word that stands without an option."""
        from swpks.cli.qemu_words import stray

        found = stray(words, self._option_string_actions)
        return WrongWords(error.words, f"{error.message}{found}") if found else error

    def _refuse(self, words: list[str]) -> None:
        from swpks.cli.qemu_words import refusal  # only this error needs it

        self.error(refusal(words, self._option_string_actions))


def _is_for_qemu(word: str) -> bool:
    """Return whether a word is an option of QEMU.

    Such an option has one dash.  Our only option with one dash is -h.
    """
    return word[:1] == "-" and word[1:2].isalpha() and word != "-h" and " " not in word


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `qemu` to the command's subparsers; `run` of this module carries it out."""
    from swpks.qemu import machine
    from swpks.qemu.console import PATIENCE

    parser: argparse.ArgumentParser = subparsers.add_parser(
        "qemu",
        help="run a Linux kernel in QEMU with a partition's keystore",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.__class__ = QemuParser
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "--partition",
        required=True,
        metavar="NAME[:KBYTES]",
        help="the partition; KBYTES is the size of its keystore if a server is started (64 in a new state)",
    )
    symbols = "vmlinux for ppc64le, with its symbols"
    add("--kernel", type=file_path, required=True, metavar="FILE", help=symbols)
    add("--initrd", type=file_path, metavar="FILE", help="the initramfs")
    add("--append", metavar="ARGS", help=f"kernel command line (default: {machine.COMMAND_LINE})")
    add_disk_options(parser)
    add(
        "--state",
        type=state_path,
        default=state_folder(),
        metavar="DIR",
        help="the server's state folder (default: SWPKS_STATE, else one that is removed at the end)",
    )
    add(
        "--where",
        type=socket_path,
        metavar="SOCK",
        help="STORE/run/where.sock: follow a partition that moves",
    )
    add("--trace", action="store_true", help="print every h-call of the keystore on standard error")
    add(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="S",
        help="seconds that a server may be away while the guest runs (default: %(default)g)",
    )
    add("options", nargs="*", metavar="-- OPTION", help="options of qemu-system-ppc64; they have priority")
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the kernel and its keystore until the machine ends; return the exit status."""
    from swpks.cli.ending import ended_in_order
    from swpks.cli.qemu_disk import disk_boot
    from swpks.cli.qemu_server import server_on, state_of, wanted_of
    from swpks.qemu.callsites import find_callsites
    from swpks.qemu.cleanup import Cleanup
    from swpks.qemu.elf import load
    from swpks.qemu.machine import COMMAND_LINE, QemuMachine, check

    wanted = wanted_of(options.partition)
    # The checks that need no server come first: the start of a server changes the state folder.
    if options.where:
        from swpks.cli.wrong_socket import check_where_socket

        check_where_socket(options.where, wanted.name)
    boot = disk_boot(options, _say)
    append = COMMAND_LINE if options.append is None else options.append
    machine = QemuMachine(options.kernel, options.initrd, append, options.options, disk=options.disk)
    image = load(options.kernel)
    find_callsites(image)
    check(machine)
    with (
        ended_in_order(),
        Cleanup() as cleanup,
        state_of(options.state, cleanup) as state,
        server_on(state, wanted, cleanup),
    ):
        end = _run(options, state, wanted, cleanup, machine, image, boot)
    return status_of(end, options, boot)


def _run(
    options: argparse.Namespace,
    state: Path,
    wanted: Wanted,
    cleanup: Cleanup,
    machine: Any,
    image: Any,
    boot: DiskBoot | None,
) -> MachineEnd:
    """Run the machine beside its server; SystemExit when a signal ends it."""
    import trio

    from hcall_client.following import locate_at_async
    from swpks.cli.ending import unless_ended
    from swpks.qemu.console import PatientConsole
    from swpks.qemu.run import run_kernel

    name, kbytes = wanted
    run_folder = state / "run"
    console = PatientConsole(run_folder / "control.sock", name, options.patience, _say)
    trace = _trace if options.trace else None
    target = locate_at_async(where, name) if (where := options.where) else run_folder / f"{name}.sock"

    async def main() -> MachineEnd:
        if not await console.check(kbytes):
            _say(_OFF.format(name=name))
        return await run_kernel(
            machine,
            image,
            target,
            console,
            on_call=trace,
            patience=options.patience,
            cleanup=cleanup,
            boot=boot,
        )

    return trio.run(unless_ended, main)


def _rootless(options: argparse.Namespace) -> bool:
    """Return whether the command line names no root file system."""
    others = any(word.lstrip("-") == "initrd" for word in options.options)
    given = options.initrd or options.disk or others or "root=" in (options.append or "")
    return not given


def status_of(end: MachineEnd, options: argparse.Namespace, boot: DiskBoot | None = None) -> int:
    """Return the exit status for an end, and report the end.

    An end by the guest or its user is not reported.
    """
    from swpks.cli.qemu_disk import failed_boot
    from swpks.qemu.run import MachineEnd

    if boot and end is MachineEnd.NOT_BOOTED:
        if boot.tail.in_line:
            streams.complain("")  # so the message begins on a line of its own, after the guest's text
        _say(failed_boot(boot))
        return NOT_BOOTED

    if end is MachineEnd.PANIC:
        _say(f"the guest has panicked; its console is above{_NO_ROOT if _rootless(options) else ''}")
        return PANIC
    if end is MachineEnd.POWER_OFF:
        name = options.partition.partition(":")[0]
        _say(f"the console has powered {name} off, which has ended the machine")
        return POWER_OFF
    return 0


def _say(sentence: str) -> None:
    streams.complain(f"swpks qemu: {sentence}")


def _trace(opcode: int, answer: HReturn) -> None:
    """Print an h-call: its name and status, never its data."""
    name = Opcode(opcode).name
    with suppress(OSError):  # a trace without a reader must not stop the guest
        # QEMU has put the terminal into raw mode: without \r the next line would begin in the middle.
        print(f"swpks qemu: H_PKS_{name} -> {status_name(answer.status)}\r", file=sys.stderr, flush=True)
