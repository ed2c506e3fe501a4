"""The log: structured lines on standard error, by structlog, in JSON or for a person's eyes.

A line is an event name ("hcall.refused") and fields; a refusal names its rule and the section of
`spec/`.  Bytes never get into a line, whatever they are: only their number does.  Text that came
from a peer is escaped, so that it can't draw on a terminal.

structlog is loaded by the first line that is really written, after the server is ready.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

from hcall_abi.errors import SwpksError
from hcall_abi.rules.rule import Rule
from hcall_server.nvram.seam import NvramError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS = ("console", "json")


class _Sink:
    """Where lines go: one for the process, changed by `configure`."""

    level = LEVELS["warning"]
    format: str | None = None
    stream: TextIO | None = None
    logger: Any = None
    held: list[tuple[str, str, dict[str, Any]]] | None = None


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
        """Write what only a developer of swpks wants to know."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write what happened."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write what somebody should look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write what went wrong."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] < _Sink.level:
            return
        if _Sink.held is not None:
            _Sink.held.append((level, event, self._context | fields))
        else:
            _emit(level, event, self._context | fields)


def configure(*, level: str = "info", style: str | None = None, stream: TextIO | None = None) -> None:
    """Choose what is written and where; style None means console on a terminal, JSON elsewhere."""
    _Sink.level = LEVELS[level]
    _Sink.format = style
    _Sink.stream = stream
    _Sink.logger = None


@contextmanager
def held() -> Iterator[None]:
    """Keep lines back until the block ends: structlog takes a while to load, and a start is in a hurry."""
    _Sink.held = []
    try:
        yield
    finally:
        lines, _Sink.held = _Sink.held, None
        for line in lines:
            _emit(*line)


def explained(error: SwpksError) -> dict[str, str]:
    """Return the fields that tell about one of our errors."""
    return {"error": error.message, "fault": error.fault.value, **named(error.rule)}


def named(rule: Rule) -> dict[str, str]:
    """Return the fields that name a broken rule."""
    code = {"code": rule.code} if rule.code else {}
    return {"rule_id": rule.id, "rule": rule.sentence, "section": rule.page, **code}


def shown(level: str) -> bool:
    """Whether lines of this level are written at all."""
    return LEVELS[level] >= _Sink.level


def log_trouble(error: NvramError | None) -> None:
    """Log trouble with NVRAM, and (None) its end (R-23)."""
    if error is None:
        Log().info("nvram.recovered")
    else:
        Log().error("nvram.trouble", kind=error.kind, **explained(error))


def _emit(level: str, event: str, fields: dict[str, Any]) -> None:
    try:
        getattr(_Sink.logger or _make_logger(), level)(event, **fields)
    except (OSError, ValueError):  # a log that nobody can take any more must not stop the service
        pass


def _make_logger() -> Any:
    import structlog

    stream = _Sink.stream or sys.stderr
    style = _Sink.format or ("console" if stream.isatty() else "json")
    renderer: Any = structlog.processors.JSONRenderer()
    if style == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    _Sink.logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _harmless,
            renderer,
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return _Sink.logger


def _harmless(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide bytes and escape control characters."""
    for name, value in line.items():
        if isinstance(value, bytes | bytearray | memoryview):
            line[name] = f"<{len(value)} bytes>"
        elif isinstance(value, str) and name != "exception" and not value.isprintable():
            line[name] = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value)
    return line
