"""`swpks conformance`: checks any server, or any client, of the data channel against the contract.

    swpks conformance server --connect unix:lab/run/lpar1.sock
    swpks conformance server --connect unix:lab/run/lpar1.sock --ipl 'swpks hmc --state lab ipl lpar1'
    swpks conformance server --connect tcp:127.0.0.1:4000 --access-key-file lpar1.key --only 'wrapping.*'
    swpks conformance client --exec './my-client' --only 'proof.*' --junit report.xml

Each case has an id.  A case that fails is printed with its rule, its page and its dialogue.
spec/conformance.md describes the cases, and the line protocol of a client.

Exit status: 0 no case failed; 1 a case failed; 2 a usage error, a command that can't be run, or a
partition that can't be judged; 3 no session with the server, or no start of the client; 130 an interrupt.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hcall_abi.errors import OperatorError
from hcall_abi.rules.service import COMMAND_FILE, COMMAND_USAGE
from swpks.cli import conformance_server, streams
from swpks.cli.files import STANDARD, read_input
from swpks.cli.refusals import refuse
from swpks.cli.report_files import Content, FileFailed, opened_report

if TYPE_CHECKING:
    from swpks.conformance.case import Finding
    from swpks.conformance.report import Suite

NOT_RUN = 2
NO_SESSION = 3
_COMMENT = "#"


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `conformance` to the command's subparsers."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "conformance",
        help="judge a server or a client of the data channel by the contract",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_server(verbs)
    _add_client(verbs)
    return parser


def _add_server(verbs: Any) -> None:
    server = verbs.add_parser("server", help="judge a server, over a socket of a partition")
    conformance_server.add_options(server)
    add_shared_options(server)
    server.set_defaults(run=run_server)


def _add_client(verbs: Any) -> None:
    client = verbs.add_parser("client", help="judge a client, by its line protocol and a scripted server")
    client.add_argument(
        "--exec",
        dest="command_line",
        metavar="COMMAND",
        required=True,
        help="the client's adapter; the shell runs this command",
    )
    add_shared_options(client)
    client.set_defaults(run=run_client)


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both `conformance server` and `conformance client` have."""
    add = parser.add_argument
    add(
        "--only",
        action="append",
        metavar="PATTERN",
        help="only these cases, or a chapter; may be repeated",
    )
    add("--xfail", type=Path, metavar="FILE", help="patterns of cases that are expected to fail, one a line")
    add("--require-all", action="store_true", help="a case that can't be run counts as failed")
    add(
        "--json",
        type=Path,
        metavar="F",
        help="write JSON; - is standard output, without the text",
    )
    add("--junit", type=Path, metavar="F", help="write JUnit's XML; - as with --json")


def run_server(options: argparse.Namespace) -> int:
    """Judge a server; returns the exit status, errors go to standard error."""
    _demand_one_report_on_stdout(options)
    try:
        server = conformance_server.judged(options)
        chosen = choice_of(options, server.cases)
        findings = server.run.findings(chosen.cases)
        status = report_run(options, chosen.expected, findings, lambda: server.subject)
        if server.run.unusable:
            # The error is raised after the report: the report has the cases that ran before the IPL.
            raise server.run.unusable
        return status
    except conformance_server.NoSession as reason:
        refuse("conformance server", reason.error)
        return NO_SESSION


def run_client(options: argparse.Namespace) -> int:
    """Judge a client; returns the exit status, errors go to standard error."""
    from swpks.conformance.client.cases import CLIENT_CASES
    from swpks.conformance.client.endpoint import ClientNotStarted, CommandNotRun, ProcessEndpoint
    from swpks.conformance.client.run import ClientRun

    _demand_one_report_on_stdout(options)
    chosen = choice_of(options, CLIENT_CASES)
    run = ClientRun(lambda: ProcessEndpoint(options.command_line))
    try:
        # The name of the client is known only after its start.
        return report_run(options, chosen.expected, run.findings(chosen.cases), lambda: _subject(run.name))
    except ClientNotStarted as error:
        refuse("conformance client", error)
        return NOT_RUN if isinstance(error, CommandNotRun) else NO_SESSION


