"""A server's settings from a TOML file; the command line adds to them and overrides them.

The fields are those of the classes in `hcall_server.service.settings`.  An unknown field, a wrong type or a
value out of range raises OperatorError.  The error names the place in the file.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hcall_abi.console import ATTRIBUTES
from hcall_abi.errors import OperatorError
from hcall_abi.near import did_you_mean, near_names
from hcall_abi.rules import service as rules
from hcall_server.machine.limits import Limits
from hcall_server.service.settings import PartitionSettings, Settings, located

_TABLE = msgspec.defstruct(
    "PartitionTable",
    [
        ("name", str),
        *((name, int | str if row.words else int, msgspec.UNSET) for name, row in ATTRIBUTES.items()),
        ("auto_start", bool | None, None),
        ("faults", tuple[str, ...], ()),
    ],
    kw_only=True,
)
"""A `[[partition]]` of the file: the types of its fields; `PartitionSettings.of` holds the ranges."""


class _Partitions(msgspec.Struct):
    """The `[[partition]]` tables of a file."""

    partition: list[_TABLE] = []  # type: ignore[valid-type]  # made from the rows of the attributes


PARTITION_FIELDS = frozenset(_TABLE.__struct_fields__)
"""Fields of a `[[partition]]`."""

SETTINGS_FIELDS = frozenset(each.name for each in dataclasses.fields(Settings)) - {"first_name"}
"""Fields at the top of the file."""

_FIELDS: Mapping[type, frozenset[str]] = {
    PartitionSettings: PARTITION_FIELDS,
    **{cls: frozenset(each.name for each in dataclasses.fields(cls)) for cls in (Settings, Limits)},
    Settings: SETTINGS_FIELDS,
}
_NESTED: Mapping[str, type] = {"limits": Limits, "partition": PartitionSettings}

LARGEST_FILE = 1 << 20
"""Bytes of a configuration file: some ten thousand partitions fit."""


def read_config(path: Path) -> Settings:
    """Return the settings in a TOML file; OperatorError if it can't be read or has a wrong value."""
    with located(str(path)):
        try:
            return _settings(tomllib.loads(_content(path).decode()))
        except RecursionError:
            raise OperatorError(rules.CONFIG_FILE, "its values are nested too deeply") from None
        except OSError as error:
            raise OperatorError(rules.CONFIG_FILE, f"can't be read: {error.strerror or error}") from None
        except ValueError as error:  # wrong TOML, wrong UTF-8 and wrong types all raise ValueError
            raise OperatorError(rules.CONFIG_FILE, str(error)) from None


def _content(path: Path) -> bytes:
    """Return the bytes of a plain file; OperatorError for anything else, such as a pipe without a writer."""
    # Without O_NONBLOCK, the open of a fifo would wait for a writer.  Its kind can be checked only after
    # the open.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OperatorError(rules.CONFIG_FILE, "it is not a plain file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST_FILE + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_FILE:
        raise OperatorError(rules.CONFIG_FILE, f"it has more than {LARGEST_FILE} bytes")
    return content


def _settings(content: dict[str, Any]) -> Settings:
    """Return the settings in the content of a file; ValueError for unknown fields and wrong types."""
    unknown = ", ".join(_unknown(content, Settings, ""))
    if unknown:
        raise ValueError(f"unknown field {unknown}")
    tables = msgspec.to_builtins(msgspec.convert(content, _Partitions).partition)
    partitions = tuple(PartitionSettings.of(**table) for table in tables)
    rest = msgspec.convert({**content, "partition": ()}, Settings)
    return dataclasses.replace(rest, partition=partitions)


def _unknown(table: dict[str, Any], cls: type, where: str) -> Iterator[str]:
    """Yield the path of every field of a table that its class does not have."""
    # msgspec ignores a field that a dataclass does not have.  So a mistyped name would silently have no
    # effect.
    for name, value in table.items():
        path = f"{where}{name}"
        if name not in _FIELDS[cls]:
            question = did_you_mean(near_names(name, _FIELDS[cls], 1))
            yield f"{path} ({question})" if question else path
        elif name in _NESTED:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    yield from _unknown(each, _NESTED[name], f"{path}.")
