"""`swpks lpar`: make the h-calls of a partition's firmware, boot loader or operating system by hand.

    swpks lpar lpar1 config
    swpks lpar lpar1 write SB_VERSION --consumer firmware --policy worldreadable --in version.bin
    swpks lpar lpar1 wrap my-key --password-file pw --in plain.bin --out wrapped.bin
    swpks lpar lpar1 read --os-label sed-opal:disk --password-file pw --out key.bin

Exit status: 0 done; 1 the h-call was refused; 2 a usage error; 3 the server cannot be reached, does not open
a session, or breaks the protocol.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules.hcalls import STATUS_KNOWN
from hcall_abi.rules.service import STREAM_OUTPUT
from hcall_abi.variables import POLICIES
from hcall_abi.wrapping import DEFAULT_WRAP_FLAGS
from hcall_client.blocking import BlockingChannel
from hcall_client.errors import STATUS_RULES, CallTooLarge, HcallError, OpenRefused
from hcall_client.guests.linux import LinuxError
from swpks.cli import lpar_values as values
from swpks.cli import refusals
from swpks.cli.inputs import EmptyInput
from swpks.cli.lpar_keys import KEY_VERBS
from swpks.cli.lpar_target import LparTarget, add_target_options, check_named, target_of
from swpks.cli.lpar_update import UPDATE_FLAGS, update
from swpks.cli.lpar_values import UsageError
from swpks.cli.lpar_verbs import REFUSED, VERBS, NotFlushed
from swpks.cli.silence import noticed

if TYPE_CHECKING:
    from swpks.cli.lpar_sought import Sought

USAGE = 2
UNREACHABLE = 3


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `lpar` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lpar",
        help="make h-calls as a partition's firmware, boot loader or operating system",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", metavar="NAME", help="the partition's name")
    add_target_options(parser, default=None)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    # The options of the target are added to the command and to each verb, so they may stand before or behind
    # the verb.
    for name, add in _VERB_OPTIONS.items():
        verb = verbs.add_parser(name, help=_HELP[name], description=_HELP[name])
        add_target_options(verb, default=argparse.SUPPRESS)
        add(verb)
    return parser


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line and return the exit status; errors go to standard error."""
    try:
        return _run(args)
    except (UsageError, EmptyInput) as error:
        return _fail(args, error, USAGE)
    # The special errors come before SwpksError, which is their base.
    except (HcallError, CallTooLarge, NotFlushed) as error:
        from swpks.cli.lpar_advice import advised

        return _fail(args, advised(error, args), REFUSED)
    except LinuxError as error:
        return _fail(args, _of_kernel(error), REFUSED)
    except SwpksError as error:
        if error.rule is STREAM_OUTPUT:
            raise  # the partition has answered; the command's own output failed
        return _fail(args, error, UNREACHABLE)


def _run(args: argparse.Namespace) -> int:
    target = target_of(args)
    if args.socket:
        from swpks.cli.wrong_socket import check_data_socket

        # Each session would wait for the HELLO of another kind of socket until its timeout.
        check_data_socket(args.socket, args.timeout, args.name)
    try:
        with noticed(f"lpar {args.name} {args.verb}", args.timeout):
            return _carried_out(target, args)
    except OpenRefused as error:
        from swpks.cli.lpar_reach import refused_open

        raise refused_open(_sought(target, args), error, numbered=bool(target.partition)) from None
    except LinuxError:  # it is an OSError, but the connection has not failed: the guest has answered
        raise
    except OSError as error:
        from swpks.cli.lpar_reach import unreached

        raise unreached(_sought(target, args), error) from None


def _sought(target: LparTarget, args: argparse.Namespace) -> Sought:
    from swpks.cli.lpar_commands import partition_name, state_of
    from swpks.cli.lpar_sought import Sought

    # If --socket is given, SWPKS_STATE may name another system, and NAME may be another partition.
    name, state, file = partition_name(args), state_of(args), args.access_key_file
    return Sought(target.address, name, args.timeout, state, target.partition, file)


def _carried_out(target: LparTarget, args: argparse.Namespace) -> int:
    # `boot` runs in Trio, because the emulated guests are asynchronous; all other verbs use one blocking
    # session.
    if args.verb == "boot":
        from swpks.cli.lpar_boot import boot

        return boot(target, args)
    with BlockingChannel.connect(
        target.address,
        partition=target.partition,
        access_key=target.access_key,
        name="swpks lpar",
        timeout=args.timeout,
    ) as channel:
        check_named(args, channel.partition)
        return _VERBS[args.verb](channel, args)


def _of_kernel(error: LinuxError) -> SwpksError:
    """Return the error for a LinuxError of the emulated kernel.

    Its rule is that of the h-call's status.
    """
    rule = STATUS_KNOWN if error.status is None else STATUS_RULES.get(error.status, STATUS_KNOWN)
    return OperatorError(rule, f"the emulated kernel gave up: {error.strerror or error}")


