"""The check that an opened session is with the partition NAME of the command."""

# Why a session is checked
#
# --socket and --access-key-file decide about the partition, and NAME may be another one.  Without a check,
# `swpks lpar lpar2 --socket run/lpar1.sock rm x` would remove the object of lpar1.  The check comes after
# OPEN and before the first h-call, because only OPENED has the id of the partition.
#
# A socket in a state is named after its partition.  So the control channel beside the socket is asked only if
# the names differ: a socket that a service manager has passed keeps its name if its partition is renamed.  An
# access key is that of one partition.  So the owner of an equal key in a state folder is the partition.
#
# Nothing is known about a socket or a copy of a key elsewhere, such as one of another host.  There NAME is
# only a word.

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hcall_abi.rules.service import COMMAND_PARTITION
from swpks.cli.lpar_reach import PATIENCE, system_at
from swpks.cli.lpar_refused import key_owner
from swpks.cli.lpar_values import UsageError


def check_partition(args: argparse.Namespace, number: int) -> None:
    """Raise UsageError if a session is known to be with another partition than NAME.

    `number` is the partition id that OPENED has.
    """
    if args.socket:
        owner, what = _of_socket(args, number), f"{args.socket} is the socket of"
    else:
        owner, what = _of_key(args), f"{args.access_key_file} is the access key of"
    if owner in ("", args.name):
        return
    message = f"{what} {owner}, not of {args.name}, and no h-call was sent: name {owner}, or {_right(args)}"
    raise UsageError(message, COMMAND_PARTITION)


def _of_socket(args: argparse.Namespace, number: int) -> str:
    """Return the name of the partition at the socket, "" if it is not known."""
    path: Path = args.socket.resolve()
    control = path.parent / "control.sock"
    if path.stem == args.name or not control.is_socket():
        return ""
    system = system_at(control, min(args.timeout, PATIENCE))
    names = {each.number: each.name for each in system.partitions} if system else {}
    # Without an answer the layout decides: the server makes run/NAME.sock itself.
    return names.get(number) or (path.stem if path.parent.name == "run" else "")


def _of_key(args: argparse.Namespace) -> str:
    """Return the name of the partition whose access key the session has proven, "" if it is not known."""
    owners = (key_owner(args.access_key_file, each) for each in _key_folders(args))
    return next(filter(None, owners), "")


def _key_folders(args: argparse.Namespace) -> list[Path]:
    """Return the folders of states that may have the access key."""
    beside = args.access_key_file.resolve().parent
    of_state = [args.state / "access-keys"] if args.state else []
    return [beside, *of_state] if beside.name == "access-keys" else of_state


def _right(args: argparse.Namespace) -> str:
    """Return the option for the partition NAME."""
    if args.socket:
        beside = args.socket.resolve().with_name(f"{args.name}.sock")
        right = str(beside) if beside.is_socket() else f"DIR/run/{beside.name}"
        return f"give its socket by --socket {shlex.quote(right)}"
    places = [each / f"{args.name}.key" for each in _key_folders(args)]
    found = next((each for each in places if each.is_file()), f"DIR/access-keys/{args.name}.key")
    return f"give its key by --access-key-file {shlex.quote(str(found))}"
