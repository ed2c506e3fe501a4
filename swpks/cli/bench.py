"""`swpks bench`: the main figures of a server.

    swpks bench                                     starts a server, and measures it
    swpks bench --socket state/run/lpar1.sock       measures a partition that runs
    swpks bench --json figures.json --plot figures.svg

Exit status: 0 done; 1 the partition refuses; 2 a usage error; 3 the server cannot be
reached, or ended the session; 130 an interrupt.
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hcall_abi.errors import SwpksError
from hcall_abi.rules.service import STREAM_OUTPUT
from hcall_client.errors import HcallError, OpenRefused
from hcall_server import __version__
from swpks.cli import streams
from swpks.cli.durations import bounded_seconds
from swpks.cli.files import STANDARD
from swpks.cli.inputs import PASSWORD_NEEDED, EmptyInput, content_of
from swpks.cli.lpar_reach import refused_open, unreached
from swpks.cli.lpar_sought import Sought
from swpks.cli.refusals import refuse
from swpks.cli.report_files import FileFailed, opened_report
from swpks.cli.where import socket_path

REFUSED, USAGE, UNREACHABLE = 1, 2, 3
TIMEOUT = 10.0
"""Seconds that an answer may take."""
DEFAULT_SECONDS, MOST_SECONDS = 2.0, 600.0


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `bench` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        help="measure the main figures of a server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "--socket",
        type=socket_path,
        metavar="PATH",
        help="a partition's Unix socket (default: a server of its own)",
    )
    add(
        "--password-file", type=Path, metavar="F", help="the password of the operating system: all bytes of F"
    )
    add("--seconds", type=_seconds, default=DEFAULT_SECONDS, metavar="S", help="time for each figure (2)")
    add("--json", type=Path, metavar="F", help="write JSON; - is standard output, without the table")
    add(
        "--plot", type=Path, metavar="F", help="write an SVG picture; - is standard output, without the table"
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure, print and write the figures; returns the exit status, errors go to standard error."""
    from swpks.bench.tenant import BenchRefused

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so the objects are removed at SIGTERM too
    try:
        return _run(options)
    except (BenchRefused, HcallError) as error:
        return _fail(error, REFUSED)
    except (FileFailed, EmptyInput) as error:
        return _fail(error, USAGE)
    except OpenRefused as error:
        return _fail(refused_open(_sought(options), error, numbered=False), UNREACHABLE)
    except OSError as error:  # first: the error of a place without a server is a SwpksError too
        return _fail(unreached(_sought(options), error), UNREACHABLE)
    except SwpksError as error:
        if error.rule is STREAM_OUTPUT:
            raise  # the server has answered; the command's own output failed
        return _fail(error, UNREACHABLE)


def _sought(options: argparse.Namespace) -> Sought:
    path = options.socket or Path("the server's own socket")
    return Sought(path, path.stem, TIMEOUT)


def _run(options: argparse.Namespace) -> int:
    # These modules are loaded late: `swpks bench --help` needs neither the clients nor a server.
    from swpks.bench.report import as_json, as_svg, table
    from swpks.bench.run import own_server, run_bench
    from swpks.cli.wrong_socket import check_data_socket

    password = _password(options.password_file)
    with ExitStack() as stack:
        # The files are opened before the run: if a path is wrong, the results of a long run must not be lost.
        to_json, to_plot = (opened_report(stack, path) for path in (options.json, options.plot))
        if options.socket:
            check_data_socket(options.socket, TIMEOUT)
        path = options.socket or stack.enter_context(own_server())
        disposable = options.socket is None
        figures = run_bench(path, password, options.seconds, TIMEOUT, _show_case, disposable=disposable)
        _show_case("")
        what = str(options.socket) if options.socket else "a server of its own"
        about: dict[str, str | float] = {"swpks": __version__, "socket": what, "seconds": options.seconds}
        to_json(lambda: as_json(figures, about))
        to_plot(lambda: as_svg(figures, f"swpks {__version__}, {what}; clients in Python included"))
    if not any(each in STANDARD[1:] for each in (options.json, options.plot)):
        streams.say(table(figures))
    return 0


def _password(path: Path | None) -> bytes:
    try:
        return b"" if path is None else content_of(path, PASSWORD_NEEDED)
    except OSError as error:
        raise FileFailed(path, error) from None


def _show_case(title: str) -> None:
    """Print the title of the case that is measured now; on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{title}", end="", file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    return bounded_seconds(text, MOST_SECONDS, "time")


def _fail(error: SwpksError, status: int) -> int:
    _show_case("")
    refuse("bench", error)
    return status