def _demand_one_report_on_stdout(options: argparse.Namespace) -> None:
    if options.json in STANDARD[1:] and options.junit in STANDARD[1:]:
        raise OperatorError(COMMAND_USAGE, "--json and --junit: only one of them can be standard output")


def _subject(name: str) -> str:
    from hcall_client.errors import printable

    return f"client {printable(name)}"


class Choosable(Protocol):
    """The part of a conformance case that --only and --xfail need."""

    @property
    def id(self) -> str:
        """The id of the case."""

    def chosen_by(self, pattern: str) -> bool:
        """Return whether a pattern selects the case."""


class Choice(NamedTuple):
    """The cases that run, and the patterns for cases that are expected to fail."""

    cases: Sequence[Any]
    expected: Sequence[str]


def choice_of(options: argparse.Namespace, cases: Sequence[Choosable]) -> Choice:
    """Return the cases of --only and the patterns of --xfail; OperatorError if a pattern fits no case."""
    only: list[str] = options.only or ["*"]
    expected = [] if options.xfail is None else list(_patterns(_text(options.xfail)))
    for pattern in only:
        if not any(each.chosen_by(pattern) for each in cases):
            raise OperatorError(
                COMMAND_USAGE, f"--only {pattern}: no case has such an id{_near(pattern, cases)}"
            )
    for pattern in expected:
        if not any(each.chosen_by(pattern) for each in cases):
            message = f"--xfail {options.xfail}: no case has the id {pattern}{_near(pattern, cases)}"
            raise OperatorError(COMMAND_USAGE, message)
    return Choice([each for each in cases if any(map(each.chosen_by, only))], expected)


def report_run(
    options: argparse.Namespace,
    expected: Iterable[str],
    findings: Iterator[Finding],
    subject: Callable[[], str],
) -> int:
    """Run all cases, print and write the report, and return the exit status.

    If a file can't be written, raises OperatorError after all other forms of the report were written.
    """
    from swpks.conformance.case import expected_failures
    from swpks.conformance.report import Suite, as_json, as_junit, as_text

    with ExitStack() as stack:
        # The files are opened before the run: a wrong path must not lose the report of a long run.
        to_json, to_junit = (opened_report(stack, path) for path in (options.json, options.junit))
        found = expected_failures(findings, expected)
        suite = Suite(subject(), found)
        forms = [(options.json, to_json, as_json), (options.junit, to_junit, as_junit)]
        # Standard output is written last: if its reader has left, the command ends there.
        forms.sort(key=lambda form: form[0] in STANDARD[1:])
        failures = [error for _, write, form in forms if (error := _failure_of(write, form, suite))]
    if not any(path in STANDARD[1:] for path in (options.json, options.junit)):
        streams.say("\n".join(as_text(suite)))
    for error in failures[:-1]:
        refuse(f"conformance {options.verb}", error)
    if failures:
        raise failures[-1]
    return suite.status(require_all=options.require_all)


def _failure_of(
    write: Callable[[Content], None], form: Callable[[Suite], bytes], suite: Suite
) -> OperatorError | None:
    """Write one form of the report, and return the error if that fails.

    The error is not raised, so that the other forms of a long run are not lost.
    """
    try:
        write(lambda: form(suite))
    except OperatorError as error:
        return error
    return None


def _text(path: Path) -> str:
    try:
        return read_input(path).decode()
    except OSError as error:
        raise FileFailed(path, error) from None
    except UnicodeDecodeError:
        raise OperatorError(COMMAND_FILE, f"{path}: this is no text in UTF-8") from None


def _patterns(text: str) -> Iterator[str]:
    """Yield the patterns of a file: one a line, without comments and empty lines."""
    for line in text.splitlines():
        if pattern := line.partition(_COMMENT)[0].strip():
            yield pattern


def _near(pattern: str, cases: Sequence[Choosable]) -> str:
    from swpks.cli.parser import nearest
    from swpks.conformance.case import chapter_of

    known = {chapter_of(each.id) for each in cases} | {each.id for each in cases}
    return nearest(pattern, {each: each for each in known})
