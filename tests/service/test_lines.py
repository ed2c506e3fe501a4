"""The text of log lines: no bytes, no control characters, and a traceback for a bug."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from hcall_server.machine import logs
from hcall_server.machine.lines import as_columns, as_json

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def raised() -> ValueError:
    """Return a bug with a cause."""
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise ValueError("a bug") from cause
    except ValueError as error:
        return error


def test_json() -> None:
    """In a line of JSON, the event's fields come first, then its name, level and time.

    The time is UTC, with microseconds.
    """
    line = as_json("info", "event.happened", {"partition": "lpar1", "count": 3, "names": ["a"], "none": None})
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    shown = json.loads(line)
    assert list(shown) == ["partition", "count", "names", "none", "event", "level", "timestamp"]
    assert (shown["partition"], shown["count"], shown["names"], shown["none"]) == ("lpar1", 3, ["a"], None)
    assert (shown["event"], shown["level"]) == ("event.happened", "info")
    assert re.fullmatch(TIME, shown["timestamp"])
    assert datetime.now(UTC) - datetime.fromisoformat(shown["timestamp"]) < timedelta(minutes=5)


def test_columns() -> None:
    """Text with spaces is quoted, so a reader can separate the fields."""
    line = as_columns(
        "warning", "event.happened", {"name": "lpar1", "text": "a b", "n": 1, "e": ""}, coloured=False
    )
    assert re.fullmatch(TIME + r' \[warning\] event\.happened +name=lpar1 text="a b" n=1 e=""\n', line)
    assert as_columns("info", "event.happened", {}, coloured=False).endswith("[info   ] event.happened\n")


def test_text_of_a_peer_forges_no_field() -> None:
    """Quotes inside a quoted text are escaped, so a peer can't add a field."""
    line = as_columns("info", "e", {"client": 'x" partition=lpar9 client="y', "b": "a=b"}, coloured=False)
    assert line.endswith(' client="x\\" partition=lpar9 client=\\"y" b="a=b"\n')


def test_colours_are_for_a_terminal() -> None:
    """On a terminal, the colour covers time and level, and ends before the event."""
    line = as_columns("error", "event.happened", {"a": 1}, coloured=True)
    assert re.fullmatch(r"\x1b\[31m" + TIME + r" \[error  \] \x1b\[0mevent\.happened +a=1\n", line)


@pytest.mark.parametrize(
    "data", [b"secret", bytearray(b"secret"), memoryview(b"secret")], ids=["bytes", "bytearray", "view"]
)
def test_bytes_are_told_by_their_number(data: bytes) -> None:
    """A log line has the number of bytes in place of the bytes, so no object data reaches a log."""
    for line in (
        as_json("info", "e", {"data": data}),
        as_columns("info", "e", {"data": data}, coloured=False),
    ):
        assert "secret" not in line
        assert "<6 bytes>" in line


def test_text_of_a_peer_is_escaped() -> None:
    """Line breaks and escape sequences in a peer's text are escaped in the log."""
    text = "a\x1b[2J\nb"
    assert json.loads(as_json("info", "e", {"text": text}))["text"] == "a\\x1b[2J\\x0ab"
    assert as_columns("info", "e", {"text": text}, coloured=False).endswith("text=a\\x1b[2J\\x0ab\n")


class Opaque:
    """A value that JSON does not know."""

    def __repr__(self) -> str:
        return "Opaque()"


def test_values_that_json_does_not_know() -> None:
    """A value that JSON does not have is logged as Python's repr."""
    assert json.loads(as_json("info", "e", {"value": Opaque()}))["value"] == "Opaque()"


def test_values_within_values() -> None:
    """Bytes and control characters inside other values are hidden too."""
    fields = {"names": ("a\x1b", b"secret"), "sockets": {"lpar1": "a\nb"}, "numbers": {1}}
    shown = json.loads(as_json("info", "e", fields))
    assert shown["names"] == ["a\\x1b", "<6 bytes>"]
    assert shown["sockets"] == {"lpar1": "a\\x0ab"}
    assert shown["numbers"] == [1]
    assert "secret" not in as_columns("info", "e", fields, coloured=False)
    assert "\x1b" not in as_columns("info", "e", fields, coloured=False)


def test_a_trace() -> None:
    """A traceback includes the causes of the exception.

    In JSON it is a field of the line. In columns it follows below the line.
    """
    shown = json.loads(as_json("error", "e", {"exc_info": raised(), "n": 1}))
    assert "exc_info" not in shown
    assert shown["exception"].startswith("Traceback (most recent call last):\n")
    assert "KeyError: 'cause'" in shown["exception"]
    assert shown["exception"].endswith("ValueError: a bug")
    first, second, *_ = as_columns("error", "e", {"exc_info": raised(), "n": 1}, coloured=False).splitlines()
    assert first.endswith("n=1")
    assert second == "Traceback (most recent call last):"


def test_the_trace_of_the_error_at_hand() -> None:
    """`exc_info=True` adds a traceback inside an `except`, and nothing elsewhere."""
    try:
        raise ValueError("a bug")
    except ValueError:
        line = as_json("error", "e", {"exc_info": True})
    assert json.loads(line)["exception"].endswith("ValueError: a bug")
    for nothing in (True, False, None):
        shown = json.loads(as_json("error", "e", {"exc_info": nothing}))
        assert shown.keys() == {"event", "level", "timestamp"}


def test_a_trace_draws_nothing_on_a_terminal() -> None:
    """The text of a peer in an exception is escaped."""
    line = as_columns("error", "e", {"exc_info": ValueError("\x1b[2J")}, coloured=False)
    assert line.endswith("ValueError: \\x1b[2J\n")


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "style,stream,start",
    [
        (None, Terminal(), "\x1b[32m"),
        ("json", Terminal(), "{"),
        (None, io.StringIO(), "{"),
        ("console", io.StringIO(), "20"),
    ],
    ids=["terminal", "terminal, json", "file", "file, console"],
)
def test_the_style_follows_the_stream(style: str | None, stream: io.StringIO, start: str) -> None:
    """By default, the log has columns on a terminal and JSON elsewhere. The operator can choose the style."""
    logs.configure(style=style, stream=stream)
    try:
        logs.Log().info("event.happened")
    finally:
        logs.configure(level="warning")
    assert stream.getvalue().startswith(start)
