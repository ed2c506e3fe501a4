"""`swpks hmc`: the management console, and the control channel of one system.

    swpks hmc serve --store hmc --system state/run/control.sock
    swpks hmc --store hmc status -m sys1
    swpks hmc --state state power lpar1 on
    swpks hmc --store hmc lssyscfg -r lpar -m sys1 -F name,state

A command goes to the console of --store, or to the system of --state or --socket.  Without these options it
goes to SWPKS_HMC, or else to SWPKS_STATE.  A line of the real console (lssyscfg, chsyscfg, ...) is sent to
the console unchanged, and exits with 0 or 1.

Exit status: 0 done, or healthy; 1 refused by a rule, or not healthy; 2 a usage error; 3 the other end cannot
be reached, or breaks its protocol; 4 a person has to be present.
"""

# One command for two ends
#
# `swpks hmc` talks to a console, or to one system without a console.  A console forwards requests to its
# systems, so most verbs work at both ends with the same request and the same output.  Three kinds of verbs do
# not:
#
#   - Verbs of the console itself (ORDER_VERBS), such as `backup`.  With a system as the target they are
#     refused, with a hint.
#   - `status` and `recover`, which mean more at a console: all systems, and a job.
#   - `replace`, which changes a system that is powered off.  It works on the state folder, without any
#     server.
#
# A command that changes the wrong system is worse than one that fails.  So two options that name an end
# exclude each other, and the environment counts only without any option.

from __future__ import annotations

import argparse
import json
import shlex
import textwrap
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import msgspec

from hcall_abi.control_views import Answered, HealthView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import backup
from hcall_abi.rules import hmc as hmc_rules
from hcall_client import console
from hcall_client.console import (
    BlockingConsole,
    ConsoleMisspoken,
    ConsoleRefused,
    ConsoleUnreachable,
)
from swpks.cli import hmc_console, hmc_links, hmc_serve, hmc_sshd, refusals, streams
from swpks.cli import hmc_output as output
from swpks.cli.files import output as file_output
from swpks.cli.hmc_ask import Ask
from swpks.cli.hmc_console import ORDER_VERBS, OrderAnswer
from swpks.cli.hmc_partition import PARTITION_VERBS
from swpks.cli.hmc_system import SYSTEM_VERBS
from swpks.cli.hmc_target import Target, only_at_system, refuse_system, store_folder, target_of
from swpks.cli.parser import CommandParser, lines_elsewhere
from swpks.cli.refusals import reason_of
from swpks.cli.silence import noticed
from swpks.cli.where import for_every_verb, socket_path, state_path
from swpks.hmc.line_client import LAYOUT, escaped
from swpks.hmc.names import ALSO_VERBS, LINES
from swpks.hmc.store_console import StoreConsole
from swpks.hmc.views import KnownSystemView

REFUSED = 1
UNREACHABLE = 3
PRESENCE = 4
OF_A_STORE: dict[str, Any] = {"serve": hmc_serve, "links": hmc_links, "sshd": hmc_sshd}
"""The verbs that need only the store, each with its module."""
REPLACE = "replace"
"""The verb that works on a powered-off system, without its control channel."""
_FOLLOWED = ("backup", "recover", "jobs")
"""Verbs that follow a job at a console."""
SAVED_ROOM = 1
"""Bytes for which a file must have room before the request is sent."""
_NO_TARGET = "name the console: --store DIR (or SWPKS_HMC); or the server: --state DIR (or SWPKS_STATE)"

End = BlockingConsole | StoreConsole

_VERBS = {**PARTITION_VERBS, **SYSTEM_VERBS}
_PARTS = ("anchor-card", "service-processor", "tpm", "tpm-2")
_REPLACED = {"part": {"choices": _PARTS, "metavar": "PART", "help": ", ".join(_PARTS)}}
_SUMMARY = "replace a part of a powered-off system by a new one; the old part is moved to DIR/removed"


def ask_of(args: argparse.Namespace) -> Ask:
    """Return the request of a parsed command line; OperatorError if it can't be made."""
    return _VERBS[args.verb].ask(args)


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `hmc` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "hmc",
        help="run a management console, or send commands to one: power, copies, recovery",
        description=__doc__,
        epilog=_lines_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_arguments(parser)
    if isinstance(parser, CommandParser):
        # argparse never gets the lines of the console (hmc_line.py), so its list of choices lacks them.
        parser.elsewhere = lines_elsewhere(LINES)
        parser.also = f"; and the lines of the management console: {', '.join(LINES)}"
    return parser


