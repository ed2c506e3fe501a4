"""`swpks hmc`: the management console, over the control channel.

    swpks hmc status
    swpks hmc power lpar1 on
    swpks hmc secure-boot lpar1 enforce && swpks hmc ipl lpar1
    swpks hmc set lpar1 keystore_signed_updates=1 linux_dynamic_key_secure_boot=1

Exit status: 0 done, or healthy; 1 refused by a rule, or not healthy; 2 a usage error; 3 the server cannot be
reached, or breaks the protocol of spec/control.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

from hcall_abi.attributes import attribute_number, parse_attributes
from hcall_abi.console import ATTRIBUTES
from hcall_abi.control_bodies import Answered, HealthView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.faults import ConsoleTrouble, parse_fault
from hcall_abi.rules import backup
from hcall_abi.rules import console as rules
from hcall_client import console
from hcall_client.console import (
    BlockingConsole,
    ConsoleMisspoken,
    ConsoleRefused,
    ConsoleUnreachable,
)
from swpks.cli import hmc_output as output
from swpks.cli import streams
from swpks.cli.files import output as file_output
from swpks.cli.hmc_ask import Ask, ConsoleVerb
from swpks.cli.hmc_system import SYSTEM_VERBS
from swpks.cli.where import for_every_verb, state_folder, state_path

REFUSED = 1
USAGE = 2
REPLACE = "replace"
"""The verb that works on a powered-off system, without its control channel."""
SAVED_ROOM = 1
"""Bytes for which a file must have room before the system is asked."""
UNREACHABLE = 3


def ask_of(args: argparse.Namespace) -> Ask:
    """Return the request of a parsed command line; OperatorError if it can't be made."""
    return _VERBS[args.verb].ask(args)


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `hmc` to the command's subparsers; the result has `run` as its default `run`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "hmc",
        help="act as the management console: power, keystores, copies, parts, recovery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verbs and their options."""
    _add_where(parser, default=None)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, row in {**_VERBS, REPLACE: _REPLACED}.items():
        verb = verbs.add_parser(name, help=row.summary, description=row.summary)
        _add_where(verb, default=argparse.SUPPRESS)
        for operand, options in row.operands.items():
            verb.add_argument(operand, **options)


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line and return the exit status; errors go to standard error."""
    if args.verb == REPLACE:
        from swpks.cli.replace import replace

        return replace(args)
    socket = args.socket or (args.state / "run" / "control.sock" if args.state else None)
    if socket is None:
        return _fail(args, "say where the server is: --state DIR (or SWPKS_STATE), or --socket", USAGE)
    ask, system = ask_of(args), BlockingConsole(socket, args.timeout)
    try:
        return _carried_out(args, system, ask)
    except ConsoleRefused as error:
        return _refused(args, error)
    except (ConsoleUnreachable, ConsoleMisspoken) as error:
        return _fail(args, str(error), UNREACHABLE)
    except OperatorError as error:
        if error.rule is not backup.TRUSTED_KEY_SET:
            raise
        return _fail(args, str(error), REFUSED)


def _carried_out(args: argparse.Namespace, system: BlockingConsole, ask: Ask) -> int:
    answer = _asked(system, ask)
    if ask.saving and str(ask.saving.path) == "-":
        return 0
    return _show(args, answer, ask.shown)


def _asked(system: BlockingConsole, ask: Ask) -> Answered | str:
    """Return the answer, and write the file of a verb that has one; OperatorError if it can't be written."""
    if ask.saving is None:
        return cast(Answered | str, system.call(ask.request))
    path, content = ask.saving
    new = not os.path.lexists(path)
    try:
        with file_output(path, SAVED_ROOM) as write:
            answer = system.call(ask.request)
            write(content(answer))
    except OSError as error:
        raise OperatorError(backup.BACKUP_FILE, f"{path}: {error.strerror}") from None
    except SwpksError:
        if new:  # an empty file would look like a backup
            path.unlink(missing_ok=True)
        raise
    return cast(Answered, answer)


def _show(args: argparse.Namespace, answer: Answered | str, shown: Callable[[Any], str]) -> int:
    """Print an answer: as JSON where that was asked for; text as it came."""
    if isinstance(answer, str):
        streams.say(answer.removesuffix("\n"))
        return 0
    streams.say(json.dumps(msgspec.to_builtins(answer), indent=2) if args.json else shown(answer))
    return REFUSED if isinstance(answer, HealthView) and not answer.ok else 0


def _refused(args: argparse.Namespace, error: ConsoleRefused) -> int:
    if args.json:
        streams.complain(json.dumps(msgspec.to_builtins(error.problem)))
        return REFUSED
    return _fail(args, output.problem(error.problem), REFUSED)


def _fail(args: argparse.Namespace, text: str, status: int) -> int:
    streams.complain(f"swpks hmc {args.verb}: {text}")
    return status


def _kbytes(text: str) -> int:
    return attribute_number("keystore_kbytes", text)


