"""Verbs of `swpks hmc` about partitions, the health, and faults on demand."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, Literal, get_args

from hcall_abi.attributes import attribute_number, parse_attributes
from hcall_abi.bounds import MAX_COUNT
from hcall_abi.console import ATTRIBUTES, LARGEST_PARTITION_ID
from hcall_abi.errors import OperatorError
from hcall_abi.faults import ConsoleTrouble
from hcall_abi.rules import console as rules
from hcall_abi.rules import service
from hcall_client import console
from swpks.cli import hmc_output as output
from swpks.cli.hmc_ask import Ask, ConsoleVerb
from swpks.cli.hmc_faults import faults
from swpks.cli.hmc_target import check_name_first, given_options


def _kbytes(text: str) -> int:
    return attribute_number("keystore_kbytes", text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LARGEST_PARTITION_ID):
        raise OperatorError(rules.PARTITION_NUMBER, f"{text!r} is no partition id")
    return int(text)


def _commits(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_COUNT):
        message = f"{text!r} is no number of commits; 1 to {MAX_COUNT} is possible"
        raise OperatorError(rules.TROUBLE_COUNT, message)
    return int(text)


def _status(args: argparse.Namespace) -> Ask:
    if args.name is not None:
        return Ask(console.show_partition(args.name))
    return Ask(console.show_system(), output.system)


def _create(args: argparse.Namespace) -> Ask:
    check_name_first(args, args.operands)
    # The size may be left out: then the first operand is an attribute, which has an `=`.
    sized = bool(args.operands) and "=" not in args.operands[0]
    request = console.create_partition(
        args.name,
        _kbytes(args.operands[0]) if sized else 0,
        auto_start=args.auto_start,
        number=None if args.number is None else _number(args.number),
        attributes=parse_attributes(args.operands[sized:]),
    )
    return Ask(request)


def _rename(args: argparse.Namespace) -> Ask:
    return Ask(console.change_partition(args.name, new_name=args.new_name))


def _delete(args: argparse.Namespace) -> Ask:
    return Ask(console.delete_partition(args.name, destroy=args.destroy), output.deleted(args.name))


def _power(args: argparse.Namespace) -> Ask:
    return Ask((console.power_on if args.power == "on" else console.power_off)(args.name))


def _secure_boot(args: argparse.Namespace) -> Ask:
    mode = _after_the_name(args, "secure_boot", args.mode)
    return Ask(console.set_attributes(args.name, {"secure_boot": mode}))


def _keystore(args: argparse.Namespace) -> Ask:
    return Ask(
        console.set_attributes(
            args.name, {"keystore_kbytes": _after_the_name(args, "keystore_kbytes", args.kbytes)}
        )
    )


def _after_the_name(args: argparse.Namespace, attribute: str, value: str) -> int:
    """Return the number of an attribute's value, which the line has behind the partition's name.

    Raises OperatorError if the value is wrong.
    """
    try:
        return attribute_number(attribute, value)
    except OperatorError as error:
        try:
            # If the name would be a good value, the user has probably swapped the two.
            attribute_number(attribute, args.name)
        except OperatorError:
            raise error from None
        words = ("swpks hmc", given_options(args), args.verb, shlex.quote(value), args.name)
        advice = f"the name comes first: `{' '.join(filter(None, words))}`"
        raise OperatorError(error.rule, f"{error.message}; {advice}", advised=True) from None


def _set(args: argparse.Namespace) -> Ask:
    check_name_first(args, args.attributes)
    return Ask(console.set_attributes(args.name, parse_attributes(args.attributes)))


def _trace(args: argparse.Namespace) -> Ask:
    if args.trace == "off" and args.secrets:
        raise OperatorError(service.COMMAND_USAGE, "--secrets begins a trace; `off` ends it")
    content: Literal["blanked", "secrets"] = "secrets" if args.secrets else "blanked"
    return Ask(console.set_trace(args.name, "off" if args.trace == "off" else content), output.trace)


def _nvram(args: argparse.Namespace) -> Ask:
    commits = None if args.commits is None else _commits(args.commits)
    return Ask(console.set_nvram_fault(args.trouble, commits), output.writeback)


_NAME: dict[str, Any] = {"metavar": "NAME", "help": "the partition's name"}
_SIZE: dict[str, Any] = {"metavar": "KBYTES", "help": "KiB, 0 for off"}
_STAY_OFF = {
    "dest": "auto_start",
    "action": "store_false",
    "help": "do not power it on when the server starts",
}
_MODE = {"metavar": "MODE", "help": ATTRIBUTES["secure_boot"].values}
_ATTRIBUTES: dict[str, Any] = {
    "metavar": "ATTRIBUTE=VALUE",
    "nargs": "+",
    "help": "; ".join(f"{name} is {row.values}" for name, row in ATTRIBUTES.items()),
}
_FIRST: dict[str, Any] = {
    "metavar": "KBYTES|ATTRIBUTE=VALUE",
    "nargs": "*",
    "default": [],
    "help": f"the size in KiB, 0 for off, if it comes first; {_ATTRIBUTES['help']}",
}
_ID = {"dest": "number", "metavar": "N", "help": "the partition id (default: the lowest free one)"}
_DESTROY = {
    "action": "store_true",
    "help": "delete it even if its keystore has objects, or was refused; they are lost",
}
_FAULTS: dict[str, Any] = {
    "metavar": "FAULT",
    "nargs": "*",
    "default": [],  # else argparse names FAULT as a missing operand if NAME is missing
    "help": "none, or HCALL=STATUS[,nth=N][,times=K|,seconds=S], such as WRITE_OBJECT=H_BUSY,nth=2",
}
_SECRETS = {"action": "store_true", "help": "blank no passwords, no keys and no object data"}
_COMMITS: dict[str, Any] = {
    "nargs": "?",
    "metavar": "COMMITS",
    "help": "with full and io: number of commits that are refused (default: 1)",
}
_WATCH: dict[str, Any] = {
    "action": "store_true",
    "help": "print the state again at each change, until Ctrl-C",
}

PARTITION_VERBS = {
    "status": ConsoleVerb(
        "show the system and its partitions", {"name": {**_NAME, "nargs": "?"}, "--watch": _WATCH}, _status
    ),
    "create": ConsoleVerb(
        "create a partition, powered off",
        {"name": _NAME, "operands": _FIRST, "--id": _ID, "--no-auto-start": _STAY_OFF},
        _create,
    ),
    "rename": ConsoleVerb(
        "give a partition that is powered off another name",
        {"name": _NAME, "new_name": {"metavar": "NEW", "help": "its new name"}},
        _rename,
    ),
    "delete": ConsoleVerb(
        "delete a partition that is powered off", {"name": _NAME, "--destroy": _DESTROY}, _delete
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
        "set the secure-boot mode of the next IPL",
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
        "set the busy answers of a partition's h-calls; none removes all of them, no FAULT shows them",
        {"name": _NAME, "faults": _FAULTS},
        faults,
    ),
    "trace": ConsoleVerb(
        "write the frames of a partition to a new file in the folder traces of the state, or end that; no"
        " verb of the console removes these files, and nothing bounds all of them together",
        {"name": _NAME, "trace": {"choices": ("on", "off"), "help": "on or off"}, "--secrets": _SECRETS},
        _trace,
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
        "show the health, and the reason of each problem",
        {},
        lambda _: Ask(console.show_health(), output.health),
    ),
    "metrics": ConsoleVerb("show the figures for Prometheus", {}, lambda _: Ask(console.show_metrics())),
}
