"""The options of `swpks qemu` for a machine that boots from a disk, and its report of a failed boot."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.rules.service import COMMAND_FILE, COMMAND_USAGE, LOADER_IMAGE

if TYPE_CHECKING:
    from swpks.qemu.boot import DiskBoot

_OF_THE_LOADER = ("initrd", "append")
"""Options of a kernel that QEMU starts; on a disk they are in the boot loader's configuration."""
_OF_A_DISK = ("lock_boot_loader", "boot_limit")


def add_disk_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a machine that boots from a disk."""
    from swpks.qemu.boot import BOOT_LIMIT

    add = parser.add_argument
    add(
        "--disk",
        type=file_path,
        metavar="FILE",
        help="boot from this raw disk image; --kernel gives the symbols",
    )
    add(
        "--lock-boot-loader",
        action="store_true",
        help="with --disk: firmware locks the boot loader's objects too when the kernel starts",
    )
    add(
        "--boot-limit",
        type=boot_limit,
        metavar="S",
        help=f"with --disk: seconds from a reset to the kernel's start (default: {BOOT_LIMIT:g}; 0: none)",
    )


def file_path(text: str) -> Path:
    """Return the path of a file.

    OperatorError for an empty path, which would be the working directory.
    """
    if not text:
        raise OperatorError(COMMAND_FILE, "the path of a file is empty: name the kernel, initrd or disk")
    return Path(text)


def disk_boot(options: argparse.Namespace, notify: Callable[[str], None]) -> DiskBoot | None:
    """Return the boot of a command line, None without --disk.

    OperatorError if the options do not fit together, or if the disk has no usable boot loader.
    """
    from swpks.qemu.boot import BOOT_LIMIT, DiskBoot
    from swpks.qemu.bootdisk import loader_of

    given = [
        name
        for name in (_OF_THE_LOADER if options.disk else _OF_A_DISK)
        if getattr(options, name) not in (None, False)
    ]
    if given:
        raise OperatorError(COMMAND_USAGE, _refusal(given[0], bool(options.disk)))
    if options.disk is None:
        return None
    loader = loader_of(options.disk)
    if not os.access(options.disk, os.W_OK) and not {"-snapshot", "--snapshot"} & {*options.options}:
        advice = "make it writable, or give `-- -snapshot` to drop the guest's changes"
        raise OperatorError(LOADER_IMAGE, f"{options.disk}: the guest's disk may not be written; {advice}")
    limit = options.boot_limit or BOOT_LIMIT
    return DiskBoot(options.disk, options.kernel, loader, limit, options.lock_boot_loader, notify)


def boot_limit(text: str) -> float:
    """Return the seconds of --boot-limit; infinity for 0.  OperatorError for any other text."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        message = f"--boot-limit is {text!r}: it takes seconds, and 0 for no limit"
        raise OperatorError(COMMAND_USAGE, message)
    return seconds or math.inf


def _refusal(name: str, with_disk: bool) -> str:
    option = "--" + name.replace("_", "-")
    if with_disk:
        return (
            f"{option} is not used with --disk: put it into the configuration of the boot loader on the disk"
        )
    return f"{option} needs --disk: without it no boot loader runs"


def failed_boot(boot: DiskBoot) -> str:
    """Return the message for a boot that has failed: the reason, and the loader's last lines."""
    lines = "".join(f"\n  | {line}" for line in boot.tail.lines)
    shown = f"; the last lines of its console:{lines}" if lines else "; its console printed nothing"
    return f"the boot loader has not started the kernel: {boot.failure}{shown}"
