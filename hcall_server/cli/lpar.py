"""`swpks lpar`: be a partition's firmware, boot loader or operating system by hand.

    swpks lpar lpar1 config
    swpks lpar lpar1 write SB_VERSION --consumer firmware --policy worldreadable --in version.bin
    swpks lpar lpar1 wrap my-key --password-file pw --in plain.bin --out wrapped.bin
    swpks lpar lpar1 read --os-label sed-opal:disk --password-file pw --out key.bin

Exit status: 0 done; 1 the h-call was refused; 2 the command line makes no sense; 3 the server
cannot be reached, does not open a session, or breaks the protocol.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from hcall_abi.consumers import Consumer
from hcall_abi.errors import SwpksError
from hcall_abi.variables import POLICIES
from hcall_abi.wrapping import DEFAULT_WRAP_FLAGS
from hcall_client.blocking import BlockingChannel
from hcall_client.errors import CallTooLarge, HcallError
from hcall_client.linux import LinuxError
from hcall_server.cli import lpar_values as values
from hcall_server.cli.lpar_keys import KEY_VERBS
from hcall_server.cli.lpar_values import UsageError
from hcall_server.cli.lpar_verbs import REFUSED, VERBS, NotFlushed

USAGE = 2
UNREACHABLE = 3
DEFAULT_TIMEOUT = 10.0
"""Seconds that a command waits for the server."""


class Where(NamedTuple):
    """Where a partition is reached, and how."""

    target: Path | tuple[str, int]
    partition: int = 0
    access_key: bytes | None = None

    def __repr__(self) -> str:
        return f"Where({self.target})"


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `lpar` to the command's subparsers; the result has `run` as its default `run`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lpar",
        help="be a partition's firmware, boot loader or operating system by hand",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", metavar="NAME", help="the partition's name")
    _add_where(parser, default=None)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, add in _VERB_OPTIONS.items():
        verb = verbs.add_parser(name, help=_HELP[name], description=_HELP[name])
        _add_where(verb, default=argparse.SUPPRESS)
        add(verb)
    return parser


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line and return the exit status; errors go to standard error."""
    try:
        return _run(args)
    except UsageError as error:
        return _fail(args, error, USAGE)
    except (HcallError, CallTooLarge, LinuxError, NotFlushed) as error:
        return _fail(args, error, REFUSED)
    except BrokenPipeError:
        raise  # nobody reads our output any more: that is not about the server
    except (SwpksError, OSError) as error:
        return _fail(args, error, UNREACHABLE)


def _run(args: argparse.Namespace) -> int:
    where = _where(args)
    if args.verb == "boot":
        from hcall_server.cli.lpar_boot import boot

        return boot(where, args)
    with BlockingChannel.connect(
        where.target,
        partition=where.partition,
        access_key=where.access_key,
        name="swpks lpar",
        timeout=args.timeout,
    ) as channel:
        return (VERBS | KEY_VERBS)[args.verb](channel, args)


def _fail(args: argparse.Namespace, error: Exception, status: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, LinuxError):
        text = f"cannot reach the partition: {error.strerror or error}"
    print(f"swpks lpar {args.name} {args.verb}: {text}", file=sys.stderr)
    return status


def _where(args: argparse.Namespace) -> Where:
    """Work out which socket is meant; UsageError when the options do not say so."""
    if args.socket and args.tcp:
        raise UsageError("--socket and --tcp exclude each other")
    if args.tcp:
        return Where(_address(args.tcp), args.partition, _key(args))
    if args.socket:
        key = _read_key(args.access_key_file) if args.access_key_file else None
        return Where(args.socket, args.partition, key)
    if args.state is None:
        raise UsageError("say where the server is: --state DIR (or SWPKS_STATE), --socket or --tcp")
    return Where(args.state / "run" / f"{args.name}.sock", args.partition)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise UsageError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _key(args: argparse.Namespace) -> bytes:
    """Return the access key that TCP demands: from the file named, or from the server's state."""
    if args.access_key_file:
        return _read_key(args.access_key_file)
    if args.state:
        return _read_key(args.state / "access-keys" / f"{args.name}.key")
    raise UsageError("--tcp needs --access-key-file, or --state to find the key in")


def _read_key(path: Path) -> bytes:
    try:
        return bytes.fromhex(values.read_file(path).decode("ascii"))
    except ValueError:
        raise UsageError(f"{path} does not hold a key in hexadecimal") from None


def _add_where(parser: argparse.ArgumentParser, default: Any) -> None:
    """Add what every verb takes; given before the verb or after it, the last one counts."""
    group = parser.add_argument_group("where the partition is, and who asks")
    found = os.environ.get("SWPKS_STATE")

    def add(name: str, fallback: Any, **options: Any) -> None:
        group.add_argument(name, default=fallback if default is None else default, **options)

    add("--state", Path(found) if found else None, type=Path, metavar="DIR", help="the server's state folder")
    add("--socket", None, type=Path, metavar="PATH", help="the partition's Unix socket")
    add("--tcp", None, metavar="HOST:PORT", help="a TCP listener; needs the partition's access key")
    add("--access-key-file", None, type=Path, metavar="F", help="the access key in hexadecimal")
    add("--partition", 0, type=values.number, metavar="N", help="partition id at a listener of several")
    add("--timeout", DEFAULT_TIMEOUT, type=float, metavar="S", help="seconds to wait for the server")
    add("--json", False, action="store_true", help="print JSON")
    add(
        "--consumer",
        Consumer.OPERATING_SYSTEM,
        type=values.consumer,
        metavar="C",
        help="firmware, boot-loader or os (default); also whose objects are meant",
    )
    add("--password-file", None, type=Path, metavar="F", help="the consumer's password: all bytes of F")


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("label", nargs="?", type=values.plain_label, metavar="LABEL", help="text or hex:...")
    parser.add_argument("--os-label", type=values.headed_label, metavar="COMPONENT:NAME", help="with header")
    parser.add_argument(
        "--os-flag",
        type=values.os_flag,
        default="linux",
        metavar="OS",
        help="whose label: linux (default), common or a number",
    )


