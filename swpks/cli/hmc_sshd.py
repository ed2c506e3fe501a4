"""`swpks hmc sshd`: the SSH door of a management console."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as service_rules
from swpks.cli import streams

SUMMARY = "open the console to SSH: a restricted shell with its commands, by keys or by passwords"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sshd`, without --store."""
    add = parser.add_argument
    add(
        "--listen",
        required=True,
        metavar="HOST:PORT",
        help="the address of the door; port 0 takes a free one",
    )
    add(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="take passwords: lines USER:PASSWORD, mode 0600 (needs swpks[ssh]; without it, Debian's sshd "
        "takes the keys in STORE/ssh/authorized_keys)",
    )
    add("--user", metavar="USER", help="run commands as this user; needed if root starts the door")
    add("--insecure-listen", action="store_true", help="permit an address beyond loopback")
    add("--ready-fd", type=int, metavar="N", help="write one line of JSON to this descriptor when ready")
    levels = ("debug", "info", "warning", "error")
    add("--log-level", choices=levels, default="info", help="least level that is logged (default: info)")
    add("--log-format", choices=("console", "json"), help="default: console on a terminal, json elsewhere")


def run(args: argparse.Namespace, folder: Path) -> int:
    """Run the door until a stop signal; return the exit status."""
    if args.ready_fd is not None and streams.was_closed(args.ready_fd):
        message = f"descriptor {args.ready_fd}: it was closed at start"
        raise OperatorError(service_rules.READY_DESCRIPTOR, message)
    # The door is loaded late: the other verbs of `hmc` must not load it.
    from hcall_server.process.logged import protect_memory, run_logged
    from hcall_server.process.ready import announce, take_descriptor
    from swpks.hmc.sshd.door import DoorSettings
    from swpks.hmc.sshd.door import run as run_door

    ready_to = None if args.ready_fd is None else take_descriptor(args.ready_fd)
    settings = DoorSettings(folder, args.listen, args.password_file, args.user, args.insecure_listen)
    encoding = sys.stdout.encoding or "utf-8"

    def announced(ready: dict[str, Any]) -> None:
        announce(_sentence(ready), json.dumps(ready), ready_to, encoding)

    def serve() -> None:
        protect_memory(debuggable=False)
        run_door(settings, announced)

    return run_logged(serve, "door.crashed", level=args.log_level, style=args.log_format)


def _sentence(ready: dict[str, Any]) -> str:
    """Return the ready line for people."""
    host = f"[{ready['host']}]" if ":" in ready["host"] else ready["host"]
    place = f"{host}:{ready['port']}"
    return (
        f"swpks {ready['version']} SSH door of {ready['store']} is ready at {place}, as {ready['user']}, "
        f"with {ready['login']}; host key {ready['fingerprint']}"
    )
