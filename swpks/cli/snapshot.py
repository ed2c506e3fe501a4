"""`swpks snapshot`: named snapshots of a system: profiles, images and settings (spec/snapshots.md).

    swpks snapshot --state DIR save base
    swpks snapshot --state DIR load base               # its partitions must be powered off
    swpks snapshot --state DIR diff base
    swpks snapshot --state DIR save ./base.portable --portable --passphrase-file F
    swpks snapshot --state DIR2 load ./base.portable --passphrase-file F

A NAME with a slash is a file outside of the state: a portable snapshot for another system.

A running system is reached by its control channel.  A stopped one is opened in this process, under the lock
of its folder.  If its NVRAM is on etcd, that needs --nvram and the options of its `swpks serve`.

Exit status: 0 done; 1 refused by a rule, such as a running partition; 2 a usage error; 3 the storage fails,
or the system breaks its protocol.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules.hmc import HMC_TARGET
from hcall_abi.rules.rule import Fault
from hcall_abi.snapshot_requests import (
    diff_snapshot,
    list_snapshots,
    load_snapshot,
    remove_snapshot,
    save_snapshot,
    show_snapshot,
)
from hcall_client.console import BlockingConsole, ConsoleMisspoken, ConsoleRequest, ConsoleUnreachable
from swpks.cli import snapshot_output as output
from swpks.cli import streams
from swpks.cli.nvram_options import add_nvram_options, nvram_place
from swpks.cli.passphrases import given_passphrase, new_passphrase
from swpks.cli.refusals import refuse
from swpks.cli.snapshot_outside import passed
from swpks.cli.where import for_every_verb, socket_path, state_folder, state_path

REFUSED, STORAGE = 1, 3
TIMEOUT = 30.0
"""Seconds to wait for the answer of a server."""


class SnapshotVerb(NamedTuple):
    """One verb: summary, operands for argparse, the function that makes the request, and that of the text."""

    summary: str
    operands: dict[str, dict[str, Any]]
    ask: Callable[[argparse.Namespace], ConsoleRequest[Any]]
    shown: Callable[[Any], str]


_NAME = {"name": {"metavar": "NAME", "help": "the name of the snapshot"}}
_NAME_OR_FILE = {"name": {"metavar": "NAME", "help": "the name of the snapshot; with a slash, a file"}}
_FILE: dict[str, Any] = {
    "type": Path,
    "metavar": "F",
    "help": "a file with the passphrase, one line, mode 0600; - is standard input, and no F the terminal",
}
_PASSPHRASE = {"--passphrase-file": _FILE}


def _save(args: argparse.Namespace) -> ConsoleRequest[Any]:
    passphrase = new_passphrase(args.passphrase_file, portable=args.portable)
    return save_snapshot(args.name, passphrase, force=args.force)


def _load(args: argparse.Namespace) -> ConsoleRequest[Any]:
    return load_snapshot(args.name, _secret(args), keep_uuid=args.keep_uuid)


def _secret(args: argparse.Namespace) -> str | None:
    """Return the passphrase for portable snapshots, from a file or the terminal."""
    named = (args.name, getattr(args, "other", None))

    def portable() -> bool:
        found = _answer(list_snapshots(), args).snapshots
        return any(each.name in named and each.kind == "portable" for each in found)

    return given_passphrase(args.passphrase_file, portable)


VERBS = {
    "save": SnapshotVerb(
        "save the present system under a name",
        {
            **_NAME_OR_FILE,
            "--portable": {"action": "store_true", "help": "seal it under a passphrase, for another system"},
            **_PASSPHRASE,
            "--force": {"action": "store_true", "help": "replace the snapshot with this name"},
        },
        _save,
        output.saved,
    ),
    "load": SnapshotVerb(
        "put the system back to a snapshot: contents go back, counters never",
        {
            **_NAME_OR_FILE,
            **_PASSPHRASE,
            "--keep-uuid": {
                "action": "store_true",
                "help": "with a portable snapshot of this system: put its own partitions back",
            },
        },
        _load,
        output.loaded,
    ),
    "list": SnapshotVerb("list the snapshots", {}, lambda _: list_snapshots(), output.listed),
    "show": SnapshotVerb(
        "show the contents of a snapshot, without object data",
        {**_NAME_OR_FILE, **_PASSPHRASE},
        lambda args: show_snapshot(args.name, _secret(args)),
        output.shown,
    ),
    "diff": SnapshotVerb(
        "compare a snapshot with another one, or with the present system",
        {
            **_NAME_OR_FILE,
            "other": {"metavar": "NAME2", "nargs": "?", "help": "the other snapshot; with a slash, a file"},
            **_PASSPHRASE,
        },
        lambda args: diff_snapshot(args.name, args.other, _secret(args)),
        output.compared,
    ),
    "rm": SnapshotVerb("remove a snapshot", _NAME, lambda args: remove_snapshot(args.name), output.listed),
}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `snapshot` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "snapshot",
        help="save, load and compare named snapshots of a system",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    _add_options(parser, default=None)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, row in VERBS.items():
        verb = verbs.add_parser(name, help=row.summary, description=row.summary)
        _add_options(verb, default=argparse.SUPPRESS)
        for operand, options in row.operands.items():
            verb.add_argument(operand, **options)
    return parser


def _add_options(parser: argparse.ArgumentParser, default: Any) -> None:
    add = for_every_verb(parser, "Connection and output options", default)
    add("--state", None, type=state_path, metavar="DIR", help="the system's state folder (or SWPKS_STATE)")
    add("--socket", None, type=socket_path, metavar="PATH", help="the control channel's Unix socket")
    add("--json", False, action="store_true", help="print JSON")
    add_nvram_options(lambda name, **options: add(name, None, **options))


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line and return the exit status; errors go to standard error."""
    _, state = _target(args)
    nvram_place(args)  # a wrong form is a usage error, also while a server runs
    row = VERBS[args.verb]
    try:
        with passed(args, state) as renamed:
            answer = renamed(_answer(_request(row, args), args))
    except _UsageError as usage:
        raise usage.error from None
    except SwpksError as error:
        refuse(f"snapshot {args.verb}", error, as_json=args.json)
        broken = error.fault is Fault.STORAGE or isinstance(error, ConsoleMisspoken | ConsoleUnreachable)
        return STORAGE if broken else REFUSED
    streams.say(json.dumps(msgspec.to_builtins(answer), indent=2) if args.json else row.shown(answer))
    return 0


