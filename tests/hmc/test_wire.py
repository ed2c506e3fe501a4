"""The console's end of the protocol of commands: which messages it accepts."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.errors import PeerError
from hcall_abi.rules import hmc as rules
from swpks.hmc import line_client, wire
from swpks.hmc.names import SOCKET


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 60)))
def test_lines_are_cut_the_same_wherever_the_pieces_end(lines: list[bytes], cuts: list[int]) -> None:
    """Lines are the same for any division of the bytes into pieces."""
    whole = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    buffer, found, at = wire.LineBuffer(), list[bytes](), 0
    for cut in [*cuts, len(whole)]:
        found += buffer.feed(whole[at : at + cut])
        at += cut
    assert found == whole.split(b"\n")[:-1]


def test_a_line_without_end_is_refused() -> None:
    """A line above the limit is refused, in pieces as well as whole."""
    buffer = wire.LineBuffer(longest=10)
    assert buffer.feed(b"0123456789\n") == [b"0123456789"]
    assert buffer.feed(b"01234") == []
    with pytest.raises(PeerError) as caught:
        buffer.feed(b"567890")
    assert caught.value.rule is rules.HMC_WIRE


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"line": []}',
        b'{"line": ["a"], "order": {"verb": "systems"}}',
        b'{"line": [1]}',
        b'{"line": "lssyscfg"}',
        b'{"line": ["\\udcff"]}',
        b'{"ask": {}}',
        b'{"order": {"verb": "reboot"}}',
        b'{"order": {"verb": "systems", "more": 1}}',
        b'{"other": 1}',
        b"[" * 100_000,
        json.dumps({"line": ["a"] * (wire.MOST_WORDS + 1)}).encode(),
    ],
)
def test_only_requests_are_taken(line: bytes) -> None:
    """Only requests of the three kinds are accepted; anything else raises PeerError."""
    with pytest.raises(PeerError) as caught:
        wire.request_of(line)
    assert caught.value.rule is rules.HMC_WIRE


@given(st.binary(max_size=200))
def test_garbage_is_a_peer_error(line: bytes) -> None:
    """Any other bytes raise PeerError and no other exception."""
    for parse in (wire.request_of, wire.reply_of):
        with contextlib.suppress(PeerError):
            parse(line)


def test_a_reply_hides_its_content() -> None:
    """The repr of a reply hides its content, because a trusted system key may be in it."""
    assert "c2Vj" not in repr(wire.reply_of(b'{"content": "c2VjcmV0"}'))


def test_both_ends_agree() -> None:
    """The small client can't import the package, so it has a copy of these values. Both are equal."""
    assert (line_client.SOCKET, line_client.LONGEST_LINE) == (SOCKET, wire.LONGEST_LINE)
    assert line_client.LARGEST_FILE * 4 / 3 < wire.LONGEST_LINE
