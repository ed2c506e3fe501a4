"""The log: structured lines on standard error, in JSON or in columns for people.

A line is an event name ("hcall.refused") and fields; a refusal names its rule and the section of `spec/`.
The text of a line is made in `hcall_server.machine.lines`.

A server writes through an `Outlet`.  If a reader stops, or a disk is full, lines are lost, but no caller
waits. A line that cannot be made is dropped and counted as well.  So a log call never raises.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

from hcall_abi.errors import SwpksError
from hcall_abi.rules.rule import Rule
from hcall_server.machine import lines
from hcall_server.machine.outlet import Outlet, OutletText
from hcall_server.nvram.seam import NvramError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS = ("console", "json")


class Stream(Protocol):
    """The part of a text stream that a log needs."""

    def write(self, text: str, /) -> int:
        """Write a line."""

    def flush(self) -> None:
        """Pass every line on to the descriptor."""

    def isatty(self) -> bool:
        """Return whether a person looks at the lines."""


class _Sink:
    """The destination of all lines of the process, changed by `configure`."""

    level = LEVELS["warning"]
    format: str | None = None
    stream: Stream | None = None
    outlet: Outlet | None = None
    lost = 0


class Log:
    """Writes events with a fixed context, such as the partition that they are about."""

    def __init__(self, **context: Any) -> None:
        self._context = context

    def __repr__(self) -> str:
        return f"Log({', '.join(self._context)})"

    def bind(self, **context: Any) -> Log:
        """Return a log with more context."""
        return Log(**self._context, **context)

    def debug(self, event: str, **fields: Any) -> None:
        """Write detail for developers of swpks."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write an event."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write a line that needs the operator's attention."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a failure."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] >= _Sink.level:
            _emit(level, event, self._context | fields)


def configure(*, level: str = "info", style: str | None = None, stream: Stream | None = None) -> None:
    """Set level, format and stream of the log.

    `stream` None is standard error.  `style` None is columns on a terminal, and JSON elsewhere.  From now
    on, each caller writes its line itself and waits for the stream.
    """
    _Sink.level = LEVELS[level]
    _Sink.format = style
    _Sink.stream = stream
    _Sink.outlet = None
    _Sink.lost = 0


def write_behind(descriptor: int, encoding: str = "utf-8") -> None:
    """Write lines to a descriptor from now on, in a thread.  So no caller waits for the reader.

    A line that cannot be written is dropped and counted.  The next line that can be written is preceded by
    `log.dropped` with the count.
    """
    outlet = Outlet(descriptor, lambda number: _notice(number, encoding))
    _Sink.stream = OutletText(outlet, encoding=encoding, terminal=os.isatty(descriptor))
    _Sink.outlet = outlet


def dropped() -> int:
    """Return how many lines could not be made or written since the start."""
    return _Sink.outlet.dropped if _Sink.outlet else _Sink.lost


def flush(seconds: float) -> bool:
    """Wait for lines that are not written yet, for a bounded time; return whether none is left."""
    return _Sink.outlet is None or _Sink.outlet.flush(seconds)


def explained(error: SwpksError) -> dict[str, str]:
    """Return the log fields of a SwpksError."""
    return {"error": error.message, "fault": error.fault.value, **named(error.rule)}


def named(rule: Rule) -> dict[str, str]:
    """Return the fields that name a broken rule."""
    code = {"code": rule.code} if rule.code else {}
    return {"rule_id": rule.id, "rule": rule.sentence, "section": rule.page, **code}


def shown(level: str) -> bool:
    """Whether the log level lets lines of this level be written."""
    return LEVELS[level] >= _Sink.level


def log_trouble(error: SwpksError | None) -> None:
    """Log a failed flush; or, for None, that flushes work again (R-23).

    `nvram.trouble` is the event of an NVRAM error.  `flush.failed` is that of a host error, or of a bug, with
    its trace.
    """
    if error is None:
        Log().info("nvram.recovered")
    elif isinstance(error, NvramError):
        Log().error("nvram.trouble", kind=error.kind, **explained(error))
    else:
        trace = {"exc_info": error.__cause__} if error.__cause__ else {}
        Log().error("flush.failed", **explained(error), **trace)


def _emit(level: str, event: str, fields: dict[str, Any]) -> None:
    try:
        stream = _Sink.stream or sys.stderr
        stream.write(_rendered(level, event, fields))
        stream.flush()
    except Exception:  # a line that cannot be made must not end the service
        drop()


def drop() -> None:
    """Count a line that could not be made or written."""
    if _Sink.outlet:
        _Sink.outlet.drop()
    else:
        _Sink.lost += 1


def _notice(dropped: int, encoding: str) -> bytes:
    return _rendered("warning", "log.dropped", {"lines": dropped}).encode(encoding, "backslashreplace")


def _rendered(level: str, event: str, fields: dict[str, Any]) -> str:
    """Return a line as text, with its newline."""
    terminal = (_Sink.stream or sys.stderr).isatty()
    if (_Sink.format or ("console" if terminal else "json")) == "json":
        return lines.as_json(level, event, fields)
    return lines.as_columns(level, event, fields, coloured=terminal)