def _lines_epilog() -> str:
    """Return the help text about the console's lines, which argparse does not know."""
    text = f"lines of the console (--store DIR; each has --help): {', '.join(LINES)}"
    return textwrap.fill(text, 80, subsequent_indent="  ")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verbs and their options."""
    _add_target_options(parser, default=None)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    rows = [(name, row.summary, row.operands) for name, row in _every_verb().items()]
    for name, summary, operands in [*rows, (REPLACE, _SUMMARY, _REPLACED)]:
        verb = verbs.add_parser(name, help=summary, description=summary)
        _add_target_options(verb, default=argparse.SUPPRESS)
        for operand, options in operands.items():
            verb.add_argument(operand, **options)
    for name, module in OF_A_STORE.items():
        verb = verbs.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        _add_store(verb, default=argparse.SUPPRESS)
        module.add_options(verb)


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line and return the exit status; errors go to standard error."""
    target = target_of(args)
    try:
        return _run(args, target)
    except SwpksError as error:
        raise _advised(args, target, error) from None


def _run(args: argparse.Namespace, target: Target | None) -> int:
    refuse_system(args)
    if args.verb == REPLACE:
        from swpks.cli.replace import replace

        # The state folder may come from SWPKS_STATE, which argparse does not see.
        args.state = target.state if target else None
        return replace(args)
    if args.verb in OF_A_STORE:
        return _with_store(args)
    if wrong := _misplaced(args, target):
        raise OperatorError(hmc_rules.HMC_TARGET, wrong, advised=True)
    return _answered(args, target or Target())


def _answered(args: argparse.Namespace, target: Target) -> int:
    """Send the request and print the answer; return the exit status."""
    end = _end(args, target)
    try:
        # A command that follows a job or watches may wait for days, and prints the progress.
        follows = (target.store is not None and args.verb in _FOLLOWED) or getattr(args, "watch", False)
        with nullcontext() if follows else noticed(f"hmc {args.verb}", args.timeout):
            return _carried_out(args, end)
    except ConsoleRefused as error:
        return _refused(args, target, error)
    except hmc_console.FollowedJobFailed as error:
        return _fail(args, target, error, REFUSED)
    except ConsoleUnreachable as error:
        return _fail(args, target, _unreached(error, target, args.timeout), UNREACHABLE)
    except ConsoleMisspoken as error:
        return _fail(args, target, error, UNREACHABLE)
    except OperatorError as error:
        # `lstskey --sealed` raises TRUSTED_KEY_SET because of the system's answer. So the exit status is 1
        # (refused), and not 2 (usage error).
        if error.rule is not backup.TRUSTED_KEY_SET:
            raise
        return _fail(args, target, error, REFUSED)


def _unreached(error: ConsoleUnreachable, target: Target, timeout: float) -> SwpksError:
    """Return the error of a command that reached no server, with the message that all commands use."""
    if target.socket is None:
        return error
    if error.found:
        from swpks.cli.wrong_socket import no_control_channel

        return no_control_channel(target.socket, error)
    if not error.absent:
        return error
    from swpks.cli.absent import no_server
    from swpks.cli.wrong_socket import without_listener

    return without_listener(target.socket, timeout) or no_server(target.socket)


def _every_verb() -> dict[str, Any]:
    return {**_VERBS, **ORDER_VERBS}


def _with_store(args: argparse.Namespace) -> int:
    store = args.store or store_folder()
    if store is None or args.state or args.socket:
        told = "name the console's store: --store DIR (or SWPKS_HMC)"
        raise OperatorError(hmc_rules.HMC_TARGET, told, advised=True)
    return int(OF_A_STORE[args.verb].run(args, store))


def _misplaced(args: argparse.Namespace, target: Target | None) -> str:
    """Return the reason why the target cannot carry out this verb, "" if it can."""
    if target is None:
        return _NO_TARGET
    if target.store is None and args.verb in ORDER_VERBS:
        place = target.socket
        if place and place.name == "console.sock":
            store = shlex.quote(str(place.parent.parent))
            return f"{place} is the socket of a console: use --store {store}"
        return "only a console does this: --store DIR (or SWPKS_HMC)"
    if target.store is not None and args.verb in ALSO_VERBS:
        return only_at_system(args.verb)
    if target.store is None and args.system is not None:
        return "-m goes with a console: --store DIR (or SWPKS_HMC)"
    return ""


def _end(args: argparse.Namespace, target: Target) -> End:
    if target.store is not None:
        return StoreConsole(target.store, args.system, args.timeout)
    return BlockingConsole(cast(Path, target.socket), args.timeout)


