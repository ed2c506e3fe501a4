"""`swpks hmc serve`: the management console's process."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console as console_rules
from hcall_abi.rules import hmc as rules
from hcall_abi.rules import service as service_rules
from swpks.cli import streams
from swpks.hmc.line_client import escaped

if TYPE_CHECKING:
    from swpks.hmc.page.listener import PageListener

SUMMARY = "run a management console: it stores copies, recovers systems, and runs lines"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve`, without --store."""
    add = parser.add_argument
    add(
        "--system",
        dest="systems",  # `system` is that of -m
        action="append",
        default=[],
        metavar="[NAME=]WHERE",
        help="a managed system: its control socket, or https://HOST:PORT; it is stored (repeat for more)",
    )
    add("--name", default="console", metavar="NAME", help="the console's name for people (default: console)")
    add("--ready-fd", type=int, metavar="N", help="write one line of JSON to this descriptor when ready")
    add("--manual-recovery", action="store_true", help="recover a system only by `hmc recover`")
    add("--keep-copies", type=_copies, default=3, metavar="N", help="copies kept of each store (default: 3)")
    add("--page", metavar="HOST:PORT", help="serve a page for browsers; port 0 takes a free one")
    add("--insecure-listen", action="store_true", help="permit --page at an address beyond loopback")
    add("--tls-cert", type=Path, metavar="F", help="for https: this console's certificate")
    add("--tls-key", type=Path, metavar="F", help="its private key")
    add("--tls-ca", type=Path, metavar="F", help="the CA of the systems' certificates")
    levels = ("debug", "info", "warning", "error")
    add("--log-level", choices=levels, default="info", help="least level that is logged (default: info)")
    add("--log-format", choices=("console", "json"), help="default: console on a terminal, json elsewhere")
    add("--debuggable", action="store_true", help="permit core dumps and debuggers")


def place_of(text: str) -> tuple[str | None, str]:
    """Return name and place of ``[NAME=]WHERE``.

    A path is made absolute, for a console in another folder.
    """
    name, found, where = text.partition("=")
    # A path may have `=` in it.  A system's name has no `/`: with a `/` before `=`, the whole text is a path.
    if not found or "/" in name:
        name, where = "", text
    if not where or (found and not name and where != text):
        told = f"{text!r} is not [NAME=]WHERE: write the path of a control socket, or https://HOST:PORT"
        raise OperatorError(rules.HMC_SYSTEM_PLACE, told, advised=True)
    return name or None, where if "://" in where else str(Path(where).absolute())


def run(args: argparse.Namespace, folder: Path) -> int:
    """Run the console until a stop signal; return the exit status."""
    if args.ready_fd is not None and streams.was_closed(args.ready_fd):
        message = f"descriptor {args.ready_fd}: it was closed at start"
        raise OperatorError(service_rules.READY_DESCRIPTOR, message)
    systems = tuple(place_of(each) for each in args.systems)
    files = (args.tls_cert, args.tls_key, args.tls_ca)
    # Mutual TLS needs all three: with two of them, a system could not be checked, or would refuse this
    # console.
    if any(files) and not all(files):
        message = "--tls-cert, --tls-key and --tls-ca go together"
        raise OperatorError(console_rules.CONSOLE_PLACE, message, advised=True)
    # The server is loaded late: the other verbs of `hmc` must not load it.
    from hcall_server import failpoints
    from hcall_server.process.logged import run_logged
    from hcall_server.process.ready import announce, take_descriptor

    if trouble := failpoints.unknown():
        raise OperatorError(service_rules.FAIL_POINT_KNOWN, trouble)
    ready_to = None if args.ready_fd is None else take_descriptor(args.ready_fd)
    encoding = sys.stdout.encoding or "utf-8"

    def announced(ready: dict[str, Any]) -> None:
        announce(_sentence(ready), json.dumps(ready), ready_to, encoding)

    return run_logged(
        lambda: _serve(args, folder, systems, announced),
        "console.crashed",
        level=args.log_level,
        style=args.log_format,
    )


def _serve(
    args: argparse.Namespace,
    folder: Path,
    systems: tuple[tuple[str | None, str], ...],
    announce: Callable[[dict[str, Any]], None],
) -> None:
    from hcall_client.control_transport import TlsFiles
    from hcall_server.console.console import ConsoleSettings
    from hcall_server.process.logged import protect_memory
    from swpks.hmc import process

    protect_memory(debuggable=args.debuggable)
    tls = TlsFiles(args.tls_cert, args.tls_key, args.tls_ca) if args.tls_cert else None
    settings = ConsoleSettings(args.name, args.keep_copies, args.manual_recovery)
    with _opened_page(args) as page:
        process.run(folder, process.ProcessSettings(settings, systems, tls, page), announce)


@contextmanager
def _opened_page(args: argparse.Namespace) -> Iterator[PageListener | None]:
    """Yield the page of --page, which listens already; None without the option."""
    if args.page is None:
        # The operator meant a page.  Without this refusal the console would start without one.
        if args.insecure_listen:
            message = "--insecure-listen is about --page, and there is no --page: add it, or leave both out"
            raise OperatorError(rules.HMC_PAGE_PLACE, message, advised=True)
        yield None
        return
    # Only the page needs jinja2 and the HTTP stack.
    from swpks.hmc.page.listener import PageListener
    from swpks.hmc.page.place import place_of as page_place

    with closing(PageListener(page_place(args.page, insecure=args.insecure_listen))) as page:
        yield page


def _sentence(ready: dict[str, Any]) -> str:
    """Return the ready line for people, and a line for each system that is not connected."""
    systems = ", ".join(ready["systems"]) or "no system yet"
    head = f"swpks {ready['version']} console {ready['console']} is ready at {ready['socket']}: {systems}"
    page = [f"the page is at {ready['page']}"] if "page" in ready else []
    return "\n".join([head, *page, *map(_not_connected, ready["away"])])


def _not_connected(system: dict[str, str]) -> str:
    named = f"{system['name']} at {system['place']}" if system["name"] else f"the system at {system['place']}"
    advice = f"; {system['advice']}" if system["advice"] else ""
    return (
        f"{escaped(f'{named} is not connected: ' + system['trouble'] + advice)}; the console goes on dialling"
    )


def _copies(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of copies from 1 to 9999")
    return int(text)
