"""The stream of events as bytes: a strict parser without I/O (spec/control.md).

An event is three lines and a blank one.  A line with a colon at its start is a comment, which shows that the
server runs:

    id: 7
    event: changed
    data: {"number":7,"kind":"changed","partition":"lpar1","uuid":""}

    : comment
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import msgspec

from hcall_abi.control_views import EventKind, EventView
from hcall_client.console import ConsoleMisspoken

LONGEST_LINE = 16 * 1024
"""Bytes of a line; a longer one ends the stream."""

_FIELDS = ("id", "event", "data")
_KINDS = frozenset(get_args(EventKind))
_decoder = msgspec.json.Decoder(EventView)


class EventParser:
    """Turns received bytes into events; raises ConsoleMisspoken if the bytes are no such stream."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._values: list[str] = []

    def feed(self, data: bytes) -> Iterator[EventView | None]:
        """Take bytes; yield each event that is complete, and None for a comment.

        Yield None too for an event of an unknown kind: a later server may send such events.
        """
        self._rest += data
        # Only new bytes are searched. If a peer sends single bytes, a search from the start would repeat all
        # earlier bytes each time.
        while (end := self._rest.find(b"\n", self._searched)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            self._searched = 0
            yield from self._take(line)
        # An unfinished line is bounded too. Otherwise a stream without a newline would fill the memory.
        self._searched = len(self._rest)
        _check_length(self._searched)

    def _take(self, line: bytes) -> Iterator[EventView | None]:
        _check_length(len(line))
        if line.startswith(b":"):
            yield None
        elif line:
            # The server always sends the three fields in this order. SSE allows any order and more fields.
            # But a strict reader finds a damaged stream at once.
            self._values.append(_value(line, _FIELDS[len(self._values) :]))
        elif self._values:
            values, self._values = self._values, []
            yield _event(values)


def _check_length(length: int) -> None:
    if length > LONGEST_LINE:
        raise _wrong(f"a line of more than {LONGEST_LINE} bytes")


def _value(line: bytes, expected: tuple[str, ...]) -> str:
    """Return the value of the next field of an event."""
    try:
        name, colon, value = line.decode().partition(": ")
    except UnicodeDecodeError:
        raise _wrong("a line that is not UTF-8") from None
    if not expected:
        raise _wrong(f"a line {name[:40]!r} in the place of the blank line after an event")
    if not colon or name != expected[0]:
        raise _wrong(f"a line {name[:40]!r} in the place of {expected[0]!r}")
    return value


def _event(values: list[str]) -> EventView | None:
    """Return the event with these values; None for an unknown kind of event."""
    if len(values) < len(_FIELDS):
        raise _wrong(f"an event without {_FIELDS[len(values)]!r}")
    number, kind, data = values
    # The kind is checked before the data are read: an event of a later kind may have other fields.
    if kind not in _KINDS:
        return None
    try:
        event = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _wrong(f"an event of another shape ({error})") from None
    # Both places have the number and the kind. If they differ, lines of two events were mixed.
    if (str(event.number), event.kind) != (number, kind):
        raise _wrong("an event whose data are of another event")
    return event


def _wrong(reason: str) -> ConsoleMisspoken:
    return ConsoleMisspoken("watchEvents", reason)
