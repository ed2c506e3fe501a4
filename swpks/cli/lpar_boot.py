"""`swpks lpar NAME boot`: the emulated firmware, boot loader and kernel, one after the other."""

from __future__ import annotations

import argparse
from typing import Any

import trio

from hcall_abi.levels import LEVELS
from hcall_client.channel import open_channel
from hcall_client.guests.boot import BootedChain
from hcall_client.guests.boot import boot as run_boot
from swpks.cli.lpar_commands import ipl_command
from swpks.cli.lpar_target import LparTarget, check_named
from swpks.cli.lpar_values import opened_output
from swpks.cli.lpar_verbs import OK, show

LONGEST_PASSWORD = max(level.max_password_size for level in LEVELS.values())
"""Bytes of a password on any firmware level."""


def boot(target: LparTarget, args: argparse.Namespace) -> int:
    """Boot the chain in the partition's current IPL and print the result.

    The passwords are lost at the end of this command; only the kernel's password can be saved in a file.
    """
    if args.output:
        # The file is opened before the passwords are set. If the kernel's password were lost, the kernel
        # would be locked out until the next IPL.
        with opened_output(args.output, LONGEST_PASSWORD) as put:
            chain, fields = _run(target, args)
            put(chain.kernel.password)
    else:
        chain, fields = _run(target, args)
    lines = [
        f"partition {fields['partition']} ({fields['firmware']}), IPL {fields['ipl_count']}",
        "firmware     SB_VERSION is published; its objects are locked",
        f"boot loader  {'dynamic' if fields['dynamic_keys'] else 'static'} keys; its objects are locked",
        *(f"kernel       plpks: {message}" for message in chain.kernel.messages),
    ]
    show(args, fields, [*lines, _after(args)])
    return OK


def _after(args: argparse.Namespace) -> str:
    """Return the line about the passwords: without this line, a locked partition would look broken."""
    kept = f"the kernel's is in {args.output}, and the others are lost" if args.output else "they are lost"
    return f"passwords    set until the next IPL, and {kept}; to unset them: {ipl_command(args)}"


def _run(target: LparTarget, args: argparse.Namespace) -> tuple[BootedChain, dict[str, Any]]:
    try:
        return trio.run(_boot, target, args)
    except trio.TooSlowError:
        raise TimeoutError("the server did not answer in time") from None


async def _boot(target: LparTarget, args: argparse.Namespace) -> tuple[BootedChain, dict[str, Any]]:
    with trio.fail_after(args.timeout):
        async with open_channel(
            target.address,
            partition=target.partition,
            access_key=target.access_key,
            name="swpks lpar",
            patience=args.timeout,
        ) as channel:
            check_named(args, channel.partition)  # it may block: no other task runs here
            chain = await run_boot(channel)
            fields = {
                "partition": channel.partition,
                "ipl_count": channel.ipl_count,
                "firmware": channel.level,
                "dynamic_keys": await chain.kernel.dynamic_keys(),
                "kernel_has_password": chain.kernel.has_password,
                "messages": chain.kernel.messages,
            }
            return chain, fields
