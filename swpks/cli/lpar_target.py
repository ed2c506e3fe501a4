"""The target of a `swpks lpar` command: address, partition id and access key; and its options."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, NamedTuple

from hcall_abi.addresses import is_host
from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.console import is_partition_name
from hcall_abi.consumers import Consumer
from hcall_abi.errors import OperatorError
from hcall_abi.rules.console import NAME_EXISTS, NAME_FORM
from hcall_abi.rules.storage import ACCESS_KEY_CONTENT
from swpks.cli import lpar_values as values
from swpks.cli.lpar_values import UsageError
from swpks.cli.where import for_every_verb, socket_path, state_folder, state_path

DEFAULT_TIMEOUT = 10.0
"""Seconds that a command waits for the server."""
LARGEST_PORT = 0xFFFF


class LparTarget(NamedTuple):
    """The address of a partition, its id (0: the only one of the listener), and its access key for TCP."""

    address: Path | tuple[str, int]
    partition: int = 0
    access_key: bytes | None = None

    def __repr__(self) -> str:  # without the access key, which is a secret
        return f"LparTarget({self.address})"


def target_of(args: argparse.Namespace) -> LparTarget:
    """Return the target that the options name; UsageError if they name none."""
    if args.socket and args.tcp:
        raise UsageError("--socket and --tcp exclude each other")
    if args.tcp:
        return LparTarget(_address(args.tcp), _number(args), _key(args))
    number = args.partition or 0
    if args.socket:
        key = read_access_key(args.access_key_file) if args.access_key_file else None
        return LparTarget(args.socket, number, key)
    if args.state is None:
        raise UsageError("name the server: --state DIR (or SWPKS_STATE), --socket or --tcp")
    if not is_partition_name(args.name):
        raise OperatorError(NAME_FORM, f"{args.name[:80]!r} is no name for a partition")
    return LparTarget(args.state / "run" / f"{args.name}.sock", number)


def check_named(args: argparse.Namespace, number: int) -> None:
    """Raise UsageError if the session of the partition id `number` is not with NAME, and NAME is known."""
    # With --state alone, NAME has chosen the socket or the access key.
    if args.socket or args.access_key_file:
        from swpks.cli.lpar_named import check_partition

        check_partition(args, number)


def _number(args: argparse.Namespace) -> int:
    """Return the partition id to open over TCP.

    The id is that of --partition, else that of NAME on the server of the state folder.  If there is neither
    an option nor a server to ask, the result is 0.  A listener takes 0 only if it serves one partition.
    """
    if args.partition is not None:
        return int(args.partition)
    if args.state is None:
        return 0
    # The access key is that of NAME. If the command sent the id of another partition, the server would reject
    # the key. The message would then point to the wrong option.
    from swpks.cli.lpar_reach import PATIENCE, system_at

    system = system_at(args.state / "run" / "control.sock", min(args.timeout, PATIENCE))
    if system is None:
        return 0
    numbers = {each.name: each.number for each in system.partitions}
    if args.name not in numbers:
        from swpks.cli.lpar_standstill import unserved

        if found := unserved(system, args.name):
            raise found
        known = ", ".join(numbers) or "no partition"
        raise UsageError(f"there is no partition {args.name!r}: {args.state} has {known}", NAME_EXISTS)
    return numbers[args.name]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("tcp:").rpartition(":")
    host = host.strip("[]")
    if not is_host(host) or not re.fullmatch("[0-9]{1,5}", port) or int(port) > LARGEST_PORT:
        raise UsageError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _key(args: argparse.Namespace) -> bytes:
    """Return the access key for TCP: from --access-key-file, or from the server's state folder."""
    if args.access_key_file:
        return read_access_key(args.access_key_file)
    if args.state:
        return read_access_key(args.state / "access-keys" / f"{args.name}.key")
    raise UsageError("--tcp needs the access key: --access-key-file FILE, or --state DIR")


def read_access_key(path: Path) -> bytes:
    """Return the access key in a file; UsageError if the file can't be read or has no key."""
    try:
        key = bytes.fromhex(values.read_file(path).decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != ACCESS_KEY_SIZE:
        message = f"{path} is no access key: {ACCESS_KEY_SIZE} bytes in hexadecimal"
        raise UsageError(message, ACCESS_KEY_CONTENT)
    return key


def add_target_options(parser: argparse.ArgumentParser, default: Any) -> None:
    """Add the options of all verbs of `swpks lpar`."""
    add = for_every_verb(parser, "Connection, consumer and output options", default)
    add("--state", state_folder(), type=state_path, metavar="DIR", help="the server's state folder")
    add("--socket", None, type=socket_path, metavar="PATH", help="the partition's Unix socket")
    add("--tcp", None, metavar="HOST:PORT", help="a TCP listener; needs the partition's access key")
    add("--access-key-file", None, type=Path, metavar="F", help="the access key in hexadecimal")
    add(
        "--partition",
        None,
        type=values.partition_id,
        metavar="N",
        help="partition id, for a listener of several (default: that of NAME, if --state has it)",
    )
    add("--timeout", DEFAULT_TIMEOUT, type=values.seconds, metavar="S", help="seconds to wait for the server")
    add("--json", False, action="store_true", help="print JSON")
    add(
        "--consumer",
        Consumer.OPERATING_SYSTEM,
        type=values.consumer,
        metavar="C",
        help="the caller and owner of objects: firmware, boot-loader or os (default)",
    )
    add("--password-file", None, type=Path, metavar="F", help="the consumer's password: all bytes of F")
