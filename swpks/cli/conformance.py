"""`swpks conformance`: the contract as a judge of any server, and of any client, of the data channel.

    swpks conformance server --connect unix:lab/run/lpar1.sock
    swpks conformance server --connect unix:lab/run/lpar1.sock --ipl 'swpks hmc --state lab ipl lpar1'
    swpks conformance server --connect tcp:127.0.0.1:4000 --access-key-file lpar1.key --only 'wrapping.*'

Each case has an id.  A case that fails is printed with its rule, its page and the frames of its dialogue.
spec/conformance.md describes the cases.

Exit status: 0 no case failed; 1 a case failed; 2 the command line or the partition makes no sense; 3 there is
no session; 130 an interrupt.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.near import did_you_mean, near_names
from hcall_abi.rules.service import COMMAND_FILE, COMMAND_USAGE, STREAM_OUTPUT
from swpks.cli import conformance_server, streams
from swpks.cli.files import STANDARD, output, read_input
from swpks.cli.refusals import reason_of, refuse

if TYPE_CHECKING:
    from swpks.conformance.report import Suite

NO_SESSION = 3


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `conformance` to the command's subparsers; the result has `run` as its default `run`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "conformance",
        help="judge a server or a client of the data channel by the contract",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    judged = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    server = judged.add_parser("server", help="judge a server, over a socket of a partition")
    conformance_server.add_options(server)
    add_shared_options(server)
    server.set_defaults(run=run_server)
    return parser


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both judges have."""
    add = parser.add_argument
    add(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="a chapter, or a pattern of case ids such as 'frames.*' (repeat for more)",
    )
    add("--xfail", type=Path, metavar="F", help="patterns of cases that are known to fail, one a line")
    add("--require-all", action="store_true", help="a case that is not run counts as a failure")
    add("--json", type=Path, metavar="F", help="write the report as JSON; - is standard output")
    add("--junit", type=Path, metavar="F", help="write the report as JUnit's XML; - is standard output")


def run_server(options: argparse.Namespace) -> int:
    """Judge a server; return the exit status."""
    try:
        return concluded(options, lambda: conformance_server.judged(options, options.only))
    except conformance_server.Unjudged as error:
        refuse("conformance server", error.error)
        return NO_SESSION
    except SwpksError as error:
        if error.rule is STREAM_OUTPUT or error.rule in conformance_server.USAGE_RULES:
            raise
        refuse("conformance server", error)
        return NO_SESSION


def concluded(options: argparse.Namespace, judge: Callable[[], Suite]) -> int:
    """Judge, print and write the reports; return the exit status.

    OperatorError for a file that cannot be read or written, and for patterns without a case.
    """
    from swpks.conformance.case import expected_failures
    from swpks.conformance.report import as_json, as_junit, as_text

    expected = _patterns(options.xfail)
    with ExitStack() as stack:
        # Opened first, so that no result is lost for a wrong path.
        to_json, to_junit = (_opened(stack, path) for path in (options.json, options.junit))
        suite = judge()
        _demand_cases(options, suite, expected)
        suite = suite._replace(findings=expected_failures(suite.findings, expected))
        to_json(as_json(suite))
        to_junit(as_junit(suite))
    if not any(each in STANDARD[1:] for each in (options.json, options.junit)):
        streams.say("\n".join(as_text(suite)))
    return suite.status(require_all=options.require_all)


def _demand_cases(options: argparse.Namespace, suite: Suite, expected: list[str]) -> None:
    """Raise OperatorError for a pattern without a case: it is mistyped, or the case has another name."""
    from swpks.conformance.case import selects

    if not suite.findings:
        raise OperatorError(COMMAND_USAGE, f"--only: no case of this level is {' or '.join(options.only)}")
    if options.only:
        return
    known = [each.id for each in suite.findings]
    for pattern in expected:
        if not any(selects(pattern, each) for each in known):
            near = did_you_mean(near_names(pattern, known, 1))
            message = f"{options.xfail}: no case of this level is {pattern}"
            raise OperatorError(COMMAND_FILE, f"{message}{near and '; ' + near}")


def _patterns(path: Path | None) -> list[str]:
    """Return the patterns of an --xfail file: one a line, `#` begins a comment."""
    if path is None:
        return []
    try:
        text = read_input(path).decode("utf-8")
    except UnicodeDecodeError:
        raise OperatorError(COMMAND_FILE, f"{path}: not UTF-8") from None
    except OSError as error:
        raise OperatorError(COMMAND_FILE, f"{path}: {reason_of(error)}") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _opened(stack: ExitStack, path: Path | None) -> Callable[[bytes], None]:
    """Open a file for a report; return the function that writes to it, without effect if no file is named."""
    if path is None:
        return lambda content: None
    try:
        return stack.enter_context(output(path))
    except OSError as error:
        raise OperatorError(COMMAND_FILE, f"{path}: {reason_of(error)}") from None
