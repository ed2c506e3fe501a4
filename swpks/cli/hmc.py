"""`swpks hmc`: the management console, over the control channel.

    swpks hmc status
    swpks hmc power lpar1 on
    swpks hmc secure-boot lpar1 enforce && swpks hmc ipl lpar1
    swpks hmc set lpar1 keystore_signed_updates=1 linux_dynamic_key_secure_boot=1

Exit status: 0 done, or healthy; 1 refused by a rule, or not healthy; 2 the command line makes no
sense; 3 the server cannot be reached or does not speak as spec/control.md says.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from swpks.cli import hmc_output as output

if TYPE_CHECKING:
    import httpx

REFUSED = 1
USAGE = 2
UNREACHABLE = 3
DEFAULT_TIMEOUT = 30.0
"""Seconds that a command waits: the first request to a busy server loads its HTTP stack."""

MODES = ("off", "audit", "enforce")
COUNTED = ("full", "io")
"""Troubles of NVRAM that last for a number of commits."""


class Ask(NamedTuple):
    """One request: what to send, and how to show a person what comes back."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    shown: output.Show = output.partition


def request_of(args: argparse.Namespace) -> Ask:
    """Return the request that a parsed command line stands for."""
    name = quote(getattr(args, "name", None) or "", safe="")
    return _VERBS[args.verb].ask(args, f"/v1/partitions/{name}")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `hmc` to the command's subparsers; the result has `run` as its default `run`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "hmc",
        help="do what the management console does: power, IPL, secure boot, keystore sizes",
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
    for name, row in _VERBS.items():
        verb = verbs.add_parser(name, help=row.summary, description=row.summary)
        _add_where(verb, default=argparse.SUPPRESS)
        for operand, options in row.operands.items():
            verb.add_argument(operand, **options)


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line and return the exit status; errors go to standard error."""
    import httpx

    socket = args.socket or (args.state / "run" / "control.sock" if args.state else None)
    if socket is None:
        return _fail(args, "say where the server is: --state DIR (or SWPKS_STATE), or --socket", USAGE)
    try:
        return _finish(args, _answer(socket, request_of(args), args.timeout))
    except (httpx.HTTPError, OSError) as error:
        return _fail(args, f"cannot reach the server at {socket}: {error}", UNREACHABLE)
    except (ValueError, KeyError, TypeError) as error:
        return _fail(args, f"{socket} answers what is not in spec/control.md: {error!r}", UNREACHABLE)


def _answer(socket: Path, ask: Ask, timeout: float) -> httpx.Response:
    """Send one request and return the answer."""
    import httpx

    from hcall_client.control_socket import BASE_URL, transport_options

    transport = httpx.HTTPTransport(**transport_options(socket))
    with httpx.Client(transport=transport, base_url=BASE_URL, timeout=timeout, trust_env=False) as client:
        return client.request(ask.method, ask.path, json=ask.body)


def _finish(args: argparse.Namespace, answer: httpx.Response) -> int:
    """Print the answer; a problem goes to standard error."""
    kind = answer.headers.get("content-type", "").split(";")[0]
    if kind == "text/plain" and answer.is_success:
        sys.stdout.write(answer.text)
        return 0
    content = answer.json()
    if kind == "application/problem+json":
        text = json.dumps(content) if args.json else output.problem(content)
        return _fail(args, text, REFUSED, prefix=not args.json)
    text = json.dumps(content, indent=2) if args.json else request_of(args).shown(content)
    print(text)
    return 0 if answer.is_success else REFUSED


def _fail(args: argparse.Namespace, text: str, status: int, *, prefix: bool = True) -> int:
    start = f"swpks hmc {args.verb}: " if prefix else ""
    print(start + text, file=sys.stderr)
    return status


def _kbytes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of KiB")
    return int(text)


def _commits(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of commits from 1 on")
    return int(text)


def _attribute(text: str) -> tuple[str, int]:
    """Return an attribute and its number, both of them such as the console has at all."""
    from hcall_server.platform.attributes import VALUES

    name, equals, value = text.partition("=")
    if not equals or name not in VALUES:
        raise argparse.ArgumentTypeError(
            f"{text!r} sets no attribute; it is ATTRIBUTE=VALUE, and the attributes are {', '.join(VALUES)}"
        )
    if name == "secure_boot" and value in MODES:
        return name, MODES.index(value)
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) in VALUES[name]):
        words = f", or {', '.join(MODES)}" if name == "secure_boot" else ""
        raise argparse.ArgumentTypeError(f"{name} is 0 to {VALUES[name][-1]}{words}, not {value!r}")
    return name, int(value)


class _EachOnce(argparse.Action):
    """Takes pairs of name and value; a name that is given twice is an error, whatever its values."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, _option: Any = None) -> None:
        names = [name for name, _ in values]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise argparse.ArgumentError(self, f"{twice} is given twice")
        setattr(namespace, self.dest, dict(values))


