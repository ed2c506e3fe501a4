"""A server's settings from a TOML file; the command line adds to them and wins.

The fields are those of the classes in `hcall_server.service.settings`.  An unknown field, a wrong type
or a value out of range is an OperatorError that says where in the file it stands.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from hcall_abi.errors import OperatorError
from hcall_server.machine.limits import Limits
from hcall_server.service.settings import PartitionSettings, Settings

_NESTED: dict[str, Any] = {"limits": Limits, "partition": PartitionSettings}


def read_config(path: Path) -> Settings:
    """Return the settings in a TOML file; OperatorError when it can't be read or says nonsense."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        unknown = ", ".join(_unknown(content, Settings, ""))
        if unknown:
            raise ValueError(f"unknown field {unknown}")
        return msgspec.convert(content, Settings)
    except OSError as error:
        raise _refused(path, f"can't be read: {error.strerror}") from None
    except ValueError as error:  # TOML errors, wrong types and values out of range are ValueErrors too
        raise _refused(path, str(error)) from None


def _unknown(table: dict[str, Any], cls: Any, where: str) -> Iterator[str]:
    """Yield the path of every field that a table has and its class does not."""
    known = {item.name for item in dataclasses.fields(cls)}
    for name, value in table.items():
        path = f"{where}{name}"
        if name not in known:
            yield path
        elif name in _NESTED:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    yield from _unknown(each, _NESTED[name], f"{path}.")


def _refused(path: Path, reason: str) -> OperatorError:
    return OperatorError(
        f"{path}: {reason}",
        rule="the configuration file is TOML with the documented fields and ranges",
        section="spec/service.md#configuration",
    )