def _commits(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise OperatorError(rules.TROUBLE_COUNT, f"{text!r} is no number of commits")
    return int(text)


def _add_where(parser: argparse.ArgumentParser, default: Any) -> None:
    add = for_every_verb(parser, "where the server is, and how it is told", default)
    add("--state", state_folder(), type=state_path, metavar="DIR", help="the server's state folder")
    add("--socket", None, type=Path, metavar="PATH", help="the control channel's Unix socket")
    add("--timeout", console.DEFAULT_TIMEOUT, type=float, metavar="S", help="seconds to wait for the server")
    add("--json", False, action="store_true", help="print JSON")


def _status(args: argparse.Namespace) -> Ask:
    if args.name is not None:
        return Ask(console.show_partition(args.name))
    return Ask(console.show_system(), output.system)


def _create(args: argparse.Namespace) -> Ask:
    return Ask(console.create_partition(args.name, _kbytes(args.kbytes), auto_start=args.auto_start))


def _power(args: argparse.Namespace) -> Ask:
    return Ask((console.power_on if args.power == "on" else console.power_off)(args.name))


def _secure_boot(args: argparse.Namespace) -> Ask:
    mode = attribute_number("secure_boot", args.mode)
    return Ask(console.set_attributes(args.name, {"secure_boot": mode}))


def _keystore(args: argparse.Namespace) -> Ask:
    return Ask(console.set_attributes(args.name, {"keystore_kbytes": _kbytes(args.kbytes)}))


def _set(args: argparse.Namespace) -> Ask:
    return Ask(console.set_attributes(args.name, parse_attributes(args.attributes)))


def _faults(args: argparse.Namespace) -> Ask:
    return Ask(console.set_faults(args.name, map(parse_fault, args.faults)))


def _nvram(args: argparse.Namespace) -> Ask:
    commits = None if args.commits is None else _commits(args.commits)
    return Ask(console.set_nvram_fault(args.trouble, commits), output.writeback)


_NAME: dict[str, Any] = {"metavar": "NAME", "help": "the partition's name"}
_SIZE: dict[str, Any] = {"metavar": "KBYTES", "help": "KiB, 0 for off"}
_STAY_OFF = {"dest": "auto_start", "action": "store_false", "help": "leave it off when the server starts"}
_MODE = {"metavar": "MODE", "help": ATTRIBUTES["secure_boot"].values}
_ATTRIBUTES: dict[str, Any] = {
    "metavar": "ATTRIBUTE=VALUE",
    "nargs": "+",
    "help": "; ".join(f"{name} is {row.values}" for name, row in ATTRIBUTES.items()),
}
_FAULTS: dict[str, Any] = {
    "metavar": "FAULT",
    "nargs": "*",
    "help": "HCALL=STATUS[,nth=N][,times=K|,seconds=S], such as WRITE_OBJECT=H_BUSY,nth=2",
}
_COMMITS: dict[str, Any] = {
    "nargs": "?",
    "metavar": "COMMITS",
    "help": "with full and io: so many are refused; 1 without it",
}

_VERBS = {
    "status": ConsoleVerb("show the system and its partitions", {"name": {**_NAME, "nargs": "?"}}, _status),
    "create": ConsoleVerb(
        "create a partition, powered off",
        {"name": _NAME, "kbytes": {**_SIZE, "nargs": "?", "default": "0"}, "--no-auto-start": _STAY_OFF},
        _create,
    ),
    "power": ConsoleVerb(
        "power a partition on or off",
        {"name": _NAME, "power": {"choices": ("on", "off"), "help": "on or off"}},
        _power,
    ),
    "ipl": ConsoleVerb("restart a partition", {"name": _NAME}, lambda args: Ask(console.ipl(args.name))),
    "rotate-key": ConsoleVerb(
        "give a partition a new access key for TCP; it is in access-keys/NAME.key of the state",
        {"name": _NAME},
        lambda args: Ask(console.rotate_key(args.name)),
    ),
    "secure-boot": ConsoleVerb(
        "set the secure-boot mode that the next IPL takes",
        {"name": _NAME, "mode": _MODE},
        _secure_boot,
    ),
    "keystore": ConsoleVerb(
        "set the size of a partition's keystore", {"name": _NAME, "kbytes": _SIZE}, _keystore
    ),
    "set": ConsoleVerb(
        "set attributes of a partition, all of them or none",
        {"name": _NAME, "attributes": _ATTRIBUTES},
        _set,
    ),
    "faults": ConsoleVerb(
        "set the busy answers of a partition's h-calls; without a fault there are none any more",
        {"name": _NAME, "faults": _FAULTS},
        _faults,
    ),
    "nvram": ConsoleVerb(
        "begin a fault of NVRAM: it refuses its next commits, or the next one hangs until the fault is ended",
        {
            "trouble": {"choices": ("none", *get_args(ConsoleTrouble)), "help": "none ends it"},
            "commits": _COMMITS,
        },
        _nvram,
    ),
    "health": ConsoleVerb(
        "show the health, and reasons", {}, lambda _: Ask(console.show_health(), output.health)
    ),
    "metrics": ConsoleVerb("show the figures for Prometheus", {}, lambda _: Ask(console.show_metrics())),
    **SYSTEM_VERBS,
}

_PARTS = ("anchor-card", "service-processor", "tpm", "tpm-2")
_REPLACED = ConsoleVerb(
    "replace a part of a powered-off system by a new one; the old part is kept in DIR/removed",
    {"part": {"choices": _PARTS, "metavar": "PART", "help": ", ".join(_PARTS)}},
    ask_of,
)