def _carried_out(args: argparse.Namespace, end: End) -> int:
    if getattr(args, "watch", False):
        from swpks.cli.hmc_watch import watch  # other commands do not need it

        return watch(args, end)
    found = _ordered(args, end) if isinstance(end, StoreConsole) else None
    if found is not None:
        shown = output.plain(found.answer)
        text = _json(found.answer, None if found.is_job else 2) if args.json else found.shown(shown)
        if text:
            streams.say(text)
        return found.status
    ask = ask_of(args)
    answer = _asked(end, ask)
    for doubt in ask.doubts(answer, end):
        streams.complain(f"{refusals.command(f'hmc {args.verb}')}: warning: {doubt}")
    # Standard output has the bytes of the file now; text after them would damage them.
    if ask.saving and str(ask.saving.path) == "-":
        return 0
    return _show(args, answer if args.json else _named(answer, end), ask.shown)


def _named(answer: Answered | str, end: End) -> Answered | str:
    """Return the answer with the names of systems in place of their ids.

    Only a console knows the names.
    """
    if not (isinstance(answer, SystemView) and answer.custody and isinstance(end, StoreConsole)):
        return answer
    systems = end.order(list[KnownSystemView], "systems")
    return output.with_names(answer, hmc_console.names_of(systems))


def _ordered(args: argparse.Namespace, end: StoreConsole) -> OrderAnswer | None:
    """Carry out a verb of the console itself.

    Return None for a verb that the console forwards to a system.
    """
    if args.verb in ORDER_VERBS:
        return ORDER_VERBS[args.verb].carry_out(args, end)
    if args.verb == "recover" and not args.begin:
        return hmc_console.recover(args, end)
    return hmc_console.status(args, end) if args.verb == "status" else None


def _asked(end: End, ask: Ask) -> Answered | str:
    """Return the answer; if the verb has a file, also write the file.

    OperatorError if the file can't be written.
    """
    if ask.saving is None:
        return cast(Answered | str, end.call(ask.request))
    path, content = ask.saving
    try:
        with file_output(path, SAVED_ROOM) as write:
            answer = end.call(ask.request)
            write(content(answer))
    except OSError as error:
        raise OperatorError(backup.BACKUP_FILE, f"{path}: {reason_of(error)}") from None
    return cast(Answered, answer)


def _show(args: argparse.Namespace, answer: Answered | str, shown: Callable[[Any], str]) -> int:
    """Print an answer, and return the exit status.

    Text is printed as it is.  Other answers are printed as JSON if --json is given.
    """
    if isinstance(answer, str):
        streams.say(escaped(answer.removesuffix("\n"), LAYOUT))
        return 0
    streams.say(_json(answer) if args.json else shown(output.plain(answer)))
    return REFUSED if isinstance(answer, HealthView) and not answer.ok else 0


def _json(answer: Any, indent: int | None = 2) -> str:
    return json.dumps(msgspec.to_builtins(answer), indent=indent)


def _refused(args: argparse.Namespace, target: Target, error: ConsoleRefused) -> int:
    status = PRESENCE if error.problem.rule_id.startswith("presence.") else REFUSED
    if args.json:  # the problem of the system alone: `_fail` would add the advice of this command
        streams.complain(_json(error.problem, indent=None))
        return status
    return _fail(args, target, error, status)


def _fail(args: argparse.Namespace, target: Target, error: SwpksError, status: int) -> int:
    refusals.refuse(f"hmc {args.verb}", _advised(args, target, error), as_json=args.json)
    return status


def _advised(args: argparse.Namespace, target: Target | None, error: SwpksError) -> SwpksError:
    """Return an error with its remedy; with --json without it, because programs compare the rule."""
    if args.json:
        return error
    from swpks.hmc.verb_remedies import Asked, with_remedy_for  # only an error needs it

    end = f"--state {shlex.quote(str(args.state))}" if args.state else ""
    end = f"--socket {shlex.quote(str(args.socket))}" if args.socket else end
    partition = getattr(args, "name", "") if args.verb in (*PARTITION_VERBS, "copy") else ""
    store = str(target.store or "") if target else ""
    of_job = error.system if isinstance(error, hmc_console.FollowedJobFailed) else ""
    return with_remedy_for(error, Asked(store, of_job or args.system or "", partition or "", end))


def _add_target_options(parser: argparse.ArgumentParser, default: Any) -> None:
    _add_store(parser, default)
    add = for_every_verb(parser, "Connection and output options", default)
    add("--state", None, type=state_path, metavar="DIR", help="the system's state folder")
    add("--socket", None, type=socket_path, metavar="PATH", help="the control channel's Unix socket")
    add("--timeout", console.DEFAULT_TIMEOUT, type=float, metavar="S", help="seconds to wait for the answer")
    add("--json", False, action="store_true", help="print JSON")
    add("-m", None, dest="system", metavar="SYS", help="the system, if the console has several")


def _add_store(parser: argparse.ArgumentParser, default: Any) -> None:
    add = for_every_verb(parser, "Console options", default)
    add("--store", None, type=state_path, metavar="DIR", help="the console's store (or SWPKS_HMC)")
