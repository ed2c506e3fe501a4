"""`swpks serve`: run a managed system."""

# The order of a start
#
#   1. Descriptors first.  LISTEN_FDS and --ready-fd are numbers from outside.  A file that is opened
#      earlier could get the number of a descriptor that was never passed, such as that of NVRAM.  Then the
#      ready line would go into it.
#   2. Fail-points: an unknown name in the environment is an error, because a test of a crash would test
#      nothing.
#   3. Settings: the file, and over it the command line.  Options that were not given are None, so they cannot
#      overwrite a field of the file with a default.
#   4. Memory protection (no core dumps, no debugger) before the server is imported: it reads keys later.
#   5. The server itself.  Its modules are loaded here and not at the top, so `swpks serve --help` does not
#      load them.
#   6. The ready line, after every socket listens.  At that moment garbage collection is switched on
#      (swpks/__main__.py).

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from hcall_abi.console import is_system_name
from hcall_abi.errors import OperatorError
from hcall_abi.levels import LEVELS
from hcall_abi.rules import service as rules
from hcall_server import failpoints
from hcall_server.data_channel.sockets import passed_sockets
from hcall_server.machine import logs
from hcall_server.process.logged import protect_memory, run_logged
from hcall_server.process.ready import announce, take_descriptor
from hcall_server.service.settings import FIRST_NAME, PartitionSettings, Settings, parse_partition
from swpks.cli import streams
from swpks.cli.nvram_options import add_nvram_options, nvram_fields
from swpks.cli.where import state_folder, state_path


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `serve` to the command's subparsers; `run` of this module carries it out."""
    summary = "serve a managed system: a socket for each partition, and one for the console"
    parser: argparse.ArgumentParser = subparsers.add_parser("serve", help=summary, description=summary)
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "--state",
        type=state_path,
        default=state_folder(),
        metavar="DIR",
        help="the state folder; it is made if it is missing (default: SWPKS_STATE)",
    )
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="a TOML file with the fields of these options, and more",
    )
    add("--name", metavar="SYS", help="name of the system (default: the stored one, at first the folder's)")
    add(
        "--tpm",
        action="append",
        default=[],
        metavar="KIND",
        help="embedded, swtpm:PATH or tcti:STRING (default: the stored one, at first embedded); at most two",
    )
    add("--firmware", choices=list(LEVELS), help="firmware level (default: the stored one, at first FW1110)")
    add(
        "--partition",
        action="append",
        default=[],
        metavar="NAME:KBYTES[,ATTRIBUTE=VALUE...]",
        help="a partition that has to exist, and the size of its keystore; it is stored (repeat for more); "
        "a new one without a size has its keystore off",
    )
    add(
        "--listen",
        action="append",
        default=[],
        metavar="tcp:HOST:PORT",
        help="listen on TCP too; clients need DIR/access-keys/NAME.key (repeat for more)",
    )
    _add_channels(parser)
    _add_nvram(parser)
    _add_ways(parser)
    return parser


def _add_channels(parser: argparse.ArgumentParser) -> None:
    """Add the options of the control channel over TCP, of the metrics and of the mobility channel."""
    add = parser.add_argument
    add("--control", metavar="tcp:HOST:PORT", help="serve the console on TCP too, by mutual TLS")
    add("--tls-cert", metavar="FILE", help="with --control: this server's certificate, in PEM")
    add("--tls-key", metavar="FILE", help="with --control: its private key, of mode 0600")
    add("--tls-ca", metavar="FILE", help="with --control: the authority of the console's certificates")
    add("--metrics", metavar="tcp:HOST:PORT", help="serve GET /metrics for Prometheus here, on loopback")
    add(
        "--insecure-listen",
        action="store_true",
        help="permit --metrics at another address: every host that reaches it can read them",
    )
    add(
        "--mobility",
        metavar="unix|tcp:HOST:PORT",
        help="listen for partitions of other systems here (default: DIR/run/mobility.sock)",
    )


def _add_nvram(parser: argparse.ArgumentParser) -> None:
    """Add the options of NVRAM on etcd."""
    add = parser.add_argument
    add_nvram_options(add)
    add(
        "--nvram-lease",
        type=int,
        metavar="SECONDS",
        help="silence of the owner after which a standby takes over (default: 6 s)",
    )
    add(
        "--standby",
        action="store_true",
        help="wait until the present owner of NVRAM on etcd has ended, then serve",
    )