def _add_wait(parser: argparse.ArgumentParser) -> None:
    _add_label(parser)
    parser.add_argument("--wait", action="store_true", help="until it is durable, 5 s at most")


def _add_output(parser: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
    parser.add_argument("--out", dest="output", type=Path, metavar="F", required=required, help=text)


def _add_read(parser: argparse.ArgumentParser) -> None:
    _add_label(parser)
    _add_output(parser, "where the object's bytes go (default: standard output)")
    parser.add_argument("--size", type=values.number, metavar="N", help="length of the buffer in bytes")


def _add_write(parser: argparse.ArgumentParser) -> None:
    _add_wait(parser)
    parser.add_argument("--in", dest="input", type=Path, metavar="F", help="the data (default: stdin)")
    parser.add_argument(
        "--policy", type=values.policy, default=0, metavar="P", help="worldreadable,immutable,... or 0x..."
    )


def _add_update(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("variable", metavar="VAR", help=f"one of {', '.join(POLICIES)}; or any other name")
    parser.add_argument(
        "--auth", type=Path, metavar="F", help="8 bytes of flags, then the signed payload (default: stdin)"
    )
    parser.add_argument("--policy", type=values.policy, metavar="P", help="another policy word than Linux's")
    parser.add_argument("--wait", action="store_true", help="until it is durable, 5 s at most")


def _add_gen_key(parser: argparse.ArgumentParser) -> None:
    _add_wait(parser)
    parser.add_argument(
        "--length", type=values.number, metavar="N", help="a plain key of N bytes, which is given out"
    )
    parser.add_argument(
        "--policy", type=values.policy, default=0, metavar="P", help="without --length, beside wrappingkey"
    )
    _add_output(parser, "where a plain key goes (default: standard output)")


def _add_wrap(parser: argparse.ArgumentParser) -> None:
    _add_label(parser)
    parser.add_argument(
        "--flags",
        type=values.wrap_flags,
        default=DEFAULT_WRAP_FLAGS,
        metavar="W",
        help="when it may be unwrapped: ossecbootaudit or ossecbootenforce (default: any mode), or 0x...",
    )
    _add_through(parser)


def _add_through(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in", dest="input", type=Path, metavar="F", help="the bytes (default: stdin)")
    _add_output(parser, "where the result goes (default: standard output)")


def _add_gen_password(parser: argparse.ArgumentParser) -> None:
    _add_output(parser, "where the password goes; - is standard output", required=True)
    parser.add_argument("--length", type=values.number, metavar="N", help="bytes (default: the maximum)")


def _add_set_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--new-password-file", type=Path, metavar="F", required=True, help="the password: all bytes of F"
    )


def _add_raw(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("opcode", type=values.number, metavar="OPCODE", help="r3, such as 0x434")
    parser.add_argument(
        "--register", action="append", default=[], type=values.register, metavar="rN=V", help="r4 to r12"
    )
    parser.add_argument(
        "--segment",
        action="append",
        default=[],
        type=values.segment,
        metavar="SEG",
        help="guest memory: ADDRESS:in:TEXT, ADDRESS:in:hex:..., ADDRESS:in:@FILE or ADDRESS:out:LENGTH; "
        "a block with a password goes by @FILE, because others can read this command line",
    )


_VERB_OPTIONS = {
    "config": lambda parser: None,
    "ls": lambda parser: None,
    "read": _add_read,
    "write": _add_write,
    "update": _add_update,
    "rm": _add_wait,
    "confirm": _add_wait,
    "gen-key": _add_gen_key,
    "wrap": _add_wrap,
    "unwrap": _add_through,
    "revoke": _add_wait,
    "unrevoke": _add_wait,
    "gen-password": _add_gen_password,
    "set-password": _add_set_password,
    "boot": lambda parser: _add_output(parser, "keep the kernel's password in a file, to go on by hand"),
    "raw": _add_raw,
}
_HELP = {
    "config": "show what the keystore can do and how full it is",
    "ls": "list a consumer's labels",
    "read": "read an object",
    "write": "make a new object",
    "update": "change a secure-boot variable by an auth file, signed by its owner",
    "rm": "remove an object",
    "confirm": "tell whether the newest change to a label is durable",
    "gen-key": "have a key made: for wrapping, or (--length) a plain one",
    "wrap": "encrypt bytes under a wrapping key",
    "unwrap": "decrypt a wrapped object, which names its key itself",
    "revoke": "take a wrapping key out of use",
    "unrevoke": "put a revoked wrapping key into use again",
    "gen-password": "have a password made and set for this IPL",
    "set-password": "set a password for this IPL",
    "boot": "run firmware, boot loader and kernel, each locking its objects",
    "raw": "send any h-call at all",
}
