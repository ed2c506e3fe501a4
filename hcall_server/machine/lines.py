"""A line of the log as text: JSON for programs, columns for people.

A line never holds bytes, only their number.  Text that came from a peer is escaped, so that it cannot draw
on a terminal.
"""

# We dropped structlog: it imports asyncio, which costs each server 2.4 MB and its start 13 ms.

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_PLAIN = "\x1b[0m"
_COLOURS = {"debug": "\x1b[36m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_EVENT_WIDTH = 24


def as_json(level: str, event: str, fields: Mapping[str, Any]) -> str:
    """Return one JSON object: the fields, then `event`, `level` and `timestamp`."""
    line = _harmless(fields) | {"event": event, "level": level, "timestamp": _now()}
    return json.dumps(line, default=repr) + "\n"


def as_columns(level: str, event: str, fields: Mapping[str, Any], *, coloured: bool) -> str:
    """Return time, level, event and fields in one line, with the trace of an error below it."""
    line = _harmless(fields)
    trace = line.pop("exception", "")
    start = f"{_now()} [{level:7}] "
    if coloured:
        start = f"{_COLOURS[level]}{start}{_PLAIN}"
    columns = " ".join(f"{name}={_column(value)}" for name, value in line.items())
    text = f"{start}{event:{_EVENT_WIDTH}} {columns}".rstrip()
    return "\n".join([text, *map(_printable, trace.splitlines()), ""])


def _harmless(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Hide bytes, escape control characters, and replace `exc_info` by the text of its trace.

    `exc_info` is an exception, or True for the exception that is being handled.
    """
    line = {name: _harmless_value(value) for name, value in fields.items() if name != "exc_info"}
    error = fields.get("exc_info")
    if error is True:
        error = sys.exception()
    if isinstance(error, BaseException):
        line["exception"] = "".join(traceback.format_exception(error)).rstrip("\n")
    return line


def _harmless_value(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case str():
            return _printable(value)
        case list() | tuple() | set() | frozenset():
            return [_harmless_value(each) for each in value]
        case dict():
            return {_harmless_value(key): _harmless_value(each) for key, each in value.items()}
    return value


def _printable(text: str) -> str:
    """Escape control characters."""
    return text if text.isprintable() else "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    return character if character.isprintable() else f"\\x{ord(character):02x}"


def _column(value: Any) -> str:
    """Return a value as text for people.  Text with blanks, quotes or "=" is quoted.

    Otherwise such a text could look like a further field.
    """
    if not isinstance(value, str):
        return str(value)
    return json.dumps(value, ensure_ascii=False) if not value or set(value) & set(' "=') else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
