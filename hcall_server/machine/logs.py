"""The log: structured lines on standard error, by structlog, in JSON or for a person's eyes.

A line is an event name ("hcall.refused") and fields; a refusal names its rule and the section of
`spec/`.  A line never holds bytes, only their number.  Text that came from a peer is escaped, so that
it can't draw on a terminal.

structlog is loaded by the first line that is really written; `load` loads it before.  A server calls it as
soon as it is ready: later, descriptors or memory may be missing.

A server writes through an `Outlet`: a reader that stops, or a full disk, costs lines and never time.  A line
that cannot be made is dropped and counted as well.  So a log call never raises.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from hcall_abi.errors import SwpksError
from hcall_abi.rules.rule import Rule
from hcall_server.machine.outlet import Outlet, OutletText
from hcall_server.nvram.seam import NvramError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS = ("console", "json")


class Stream(Protocol):
    """The part of a text stream that a log needs."""

    def write(self, text: str, /) -> int:
        """Take a line."""

    def flush(self) -> None:
        """Pass on every line."""

    def isatty(self) -> bool:
        """Return whether a person looks at the lines."""


class _Sink:
    """Where lines go: one for the process, changed by `configure`."""

    level = LEVELS["warning"]
    format: str | None = None
    stream: Stream | None = None
    outlet: Outlet | None = None
    rendered: Callable[[str, str, dict[str, Any]], str] | None = None
    held: list[tuple[str, str, dict[str, Any]]] | None = None
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
        if LEVELS[level] < _Sink.level:
            return
        if _Sink.held is not None:
            _Sink.held.append((level, event, self._context | fields))
        else:
            _emit(level, event, self._context | fields)


def configure(*, level: str = "info", style: str | None = None, stream: Stream | None = None) -> None:
    """Set level, format and stream; style None means console on a terminal, JSON elsewhere.

    Lines go to `stream`, None for standard error, and are written at once by the caller.
    """
    _Sink.level = LEVELS[level]
    _Sink.format = style
    _Sink.stream = stream
    _Sink.outlet = None
    _Sink.rendered = None
    _Sink.lost = 0


def write_behind(descriptor: int, encoding: str = "utf-8") -> None:
    """Write lines to a descriptor from now on, by a thread, so that no caller waits for its reader.

    A line that can't be written is dropped and counted; `log.dropped` tells the number once lines are taken
    again.
    """
    outlet = Outlet(descriptor, lambda lines: _notice(lines, encoding))
    _Sink.stream = OutletText(outlet, encoding=encoding, terminal=os.isatty(descriptor))
    _Sink.outlet = outlet
    _Sink.rendered = None


def dropped() -> int:
    """Return how many lines could not be made or written since the start."""
    return _Sink.outlet.dropped if _Sink.outlet else _Sink.lost


def load() -> None:
    """Load structlog if that is possible now; else the next line tries again."""
    with suppress(Exception):
        _Sink.rendered = _Sink.rendered or _load_renderer()


def flush(seconds: float) -> bool:
    """Wait for lines that are not written yet, for a bounded time; return whether none is left."""
    return _Sink.outlet is None or _Sink.outlet.flush(seconds)


@contextmanager
def held() -> Iterator[None]:
    """Keep lines back until the block ends: loading structlog would delay the start."""
    _Sink.held = []
    try:
        yield
    finally:
        lines, _Sink.held = _Sink.held, None
        for line in lines:
            _emit(*line)


def explained(error: SwpksError) -> dict[str, str]:
    """Return the fields of one of our errors."""
    return {"error": error.message, "fault": error.fault.value, **named(error.rule)}


def named(rule: Rule) -> dict[str, str]:
    """Return the fields that name a broken rule."""
    code = {"code": rule.code} if rule.code else {}
    return {"rule_id": rule.id, "rule": rule.sentence, "section": rule.page, **code}


def shown(level: str) -> bool:
    """Whether lines of this level are written at all."""
    return LEVELS[level] >= _Sink.level


def log_trouble(error: SwpksError | None) -> None:
    """Log a failed flush, and (None) the first one that works again (R-23).

    `nvram.trouble` is about NVRAM; `flush.failed` is about the host, or with a trace about a bug.
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
    except Exception:  # such as no descriptor to load structlog: the service goes on
        _drop()


def _drop() -> None:
    """Count a line that could not be written."""
    if _Sink.outlet:
        _Sink.outlet.drop()
    else:
        _Sink.lost += 1


def _notice(lines: int, encoding: str) -> bytes:
    return _rendered("warning", "log.dropped", {"lines": lines}).encode(encoding, "backslashreplace")


def _rendered(level: str, event: str, fields: dict[str, Any]) -> str:
    """Return a line as text, with its newline."""
    render = _Sink.rendered = _Sink.rendered or _load_renderer()
    return render(level, event, fields)


def _load_renderer() -> Callable[[str, str, dict[str, Any]], str]:
    import structlog

    terminal = (_Sink.stream or sys.stderr).isatty()
    style = _Sink.format or ("console" if terminal else "json")
    last: Any = structlog.processors.JSONRenderer()
    if style == "console":
        last = structlog.dev.ConsoleRenderer(colors=terminal)
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _harmless,
        last,
    ]

    def render(level: str, event: str, fields: dict[str, Any]) -> str:
        line: Any = {**fields, "event": event}
        for processor in processors:
            line = processor(None, level, line)
        return f"{line}\n"

    return render


def _harmless(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide bytes and escape control characters."""
    for name, value in line.items():
        if isinstance(value, bytes | bytearray | memoryview):
            line[name] = f"<{len(value)} bytes>"
        elif isinstance(value, str) and name != "exception" and not value.isprintable():
            line[name] = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value)
    return line
