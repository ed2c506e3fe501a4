"""`swpks conformance server`: the place of the judged server, and the run of its cases."""

from __future__ import annotations

import argparse
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.addresses import is_host
from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.levels import LEVELS
from hcall_abi.rules.service import COMMAND_USAGE
from hcall_client.errors import OpenRefused, printable
from hcall_client.other_ends import OtherEnd, end_at
from hcall_client.where import NotLocated, parse_address
from swpks.cli.durations import bounded_seconds
from swpks.cli.lpar_reach import refused_open, unreached
from swpks.cli.lpar_sought import Sought
from swpks.cli.lpar_target import read_access_key
from swpks.cli.wrong_socket import SILENCE, wrong_socket

if TYPE_CHECKING:
    from swpks.conformance.case import ConformanceCase
    from swpks.conformance.server.connection import ServerPlace
    from swpks.conformance.server.judged import Facts, Judged
    from swpks.conformance.server.plan import Run

PATIENCE = 5.0
"""Seconds that one answer may take."""
IPL_SECONDS = 600.0
"""Seconds that the command of --ipl may take: a partition of real hardware needs minutes for its IPL."""
LONGEST_IPL = 86400.0
LARGEST_PARTITION = 0xFFFE


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only `swpks conformance server` has."""
    add = parser.add_argument
    add("--connect", required=True, metavar="unix:PATH|tcp:HOST:PORT", help="the socket of the partition")
    add("--access-key-file", type=Path, metavar="F", help="the access key in hexadecimal; TCP needs it")
    add(
        "--partition", type=_partition, default=0, metavar="N", help="partition id, for a listener of several"
    )
    add(
        "--ipl",
        metavar="COMMAND",
        help="a shell command that restarts the partition, and returns when it is up",
    )
    add(
        "--ipl-timeout",
        type=partial(bounded_seconds, most=LONGEST_IPL, name="time for an IPL"),
        default=IPL_SECONDS,
        metavar="S",
        help="seconds after which the command of --ipl is ended (default: %(default)g)",
    )
    add("--level", choices=LEVELS, metavar="L", help="firmware level (default: the one that OPENED names)")


def _partition(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > LARGEST_PARTITION:
        raise argparse.ArgumentTypeError(f"{text!r} is no partition id: a number to {LARGEST_PARTITION}")
    return int(text)


class JudgedServer(NamedTuple):
    """A judged server with an open session.

    It has the server's name in the report, the cases of the server's level, and their run.
    """

    subject: str
    cases: list[ConformanceCase[Judged]]
    run: Run


class NoSession(Exception):
    """The server has opened no session; `error` is the reason, for standard error."""

    def __init__(self, error: SwpksError) -> None:
        super().__init__(str(error))
        self.error = error


def judged(options: argparse.Namespace) -> JudgedServer:
    """Open a session with the server that the options name, and prepare the run of its cases.

    Raises the errors of `place_of`, OperatorError for a partition that cannot be judged, and NoSession.
    """
    from swpks.conformance.server.chapters import all_cases
    from swpks.conformance.server.judged import Judged
    from swpks.conformance.server.plan import Run, ipl_by

    place = place_of(options)
    facts = _facts(place, options)
    # A path may have bytes that are no UTF-8, but the report has to be UTF-8.
    subject = f"{facts.hello.name!r} at {printable(options.connect)}, level {facts.level.name}"
    ipl = ipl_by(options.ipl, options.ipl_timeout) if options.ipl else None
    return JudgedServer(subject, all_cases(facts), Run(Judged(place, facts), ipl))


def _facts(place: ServerPlace, options: argparse.Namespace) -> Facts:
    from swpks.conformance.server.plan import facts_of

    try:
        return facts_of(place, LEVELS.get(options.level or ""))
    except OpenRefused as error:
        sought = _sought(place)._replace(number=place.partition, key_file=options.access_key_file)
        raise NoSession(refused_open(sought, error, numbered=bool(options.partition))) from None
    except PeerError as error:
        _check_kind(place)
        raise NoSession(error) from None
    except OSError as error:
        _check_kind(place)
        raise NoSession(unreached(_sought(place), error)) from None


def _check_kind(place: ServerPlace) -> None:
    """Raise OperatorError if a session has failed because the path is no socket of a partition.

    The caller calls it only after a failure, because it opens a connection of its own.  A server with room
    for one connection would then refuse the session.
    """
    if not isinstance(place.address, tuple):
        path = Path(place.address)
        found = end_at(path, min(SILENCE, place.patience))
        # CLOSING does not show another kind. A server of the data channel may close a connection without an
        # answer, for instance if it has no place for a session.
        if found not in (None, OtherEnd.DATA, OtherEnd.OTHER, OtherEnd.CLOSING):
            raise wrong_socket(path, found, OtherEnd.DATA, option="--connect unix:")


def place_of(options: argparse.Namespace) -> ServerPlace:
    """Return the place that the options name; OperatorError for a wrong address or a wrong key file."""
    from swpks.conformance.server.connection import ServerPlace

    try:
        address = parse_address(options.connect)
    except NotLocated:
        address = ""
    if not address or (isinstance(address, tuple) and not is_host(address[0])):
        near = f"; did you mean unix:{options.connect}?" if Path(options.connect).is_socket() else ""
        message = f"--connect: {options.connect[:80]!r} is neither unix:PATH nor tcp:HOST:PORT{near}"
        raise OperatorError(COMMAND_USAGE, message)
    key = read_access_key(options.access_key_file) if options.access_key_file else None
    if key is None and isinstance(address, tuple):
        message = "--connect tcp: needs the partition's key: --access-key-file DIR/access-keys/NAME.key"
        raise OperatorError(COMMAND_USAGE, message)
    return ServerPlace(
        address if isinstance(address, tuple) else str(address), key, options.partition, PATIENCE
    )


def _sought(place: ServerPlace) -> Sought:
    address = place.address
    target = address if isinstance(address, tuple) else Path(address)
    name = target.stem if isinstance(target, Path) else "the partition"
    return Sought(target, name, place.patience)
