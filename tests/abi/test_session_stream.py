"""Sessions read any bytes in pieces of any size.

The work is linear in the number of bytes. The memory is bounded.
"""

import itertools
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_abi.codec import ProtocolError, decode_hcall, encode
from hcall_abi.frames import MAX_BODY, FrameType, Goodbye, HCall, HReturn, Segment, Write
from hcall_abi.rules import protocol as rules
from hcall_abi.session import Event, Role, Session, SessionState, complaint
from tests.abi import strategies as wire
from tests.abi.sessions import ANSWER, CALL, HELLO, OPEN, OPENED, ZEROS, at, fed, pair


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the bytes in pieces, cut at these places."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


conversations = st.lists(wire.hcalls, max_size=6)
places = st.lists(st.integers(0, 4000), max_size=12)


@given(conversations, places)
def test_any_chunking_gives_the_same_events(frames: list[HCall], where: list[int]) -> None:
    """A session gives the same events for any cut of the bytes: whole, byte by byte, with empty pieces."""
    data = b"".join(encode(frame) for frame in frames) + encode(Goodbye(0, "done"))
    expected = [*frames, Goodbye(0, "done")]
    for pieces in ([data], [bytes([byte]) for byte in data], cut(data, where)):
        server = at(Role.SERVER, SessionState.OPEN)
        assert fed(server, pieces) == expected
        assert server.state is SessionState.CLOSED
        assert server.buffered == 0


@given(st.lists(st.integers(0, 1), max_size=40), places, st.randoms(use_true_random=False))
def test_events_taken_at_any_time(takes: list[int], where: list[int], chance: random.Random) -> None:
    """Each event comes once and in order, although bytes arrive while events wait."""
    frames = [
        CALL._replace(tag=n, segments=(Segment.read(0, bytes(chance.randrange(900))),)) for n in range(8)
    ]
    server = at(Role.SERVER, SessionState.OPEN)
    seen: list[Event] = []
    for n, piece in enumerate(cut(b"".join(map(encode, frames)), where)):
        server.receive_data(piece)
        for _ in range(takes[n] if n < len(takes) else 0):
            seen += [event for event in [next(server.events(), None)] if event is not None]
    assert [*seen, *server.events()] == frames


def calls_of(server: Session, most: int) -> list[Event]:
    """Return up to `most` calls that `spans` gives, decoded."""
    spans = server.spans(most)
    assert len(spans) <= most
    return [decode_hcall(tag, server.data, start, end) for tag, start, end in spans]


def by_spans(server: Session, pieces: list[bytes], most: int) -> list[Event]:
    """Return the events of a server that reads its calls with `spans`, as the data channel does."""
    seen: list[Event] = []
    for piece in pieces:
        server.receive_data(piece)
        while found := calls_of(server, most) or list(itertools.islice(server.events(), 1)):
            seen += found
    return seen


@given(conversations, places, st.integers(1, 5))
def test_spans_are_the_same_events(frames: list[HCall], where: list[int], most: int) -> None:
    """`spans` and `events` together give all frames once and in order, for any pieces."""
    data = b"".join(encode(frame) for frame in frames)
    server = at(Role.SERVER, SessionState.OPEN)
    assert by_spans(server, cut(data, where), most) == frames
    assert server.pending == 0, "no call came as an event"
    assert by_spans(server, [encode(Goodbye(0, "done"))], most) == [Goodbye(0, "done")]
    assert server.state is SessionState.CLOSED


@given(wire.hcalls, st.binary(min_size=1, max_size=40), st.integers(0, 200), st.integers(1, 5))
def test_spans_end_before_a_damaged_call(good: HCall, noise: bytes, where: int, most: int) -> None:
    """With a damaged call in the stream, `spans` and `events` give the same events, then the same error."""
    frame = encode(good)
    data = frame + frame[:where] + noise + frame[where + len(noise) :]
    ends = []
    for take in (by_spans, lambda server, pieces, most: fed(server, pieces)):
        server = at(Role.SERVER, SessionState.OPEN)
        try:
            ends.append(repr(take(server, [data], most)))
        except ProtocolError as error:
            ends.append(str(error))
    assert ends[0] == ends[1]