def _add_ways(parser: argparse.ArgumentParser) -> None:
    """Add the options of the server itself."""
    add = parser.add_argument
    add("--ready-fd", type=int, metavar="N", help="write one line of JSON to this descriptor when ready")
    add("--flush-delay", type=float, metavar="MS", help="wait of a change for others (default: 50 ms)")
    add(
        "--confirm-wait", type=float, metavar="MS", help="longest wait of CONFIRM for a flush (default: 0 ms)"
    )
    add(
        "--copy-interval",
        type=float,
        metavar="SECONDS",
        help="time between two requests to the console for copies of changed stores (default: 60 s)",
    )
    add("--relaxed-wrapping", action="store_true", help="do not enforce that wrap buffers start at a page")
    add("--relaxed-memory", action="store_true", help="do not enforce alignment and page crossing of buffers")
    add(
        "--strict-updates",
        action="store_true",
        help="refuse signed updates that real firmware may refuse (signed attributes, key identifiers)",
    )
    add(
        "--log-level",
        choices=list(logs.LEVELS),
        default="info",
        help="least level that is logged (default: info)",
    )
    add("--log-calls", action="store_true", help="log each h-call with registers and answer, without secrets")
    add("--trace", metavar="FILE", help="write all frames to this new pcapng file, without secrets")
    add("--trace-limit", type=float, metavar="MB", help="a trace ends at this size (default: 64 MB)")
    add("--trace-secrets", action="store_true", help="with --trace: blank no passwords and no object data")
    add("--log-format", choices=logs.FORMATS, help="default: console on a terminal, json elsewhere")
    add(
        "--debuggable",
        action="store_true",
        help="permit core dumps and debuggers, which can read every key and object",
    )
    add(
        "--without-console",
        action="store_true",
        help="start partitions without asking the console, also those that may run on another system",
    )
    add(
        "--accept-older",
        action="store_true",
        help="start even if NVRAM is older than the last confirmed change, or its high-water mark is lost",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until a stop signal."""
    if options.state is None:
        raise OperatorError(rules.COMMAND_USAGE, "name the state folder: --state DIR (or SWPKS_STATE)")
    passed = passed_sockets(os.environ, os.getpid())
    ready_to = None if options.ready_fd is None else _ready_descriptor(options.ready_fd, passed)
    if trouble := failpoints.unknown():
        raise OperatorError(rules.FAIL_POINT_KNOWN, trouble)

    def serve() -> None:
        settings = _settings(options)
        protect_memory(debuggable=settings.debuggable)
        from hcall_server.service import server

        server.run(
            options.state,
            settings,
            lambda ready: _begin(ready, ready_to, _unsized(settings)),
            passed,
            accept_older=options.accept_older,
            standby=options.standby,
        )

    return run_logged(serve, "server.crashed", level=options.log_level, style=options.log_format)


def _ready_descriptor(number: int, passed: list[tuple[str, socket.socket]]) -> int:
    if streams.was_closed(number):
        raise OperatorError(rules.READY_DESCRIPTOR, f"descriptor {number}: it was closed at start")
    if any(number == each.fileno() for _, each in passed):
        message = f"descriptor {number}: it is a listening socket of LISTEN_FDS; pass another one"
        raise OperatorError(rules.READY_DESCRIPTOR, message)
    return take_descriptor(number)


def _settings(options: argparse.Namespace) -> Settings:
    """Return the settings of the command line, over those of the configuration file if there is one."""
    settings = Settings()
    if options.config:
        from hcall_server.service.config import read_config

        settings = read_config(options.config)
    given = [parse_partition(text) for text in options.partition]
    changes: dict[str, Any] = {"partition": _merged(settings.partition, given)}
    changes["first_name"] = _first_name(options.state)
    changes |= {field: value for field, value in _given(options).items() if value is not None}
    if options.listen:
        # The listeners of the command line do not replace those of the file: a server can have all of them.
        changes["listen"] = (*settings.listen, *options.listen)
    changes |= {field: True for field in _SWITCHES if getattr(options, field)}
    changes |= {field: False for option, field in _RELAXED.items() if getattr(options, option)}
    return dataclasses.replace(settings, **changes)


_SWITCHES = (
    "debuggable", "insecure_listen", "without_console", "log_calls", "trace_secrets", "strict_updates"
)  # fmt: skip
"""Options without a value that turn the setting of the same name on."""
_RELAXED = {"relaxed_memory": "strict_memory", "relaxed_wrapping": "strict_wrapping"}
"""Options without a value that turn a setting off."""


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that replace a field of the settings; None for an option that was not given."""
    return {
        "name": options.name,
        "tpm": tuple(options.tpm) or None,
        "firmware": options.firmware,
        "control": options.control,
        "tls_cert": options.tls_cert,
        "tls_key": options.tls_key,
        "tls_ca": options.tls_ca,
        "metrics": options.metrics,
        **nvram_fields(options),
        "nvram_lease_s": options.nvram_lease,
        "mobility": options.mobility,
        "flush_delay_ms": options.flush_delay,
        "confirm_wait_ms": options.confirm_wait,
        "copy_interval_s": options.copy_interval,
        "trace": options.trace,
        "trace_limit_mb": options.trace_limit,
    }


def _first_name(folder: Path) -> str:
    """Return the name of a new system: the name of its state folder if that is a permitted name."""
    name = folder.absolute().name
    return name if is_system_name(name) else FIRST_NAME


def _merged(
    filed: tuple[PartitionSettings, ...], given: list[PartitionSettings]
) -> tuple[PartitionSettings, ...]:
    """Return the partitions of the file, overridden by those of the command line."""
    overrides = {each.name: each for each in given}
    known = {each.name for each in filed}
    kept = [each.overridden(overrides[each.name]) if each.name in overrides else each for each in filed]
    return (*kept, *(each for each in given if each.name not in known))


def _unsized(settings: Settings) -> list[str]:
    """Return the partitions of the settings that are named without a size."""
    return [each.name for each in settings.partition if "keystore_kbytes" not in each.attributes]


def _begin(ready: dict[str, Any], descriptor: int | None, unsized: list[str]) -> None:
    """End the start: freeze the present objects, turn the garbage collector on, announce the server."""
    if not gc.isenabled():  # it is on if another program, such as a test, runs the server
        gc.freeze()
        gc.enable()
    _announce(ready, descriptor, unsized)


def _announce(ready: dict[str, Any], descriptor: int | None, unsized: list[str]) -> None:
    """Announce that every socket listens: a line for people, and one of JSON for programs."""
    announce(sentence(ready, unsized), json.dumps(ready), descriptor, sys.stdout.encoding or "utf-8")


def sentence(ready: dict[str, Any], unsized: list[str]) -> str:
    """Return the ready line for people.

    A partition that was named without a size, and has no keystore, is probably an oversight.
    """
    sockets, running = ready["sockets"], ready["running"]
    places = [f"{name} at {path}{_power(ready, name)}" for name, path in sockets.items()]
    places += [f"{name} on tcp" for name in running if name not in sockets]
    tcp = "".join(f"; tcp {address}" for address in ready["tcp"])
    tcp += f"; console at https://{ready['control_tcp']}" if ready["control_tcp"] else ""
    tcp += f"; metrics at http://{ready['metrics']}/metrics" if ready["metrics"] else ""
    refused = "".join(f"; {name} is REFUSED" for name in ready["refused"])
    off = [name for name in ready["keystore_off"] if name in unsized]
    refused += "".join(f"; {name} has no keystore: --partition {name}:KBYTES gives it one" for name in off)
    start = f"swpks {ready['version']} ({ready['firmware']}) is ready"
    state = "" if ready["state"] == "Operating" else f"; the system is in the state {ready['state']}"
    state += f"; {_standing(ready['unserved'])}" if ready["unserved"] else ""
    return f"{start}: {', '.join(places) or 'no partition runs'}{tcp}{refused}{state}"


def _power(ready: dict[str, Any], name: str) -> str:
    """Return a note for the ready line about a partition that does not answer, "" if it does.

    Such a partition has a socket only if a service manager has passed that socket.
    """
    if name in ready["running"]:
        return ""
    return " (not served)" if name in ready["unserved"] else " (powered off)"


def _standing(unserved: dict[str, dict[str, Any]]) -> str:
    """Return why partitions are not served, and the remedies; one clause for each reason."""
    from hcall_abi.standstills import KnownConsole, standstill  # most starts serve every partition

    reasons: dict[tuple[str, str], list[str]] = {}
    for name, facts in unserved.items():
        console = facts["console"] and KnownConsole(**facts["console"])
        if found := standstill(facts["custody"], facts["mode"], name, console):
            reasons.setdefault((found.words, found.remedy), []).append(name)
    return "; ".join(
        f"{', '.join(names)}{' ' if len(names) == 1 else ': each '}{words}: {remedy}"
        for (words, remedy), names in reasons.items()
    )