def _add_where(parser: argparse.ArgumentParser, default: Any) -> None:
    """Add what every verb takes; given before the verb or after it, the last one counts."""
    group = parser.add_argument_group("where the server is, and how it is told")
    found = os.environ.get("SWPKS_STATE")

    def add(name: str, fallback: Any, **options: Any) -> None:
        group.add_argument(name, default=fallback if default is None else default, **options)

    add("--state", Path(found) if found else None, type=Path, metavar="DIR", help="the server's state folder")
    add("--socket", None, type=Path, metavar="PATH", help="the control channel's Unix socket")
    add("--timeout", DEFAULT_TIMEOUT, type=float, metavar="S", help="seconds to wait for the server")
    add("--json", False, action="store_true", help="print JSON")


class _Verb(NamedTuple):
    """One verb: what it does, its operands for argparse, and its request for a partition's path."""

    summary: str
    operands: dict[str, dict[str, Any]]
    ask: Callable[[argparse.Namespace, str], Ask]


def _status(args: argparse.Namespace, path: str) -> Ask:
    return Ask("GET", path) if args.name else Ask("GET", "/v1/system", shown=output.system)


def _create(args: argparse.Namespace, _path: str) -> Ask:
    body = {"name": args.name, "keystore_kbytes": args.kbytes, "auto_start": args.auto_start}
    return Ask("POST", "/v1/partitions", body)


def _faults(args: argparse.Namespace, path: str) -> Ask:
    from hcall_abi.faults import parse_fault

    faults = [parse_fault(text) for text in args.faults]
    body = [
        {"hcall": each.call.name, "status": each.status.name, "nth": each.nth}
        | ({"seconds": each.seconds} if each.times is None else {"times": each.times})
        for each in faults
    ]
    return Ask("PUT", f"{path}/faults", {"faults": body})


def _nvram(args: argparse.Namespace, _path: str) -> Ask:
    from hcall_abi.errors import OperatorError

    counted = {} if args.commits is None else {"commits": args.commits}
    if counted and args.trouble not in COUNTED:
        message = f"{args.trouble} takes no number of commits"
        rule = f"a number of commits goes with {' and '.join(COUNTED)}"
        raise OperatorError(message, rule=rule, section="spec/faults.md#nvram")
    return Ask("PUT", "/v1/nvram/fault", {"trouble": args.trouble, **counted}, output.writeback)


_NAME: dict[str, Any] = {"metavar": "NAME", "help": "the partition's name"}
_SIZE: dict[str, Any] = {"metavar": "KBYTES", "type": _kbytes, "help": "KiB, 0 for off"}
_STAY_OFF = {"dest": "auto_start", "action": "store_false", "help": "leave it off when the server starts"}

_VERBS = {
    "status": _Verb("show the system and its partitions", {"name": {**_NAME, "nargs": "?"}}, _status),
    "create": _Verb(
        "create a partition, powered off",
        {"name": _NAME, "kbytes": {**_SIZE, "nargs": "?", "default": 0}, "--no-auto-start": _STAY_OFF},
        _create,
    ),
    "power": _Verb(
        "power a partition on or off",
        {"name": _NAME, "power": {"choices": ("on", "off"), "help": "on or off"}},
        lambda args, path: Ask("POST", f"{path}/power-{args.power}"),
    ),
    "ipl": _Verb("restart a partition", {"name": _NAME}, lambda _, path: Ask("POST", f"{path}/ipl")),
    "secure-boot": _Verb(
        "set the secure-boot mode that the next IPL takes",
        {"name": _NAME, "mode": {"choices": MODES, "help": "off, audit or enforce"}},
        lambda args, path: Ask("PUT", f"{path}/secure-boot", {"mode": args.mode}),
    ),
    "keystore": _Verb(
        "set the size of a partition's keystore",
        {"name": _NAME, "kbytes": _SIZE},
        lambda args, path: Ask("PUT", f"{path}/keystore", {"kbytes": args.kbytes}),
    ),
    "set": _Verb(
        "set attributes of a partition, all of them or none",
        {
            "name": _NAME,
            "attributes": {
                "metavar": "ATTRIBUTE=VALUE",
                "nargs": "+",
                "type": _attribute,
                "action": _EachOnce,
                "help": "the console's names and numbers, such as keystore_signed_updates=1; "
                "secure_boot takes off, audit and enforce too",
            },
        },
        lambda args, path: Ask("PATCH", f"{path}/attributes", args.attributes),
    ),
    "faults": _Verb(
        "set the busy answers of a partition's h-calls; without a fault there are none any more",
        {
            "name": _NAME,
            "faults": {
                "metavar": "FAULT",
                "nargs": "*",
                "help": "HCALL=STATUS[,nth=N][,times=K|,seconds=S], such as WRITE_OBJECT=H_BUSY,nth=2",
            },
        },
        _faults,
    ),
    "nvram": _Verb(
        "trouble NVRAM: refuse its next commits, or let the next one hang until the trouble is ended",
        {
            "trouble": {"choices": ("none", "full", "io", "stall"), "help": "none ends it"},
            "commits": {
                "nargs": "?",
                "metavar": "COMMITS",
                "type": _commits,
                "help": "with full and io: so many are refused; 1 without it",
            },
        },
        _nvram,
    ),
    "health": _Verb("tell whether all is well", {}, lambda *_: Ask("GET", "/health", shown=output.health)),
    "metrics": _Verb("show the figures for Prometheus", {}, lambda *_: Ask("GET", "/metrics")),
}