@given(wire.hreturns, places)
def test_a_client_reads_in_pieces_too(frame: HReturn, where: list[int]) -> None:
    """A client's session gives the same events however the bytes are cut."""
    _, client = pair()
    client.send(CALL._replace(tag=frame.tag))
    assert fed(client, cut(encode(frame), where)) == [frame]


def test_other_kinds_of_bytes() -> None:
    """After a session has received a bytearray or memoryview, its owner may overwrite the buffer."""
    server = at(Role.SERVER, SessionState.OPEN)
    buffer = bytearray(encode(CALL) + encode(CALL)[:50])
    server.receive_data(memoryview(buffer))
    buffer[:] = b"\xee" * len(buffer)
    assert list(server.events()) == [CALL]
    assert fed(server, [encode(CALL)[50:]]) == [CALL]


class Counted(Session):
    """A session that counts how many bytes it copies into and out of its buffer."""

    moved = 0

    def _wait_for(self, size: int) -> None:
        before = len(self._partial)
        super()._wait_for(size)
        self.moved += len(self._partial) - before

    def _resume(self) -> Event | None:
        before = len(self._partial)
        event = super()._resume()
        self.moved += before if len(self._partial) < before else 0
        return event


def work(count: int, size: int, piece: int) -> int:
    """Return how many bytes a session copies for `count` calls of `size` bytes, received in pieces."""
    data = encode(CALL._replace(segments=(Segment.read(0, bytes(size)),))) * count
    server = Counted(Role.SERVER)
    server.send(HELLO)
    fed(server, [encode(OPEN)])
    server.send(OPENED)
    server.moved = 0
    assert len(fed(server, (data[at : at + piece] for at in range(0, len(data), piece)))) == count
    return server.moved


@pytest.mark.parametrize("piece", [1, 7, 100, 1000, 65536])
def test_the_work_is_linear(piece: int) -> None:
    """The number of copied bytes grows linearly with the input, for every size of pieces."""
    for count, size in ((10, 5000), (100, 50), (1, 100_000)):
        total = count * (16 + 88 + 16 + size)
        assert work(count, size, piece) <= 4 * total


def test_many_pieces_without_taking_events() -> None:
    """A session may receive thousands of pieces before its events are read."""
    server = at(Role.SERVER, SessionState.OPEN)
    data = encode(CALL) * 50
    for byte in data:
        server.receive_data(bytes([byte]))
    assert server.buffered == len(data)
    assert list(server.events()) == [CALL] * 50


def test_many_frames_at_once() -> None:
    """One piece may have thousands of frames, and a part of one more."""
    server = at(Role.SERVER, SessionState.OPEN)
    frames = [CALL._replace(tag=n) for n in range(3000)]
    data = b"".join(map(encode, frames))
    server.receive_data(data[:-1])
    assert list(server.events()) == frames[:-1]
    assert server.buffered == len(encode(CALL)) - 1
    assert fed(server, [data[-1:]]) == frames[-1:]


# Memory