def _fail(args: argparse.Namespace, error: SwpksError, status: int) -> int:
    refusals.refuse(f"lpar {args.name} {args.verb}", error, as_json=args.json)
    return status


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "label",
        nargs="?",
        type=values.shown_label,
        metavar="LABEL",
        help="label as ls shows it, in quotes: text, hex:..., or 'COMPONENT:NAME (Linux)'",
    )
    parser.add_argument(
        "--os-label",
        type=values.headed_label,
        metavar="COMPONENT:NAME",
        help="a label with a header, as Linux makes it",
    )
    parser.add_argument(
        "--os-flag",
        type=values.os_flag,
        default="linux",
        metavar="OS",
        help="operating system in the header of the label: linux (default), common or a number",
    )


def _add_wait(parser: argparse.ArgumentParser) -> None:
    _add_label(parser)
    parser.add_argument("--wait", action="store_true", help="wait until the change is durable, 5 s at most")


def _add_output(parser: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
    parser.add_argument("--out", dest="output", type=Path, metavar="F", required=required, help=text)


def _add_read(parser: argparse.ArgumentParser) -> None:
    _add_label(parser)
    _add_output(parser, "file for the object's bytes (default: standard output)")
    parser.add_argument("--size", type=values.length, metavar="N", help="length of the buffer in bytes")


def _add_write(parser: argparse.ArgumentParser) -> None:
    _add_wait(parser)
    parser.add_argument("--in", dest="input", type=Path, metavar="F", help="the data (default: stdin)")
    parser.add_argument(
        "--policy", type=values.policy, default=0, metavar="P", help="worldreadable,immutable,... or 0x..."
    )


def _add_update(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("variable", metavar="VAR", help=f"one of {', '.join(POLICIES)}; or any other name")
    parser.add_argument(
        "--any-name", action="store_true", help="send it even if VAR is similar to a name of these"
    )
    parser.add_argument(
        "--auth", type=Path, metavar="F", help="8 bytes of flags, then the signed payload (default: stdin)"
    )
    parser.add_argument(
        "--flags",
        choices=UPDATE_FLAGS,
        help="for a payload without flags, as sign-efi-sig-list writes it: append if made with -a, else none",
    )
    parser.add_argument("--policy", type=values.policy, metavar="P", help="policy word (default: Linux's)")
    parser.add_argument("--wait", action="store_true", help="wait until the change is durable, 5 s at most")


def _add_gen_key(parser: argparse.ArgumentParser) -> None:
    _add_wait(parser)
    parser.add_argument(
        "--length", type=values.length, metavar="N", help="make a plain key of N bytes, and return it"
    )
    parser.add_argument(
        "--policy",
        type=values.policy,
        default=0,
        metavar="P",
        help="policy; without --length also wrappingkey",
    )
    _add_output(parser, "file for a plain key (default: standard output)")


def _add_wrap(parser: argparse.ArgumentParser) -> None:
    _add_label(parser)
    parser.add_argument(
        "--flags",
        type=values.wrap_flags,
        default=DEFAULT_WRAP_FLAGS,
        metavar="W",
        help="modes that permit UNWRAP: ossecbootaudit or ossecbootenforce (default: any), or 0x...",
    )
    _add_through(parser)


def _add_through(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in", dest="input", type=Path, metavar="F", help="the bytes (default: stdin)")
    _add_output(parser, "file for the result (default: standard output)")


def _add_gen_password(parser: argparse.ArgumentParser) -> None:
    _add_output(parser, "file for the password; - is standard output", required=True)
    parser.add_argument("--length", type=values.length, metavar="N", help="bytes (default: the maximum)")


def _add_set_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--new-password-file", type=Path, metavar="F", required=True, help="the password: all bytes of F"
    )


def _add_raw(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "opcode",
        type=values.opcode,
        metavar="OPCODE",
        help="value of r3: an h-call by name, such as READ_OBJECT, or any number, such as 0x434",
    )
    parser.add_argument(
        "--register",
        action="append",
        default=[],
        type=values.register,
        metavar="rN=V",
        help="value of r4 to r12",
    )
    parser.add_argument(
        "--segment",
        action="append",
        default=[],
        type=values.segment,
        metavar="SEG",
        help="guest memory: ADDRESS:in:TEXT, ADDRESS:in:hex:..., ADDRESS:in:@FILE or ADDRESS:out:LENGTH; "
        "give a block with a password by @FILE, because other users can read this command line",
    )


_VERBS = {**VERBS, **KEY_VERBS, "update": update}
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
    "boot": lambda parser: _add_output(parser, "file for the kernel's password, for later commands"),
    "raw": _add_raw,
}
VERB_NAMES = tuple(_VERB_OPTIONS)
_HELP = {
    "config": "show features, limits and space of the keystore",
    "ls": "list a consumer's labels",
    "read": "read an object",
    "write": "make a new object",
    "update": "change a secure-boot variable by a signed auth file",
    "rm": "remove an object",
    "confirm": "show whether the newest change to a label is durable",
    "gen-key": "make a wrapping key; with --length a plain key",
    "wrap": "encrypt bytes under a wrapping key",
    "unwrap": "decrypt a wrapped object; it contains the label of its key",
    "revoke": "revoke a wrapping key, until unrevoke or rm",
    "unrevoke": "permit a revoked wrapping key again",
    "gen-password": "make and set a random password for this IPL",
    "set-password": "set a password for this IPL",
    "boot": "run firmware, boot loader and kernel; each locks its objects",
    "raw": "send any h-call, valid or not",
}
