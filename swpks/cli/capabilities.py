"""`swpks capabilities`: the abilities of this swpks, for programs that adapt to them (spec/capabilities.md).

    swpks capabilities --json

It needs no server and no state.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from swpks.cli import streams


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `capabilities` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "capabilities",
        help="print the versions, levels, calls, formats and options of this swpks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the capabilities, as JSON or a line for each key."""
    found = capabilities()
    streams.say(json.dumps(found, indent=2) if options.json else "\n".join(_lines(found, "")))
    return 0


def capabilities() -> dict[str, Any]:
    """Return the value of every key of spec/capabilities.md; later releases keep the names and meanings."""
    from hcall_abi.calls import CALLS
    from hcall_abi.console import ATTRIBUTES
    from hcall_abi.levels import DEFAULT_LEVEL, LEVELS
    from hcall_server import __version__
    from swpks.hmc.names import LINES

    return {
        "type": "swpks",
        "version": __version__,
        "firmware_default": DEFAULT_LEVEL.name,
        "firmware_levels": {name: _names(level.calls) for name, level in LEVELS.items()},
        "calls": {opcode.name: f"0x{opcode:X}" for opcode in CALLS},
        "formats": _formats(),
        "options": _options(),
        "settings": _settings(),
        "attributes": list(ATTRIBUTES),
        "lines": list(LINES),
        "back_ends": _back_ends(),
    }


def _names(calls: frozenset[Any]) -> list[str]:
    return [each.name for each in sorted(calls)]


def _formats() -> dict[str, dict[str, Any]]:
    """Return for each format the versions that this release reads, and the version that it writes."""
    from hcall_abi.frames import VERSION
    from hcall_server.console.database import READ_LEVELS, STORE_LEVEL
    from hcall_server.console.profile_format import PROFILE_LEVEL
    from hcall_server.mobility.messages import VERSION as MOBILITY
    from hcall_server.sealing.copies import READ_COPIES
    from hcall_server.sealing.copy_formats import COPY_LEVEL
    from hcall_server.sealing.formats import ENVELOPE_LEVEL
    from hcall_server.sealing.level_1 import LEVEL as OLD_LEVEL
    from hcall_server.sealing.snapshot_formats import SNAPSHOT_LEVEL
    from hcall_server.sealing.snapshots import READ_SNAPSHOTS
    from hcall_server.wrapping.formats import LEVEL as WRAPPED

    one = {"wire": VERSION, "wrapped": WRAPPED, "profile_backup": PROFILE_LEVEL, "mobility": MOBILITY}
    return {
        "sealed": {"read": [OLD_LEVEL, ENVELOPE_LEVEL], "written": ENVELOPE_LEVEL},
        "copy": {"read": list(READ_COPIES), "written": COPY_LEVEL},
        "snapshot": {"read": list(READ_SNAPSHOTS), "written": SNAPSHOT_LEVEL},
        "console_store": {"read": list(READ_LEVELS), "written": STORE_LEVEL},
    } | {name: {"read": [level], "written": level} for name, level in one.items()}


def _options() -> dict[str, list[str]]:
    """Return the long and short options of each command; a key is a command such as "swpks hmc power"."""
    from swpks.cli.main import whole_parser
    from swpks.cli.words import tree

    return {
        " ".join(command.path): [name for option in command.options for name in option.names]
        for command in tree(whole_parser()).all()
    }


def _settings() -> list[str]:
    """Return the fields of the configuration file of `swpks serve`."""
    from hcall_server.machine.limits import Limits
    from hcall_server.service.config import PARTITION_FIELDS, SETTINGS_FIELDS

    limits = [f"limits.{each.name}" for each in dataclasses.fields(Limits)]
    # These are tables of the TOML file, not values: their fields are listed after the name of the table.
    nested = {"limits", "partition"}
    partition = [f"partition.{name}" for name in sorted(PARTITION_FIELDS)]
    return [*sorted(SETTINGS_FIELDS - nested), *limits, *partition]


def _back_ends() -> dict[str, dict[str, bool]]:
    """Return the back ends of each interface; the value says whether this installation can use them."""
    from hcall_server.components.tpm.kinds import KINDS

    # The module is not imported: it needs a C library, so its import may fail.
    extra = {"tcti": find_spec("tpm2_pytss") is not None}
    return {
        "tpm": {kind: extra.get(kind, True) for kind in KINDS},
        "nvram": {"sqlite": True},
        "data_channel": {"unix": True, "tcp": True},
        "control_channel": {"unix": True, "tls": True},
        "metrics": {"tcp": True},
        "mobility_channel": {"unix": True, "tcp": True},
    }


def _lines(found: Mapping[str, Any], before: str) -> Iterator[str]:
    """Yield a line for each value, such as "formats.sealed.written: 2"."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{before}{name}.")
        else:
            yield f"{before}{name}: {_text(value)}".rstrip()


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