class _UsageError(Exception):
    """A wrong option or operand.  `main` reports its error, with exit status 2."""

    def __init__(self, error: OperatorError) -> None:
        super().__init__()
        self.error = error


def _request(row: SnapshotVerb, args: argparse.Namespace) -> ConsoleRequest[Any]:
    try:
        return row.ask(args)
    except OperatorError as error:
        raise _UsageError(error) from None


def _target(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """Return the control socket, and the state folder if it is known."""
    if args.socket and args.state:
        raise OperatorError(HMC_TARGET, "--state and --socket exclude each other: name one", advised=True)
    if args.socket:
        return args.socket, None
    state = args.state or state_folder()
    if state is None:
        raise OperatorError(HMC_TARGET, "name the system: --state DIR (or SWPKS_STATE)", advised=True)
    return state / "run" / "control.sock", state


def _answer(request: ConsoleRequest[Any], args: argparse.Namespace) -> Any:
    """Return the answer of the running system, or of its folder if nothing listens."""
    socket, state = _target(args)
    # The socket comes first.  The lock first would be wrong: a command that holds it for a moment would make
    # a start of the server fail.
    try:
        return BlockingConsole(socket, TIMEOUT).call(request)
    except ConsoleUnreachable as error:
        if state is None or not error.absent:
            raise
    from hcall_server.service.offline import perform_offline

    return perform_offline(state, request.verb.operation, request.body, nvram_place(args))