@pytest.mark.parametrize("length", [MAX_BODY + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("version,kind", [(1, 4), (2, 2), (1, 2)])
def test_too_large_is_refused_by_the_header(length: int, version: int, kind: int) -> None:
    """A header whose length is above the limit ends the session, also for an OPEN of another version."""
    server = at(Role.SERVER, SessionState.OPEN if kind == FrameType.HCALL else SessionState.GREETED)
    server.receive_data(wire.header(kind, 1, length, version=version))
    with pytest.raises(ProtocolError) as caught:
        list(server.events())
    assert caught.value.rule.page == "spec/protocol.md#framing"


def test_the_largest_body_is_taken() -> None:
    """A body of exactly the limit is accepted."""
    server, client = pair()
    call = HCall(1, 0x42C, ZEROS, (Segment.read(0, bytes(MAX_BODY - 88 - 16)),))
    data = client.send(call)
    assert len(data) == 16 + MAX_BODY
    assert fed(server, [data[:100_000], data[100_000:]]) == [call]


def test_memory_is_bounded_by_one_frame_and_one_piece() -> None:
    """If a peer repeatedly sends the largest frame in small pieces, memory stays below four copies of it."""
    server = at(Role.SERVER, SessionState.OPEN)
    frame = encode(HCall(1, 0x42C, ZEROS, (Segment.read(0, bytes(MAX_BODY - 88 - 16)),)))
    tracemalloc.start()
    try:
        for _ in range(8):
            for start in range(0, len(frame), 4096):
                server.receive_data(frame[start : start + 4096])
                for event in server.events():
                    assert isinstance(event, HCall)
                    server.send(ANSWER._replace(tag=event.tag))
                assert server.buffered < len(frame) + 4096
        assert tracemalloc.get_traced_memory()[1] < 4 * len(frame)
    finally:
        tracemalloc.stop()


def test_a_closed_session_holds_nothing() -> None:
    """After a GOODBYE, a session stores no further bytes."""
    server = at(Role.SERVER, SessionState.CLOSED)
    server.receive_data(bytes(1000))
    assert server.buffered == 0


# The end of the stream


def test_an_end_between_frames() -> None:
    """The end of the stream between two frames is no error."""
    server = at(Role.SERVER, SessionState.OPEN)
    server.receive_eof()
    assert server.state is SessionState.CLOSED


@pytest.mark.parametrize("size", [1, 15, 16, 17, 120])
def test_an_end_inside_a_frame(size: int) -> None:
    """The end of the stream inside a header or a body is an error of the peer."""
    server = at(Role.SERVER, SessionState.OPEN)
    assert fed(server, [encode(CALL)[:size]]) == []
    with pytest.raises(ProtocolError, match="ended inside a frame"):
        server.receive_eof()


# Any bytes


starts = st.sampled_from([(role, state) for role in Role for state in SessionState])
parts = st.one_of(
    st.binary(max_size=64),
    wire.damaged(wire.hcalls.map(wire.hcall_bytes)),
    wire.damaged(wire.hreturns.map(wire.hreturn_bytes)),
    wire.damaged(wire.opens.map(wire.open_bytes)),
    wire.damaged(wire.hellos.map(wire.hello_bytes)),
    wire.damaged(wire.openeds.map(wire.opened_bytes)),
    st.sampled_from([encode(frame) for frame in (CALL, ANSWER, HELLO, OPEN, OPENED, Goodbye(1, ""))]),
)


@settings(max_examples=400)
@given(starts, st.lists(parts, max_size=6), places)
def test_any_bytes_give_events_or_a_protocol_error(
    start: tuple[Role, SessionState], pieces: list[bytes], where: list[int]
) -> None:
    """Any bytes give events or a ProtocolError. Byte by byte, they give the same."""
    data = b"".join(pieces)
    assert outcome(start, [data]) == outcome(start, cut(data, where))


def outcome(start: tuple[Role, SessionState], pieces: list[bytes]) -> tuple[list[Event], str]:
    """Return the events of a new session, and its last state or its error."""
    session = at(*start, pending=True)
    seen: list[Event] = []
    try:
        for piece in pieces:
            session.receive_data(piece)
            for event in session.events():
                seen.append(event)
    except ProtocolError as error:
        return seen, str(error)
    assert session.buffered <= 16 + MAX_BODY
    return seen, session.state.value


def test_writes_of_a_return_are_not_judged_by_address() -> None:
    """A session accepts writes to any address; the client checks them against its own memory."""
    _, client = pair()
    client.send(CALL)
    frame = ANSWER._replace(writes=(Write(2**64 - 1, b"ab"), Write(0, b"")))
    assert fed(client, [encode(frame)]) == [frame]


def test_a_complaint_is_as_long_as_a_goodbye_takes() -> None:
    """The text of an error is cut to 255 bytes, so that a GOODBYE can have it."""
    goodbye = complaint(ProtocolError(rules.FRAME_MAGIC, "x" * 300))
    assert len(goodbye.text) == 255
    assert len(encode(goodbye)) == 16 + 4 + 1 + 255
