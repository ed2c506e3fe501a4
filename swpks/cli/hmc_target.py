"""The target of a command of `swpks hmc`: a console, or the control channel of one system."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_abi.rules.console import NAME_FORM
from swpks.cli.where import state_folder

OPTIONS = ("--store", "--state", "--socket")


class Target(NamedTuple):
    """A console by its store, or a system by its control socket; `state` is the named state folder."""

    store: Path | None = None
    socket: Path | None = None
    state: Path | None = None


def store_folder() -> Path | None:
    """Return the store of SWPKS_HMC, None if it is not set or empty."""
    found = os.environ.get("SWPKS_HMC")
    return Path(found) if found else None


def target_of(args: argparse.Namespace) -> Target | None:
    """Return the target that the options name, else that of the environment; None if there is none.

    OperatorError for two options: a command that changes the wrong system is worse than one that fails.
    """
    given = {name: getattr(args, name[2:]) for name in OPTIONS if getattr(args, name[2:]) is not None}
    refuse_two(list(given))
    if args.socket is not None:
        return Target(socket=args.socket)
    if args.state is not None:
        return _system(args.state)
    if store := args.store or store_folder():
        return Target(store=store)
    state = state_folder()
    return _system(state) if state else None


def given_options(args: argparse.Namespace) -> str:
    """Return the options of a command that name its target, "" for none.

    They have the form that another command needs.
    """
    values = {"--store": args.store, "--state": args.state, "--socket": args.socket, "-m": args.system}
    return " ".join(f"{name} {shlex.quote(str(value))}" for name, value in values.items() if value)


def check_name_first(args: argparse.Namespace, others: Sequence[str]) -> None:
    """Raise OperatorError with the right order if NAME is an assignment; `others` are the words behind it."""
    if "=" not in args.name:
        return
    names = [each for each in others if "=" not in each]
    name = names[0] if len(names) == 1 else "NAME"
    rest = [args.name, *(each for each in others if each != name)]
    parts = ("swpks hmc", given_options(args), args.verb, *map(shlex.quote, (name, *rest)))
    right = " ".join(filter(None, parts))
    message = f"{args.name[:80]!r} is no name; the name comes first: `{right}`"
    raise OperatorError(NAME_FORM, message, advised=True)


def refuse_two(given: list[str]) -> None:
    """Raise OperatorError if more than one option names the target."""
    if len(given) > 1:
        raise OperatorError(
            rules.HMC_TARGET, f"{' and '.join(given)} exclude each other: name one", advised=True
        )


def refuse_twice(words: Sequence[str]) -> None:
    """Raise OperatorError if a target option is given twice: argparse would use only the last value."""
    given = [word.partition("=")[0] for word in words]
    for name in OPTIONS:
        if given.count(name) > 1:
            raise OperatorError(rules.HMC_TARGET, f"{name} is given twice: name one", advised=True)


_WITHOUT_SYSTEM = {
    "replace": "replace works on the folder of a powered-off system: name that system by --state DIR alone",
    "serve": "a console serves all of its systems: name a system by --system NAME=WHERE, after serve",
    "links": "the commands of the folder take -m themselves",
    "sshd": "the commands of the door take -m themselves",
    "systems": "systems lists all systems of the console",
    "add-system": "add-system takes the name of the system with its place: add-system {system}=WHERE",
    "remove-system": "remove-system takes the system as its operand: remove-system SYS",
    "jobs": "jobs are those of all systems, and the number of a job is enough",
}
"""Verbs that -m does not go with, each with the reason."""


def refuse_system(args: argparse.Namespace) -> None:
    """Raise OperatorError if -m is given to a verb that does not use it.

    Without this check, such a verb would act on another system than the named one.
    """
    if args.system is not None and (reason := _WITHOUT_SYSTEM.get(args.verb)):
        told = reason.format(system=shlex.quote(args.system))
        raise OperatorError(rules.HMC_TARGET, f"-m does not go with {args.verb}: {told}", advised=True)


def only_at_system(verb: str) -> str:
    """Return why a console refuses some options of `verb`.

    A console takes `verb` for a line, and that line does not have these options.
    """
    own = "-o return and --sealed work" if verb == "chtskey" else "--sealed works"
    return f"at a console, {verb} is a line: swpks hmc --store DIR {verb} ...; {own} with --state or --socket"


def _system(state: Path) -> Target:
    return Target(socket=state / "run" / "control.sock", state=state)
