"""The parser of an event stream returns only whole events, in whatever pieces their bytes come."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.control_views import EventView
from hcall_client.console import ConsoleMisspoken
from hcall_client.event_lines import LONGEST_LINE, EventParser

KINDS = ("hello", "changed", "take-copy", "forget-copies", "stopping")
EVENTS = st.builds(
    EventView,
    number=st.integers(0, 1 << 63),
    kind=st.sampled_from(KINDS),
    partition=st.text(st.characters(codec="utf-8"), max_size=40),
    uuid=st.text("0123456789abcdef-", max_size=36),
)
Items = list[EventView | str | None]
LINES = (b"id: 1", b"event: hello", b'data: {"number":1,"kind":"hello"}', b"", b":", b"x")


def encoded(event: EventView) -> bytes:
    """Return the bytes that a server sends for an event."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.number,
        event.kind.encode(),
        msgspec.json.encode(event),
    )


def parsed(pieces: list[bytes]) -> Items:
    """Return the items of a stream. If the parser refuses it, the last item is the reason."""
    parser, found = EventParser(), Items()
    try:
        for piece in pieces:
            found.extend(parser.feed(piece))
    except ConsoleMisspoken as error:
        found.append(str(error))
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut the bytes at these places."""
    ends = sorted({0, len(data), *(each % (len(data) + 1) for each in places)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(st.lists(EVENTS | st.text("ab: ", max_size=9)), st.lists(st.integers(0), max_size=30))
def test_any_pieces_give_the_same_events(items: list[EventView | str], places: list[int]) -> None:
    """Events come out in order; a comment, with or without text, is None."""
    data = b"".join(
        encoded(each) if isinstance(each, EventView) else f":{each}\n\n".encode() for each in items
    )
    expected = [each if isinstance(each, EventView) else None for each in items]
    assert parsed(cut(data, places)) == parsed([data]) == expected


@given(
    st.lists(
        st.sampled_from([b"id: 1", b"event: hello", b'data: {"number":1,"kind":"hello"}', b"", b":", b"x"])
    ),
    st.lists(st.integers(0), max_size=20),
)
def test_any_pieces_give_the_same_refusal(lines: list[bytes], places: list[int]) -> None:
    """The items before a wrong line are still received."""
    data = b"".join(line + b"\n" for line in lines)
    assert parsed(cut(data, places)) == parsed([data])


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(data: bytes) -> None:
    """Any bytes give an event, a comment, or a refusal."""
    assert all(each is None or isinstance(each, EventView | str) for each in parsed([data]))


@pytest.mark.parametrize(
    "data,reason",
    [
        (b"event: hello\n", "'event' in the place of 'id'"),
        (b"id: 1\nid: 1\n", "'id' in the place of 'event'"),
        (b"id:1\n", "'id:1' in the place of 'id'"),
        (b"id\n", "'id' in the place of 'id'"),
        (b"id: 1\n\n", "without 'event'"),
        (b"id: 1\nevent: hello\n\n", "without 'data'"),
        (b"retry: 1\n", "'retry' in the place of 'id'"),
        (b"\xff\n", "not UTF-8"),
        (b'id: 1\nevent: hello\ndata: {"number":1,"kind":"hello"}\ndata: x\n', "place of the blank line"),
        (b'id: 2\nevent: hello\ndata: {"number":1,"kind":"hello"}\n\n', "of another event"),
        (b'id: 01\nevent: hello\ndata: {"number":1,"kind":"hello"}\n\n', "of another event"),
        (b'id: 1\nevent: changed\ndata: {"number":1,"kind":"hello"}\n\n', "of another event"),
        (b"id: 1\nevent: hello\ndata: {}\n\n", "another shape"),
        (b"id: 1\nevent: hello\ndata: " + b"[" * 9000 + b"\n\n", "another shape"),
        (b'id: 1\nevent: hello\ndata: {"number":1,"kind":"later"}\n\n', "another shape"),
        (b":" + b"x" * LONGEST_LINE + b"\n", f"more than {LONGEST_LINE} bytes"),
        (b"x" * (LONGEST_LINE + 1), f"more than {LONGEST_LINE} bytes"),
    ],
)
def test_anything_else_is_refused(data: bytes, reason: str) -> None:
    """spec/control.md: A line in any other form is refused, and so is a line above the length limit."""
    (refusal,) = parsed([data])
    assert isinstance(refusal, str)
    assert refusal.startswith("watchEvents was answered with ")
    assert reason in refusal


def test_a_later_server_may_say_more() -> None:
    """A field or a kind of a later version is no error; the longest allowed line is read."""
    more = b'id: 1\nevent: hello\ndata: {"number":1,"kind":"hello","more":[1]}\n\n'
    unknown = b"id: 2\nevent: may-serve\ndata: [2]\n\n"
    assert parsed([more + unknown]) == [EventView(number=1, kind="hello"), None]
    assert parsed([b":" + b"x" * (LONGEST_LINE - 1) + b"\n"]) == [None]
