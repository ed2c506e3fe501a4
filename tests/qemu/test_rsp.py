"""Packets of the remote serial protocol: fixed bytes, however the stream is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swpks.qemu.errors import StubError
from swpks.qemu.rsp import MAX_PACKET, Decoder, Sign, checksum, encode, expand

# The first five packets come from QEMU 7.2.
GOLDEN = [
    (b"OK", b"$OK#9a"),
    (b"", b"$#00"),
    (b"T05thread:p01.01;", b"$T05thread:p01.01;#06"),
    (b"vCont;c;C;s;S", b"$vCont;c;C;s;S#62"),
    (b"0000000000000100", b"$0000000000000100#01"),
    (b"a}b#c$d*e", b"$a}]b}\x03c}\x04d}\x0ae#51"),
]


def decoded(*pieces: bytes) -> list[bytes | Sign]:
    decoder = Decoder()
    found: list[bytes | Sign] = []
    for piece in pieces:
        decoder.receive(piece)
        found += decoder.events()
    return found


@pytest.mark.parametrize("payload,packet", GOLDEN, ids=[repr(row[0]) for row in GOLDEN])
def test_golden_packets(payload: bytes, packet: bytes) -> None:
    assert encode(payload) == packet
    assert decoded(packet) == [payload]


def test_signs_stand_between_packets() -> None:
    assert decoded(b"+$OK#9a-+") == [Sign.ACK, b"OK", Sign.NACK, Sign.ACK]


def test_what_belongs_to_no_packet_is_skipped() -> None:
    assert decoded(b"\r\nnoise$OK#9a\x03") == [b"OK"]


def test_a_wrong_checksum_is_told() -> None:
    assert decoded(b"$OK#9b$OK#9A") == [Sign.DAMAGED, b"OK"]


def test_repeats_as_the_manual_of_gdb_shows_them() -> None:
    assert expand(b"0* ") == b"0000"
    assert expand(b"xa*%b") == b"x" + b"a" * 9 + b"b"


@pytest.mark.parametrize("raw", [b"a}", b"a*", b"* ", b"a*\x1d", b"a*\x05"], ids=repr)
def test_what_no_packet_may_hold(raw: bytes) -> None:
    with pytest.raises(StubError, match="packet"):
        decoded(b"$" + raw + b"#" + checksum(raw))


def test_an_endless_packet_is_refused() -> None:
    decoder = Decoder()
    decoder.receive(b"$" + b"0" * MAX_PACKET)
    with pytest.raises(StubError, match="more than"):
        list(decoder.events())


@given(payloads=st.lists(st.binary(max_size=40)), cuts=st.lists(st.integers(0, 200)))
def test_any_payload_comes_back_whatever_the_cuts(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"+".join(encode(payload) for payload in payloads)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert [event for event in decoded(*pieces) if event is not Sign.ACK] == payloads


@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_an_error(data: bytes) -> None:
    """Any bytes of a stub give packets, or raise StubError."""
    try:
        decoded(data)
    except StubError:
        pass
