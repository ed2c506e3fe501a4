"""The client's end of a session, without I/O, for valid bytes in any pieces and for arbitrary bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import Goodbye, GoodbyeReason, HCall, Hello, Open, Opened
from hcall_abi.session import LocalProtocolError, Role, Session
from hcall_client.calls import Authorization, raw_call, write_object
from hcall_client.conversation import Conversation, OpenRequest
from hcall_client.errors import ConnectionLost
from tests.client.peer import HELLO, KEY, READ, answer, read_answer

WRITE = write_object(Authorization(3), b"label", b"data")
OPENED = Opened(1, 0, 7, 3, bytes(32), "FW1110")


def opened_pair():
    """Return an open conversation, and the server's session at the other end."""
    client, server = Conversation(OpenRequest()), Session(Role.SERVER)
    client.receive(server.send(HELLO))
    server.receive_data(client.take_outgoing())
    assert isinstance(next(server.events()), Open)
    client.receive(server.send(OPENED))
    assert client.opened == OPENED
    return client, server


def calls_at(server, client):
    server.receive_data(client.take_outgoing())
    return [event for event in server.events() if isinstance(event, HCall)]


@given(st.lists(st.integers(0, 300), max_size=30))
def test_answers_may_come_in_any_pieces(cuts):
    """Wherever the stream is cut, the same answers reach the same calls."""
    client, server = opened_pair()
    waiting = [client.submit(READ) for _ in range(3)]
    replies = [read_answer(call, bytes([65 + n])) for n, call in enumerate(calls_at(server, client))]
    stream = b"".join(server.send(reply) for reply in replies)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, end in itertools.pairwise(places):
        client.receive(stream[start:end])
    assert [READ.parse(pending.result()).data for pending in waiting] == [b"A", b"B", b"C"]


@given(st.binary(min_size=1, max_size=400), st.booleans())
def test_any_bytes_are_an_answer_or_a_clean_end(data, opened):
    """`receive` never raises: bytes outside the protocol end the session with an error that says so."""
    client = opened_pair()[0] if opened else Conversation(OpenRequest())
    client.receive(data)
    client.receive(b"")
    assert isinstance(client.ended, SwpksError)
    with pytest.raises(type(client.ended)):
        client.submit(READ)
    before = client.ended
    client.receive(data)
    client.goodbye()
    assert client.ended is before


def test_tags_go_round():
    client, server = opened_pair()
    client._tag = 0xFFFFFFFE
    for _ in range(3):
        client.submit(READ)
    assert [call.tag for call in calls_at(server, client)] == [0xFFFFFFFF, 0, 1]


def test_no_call_before_the_session_is_open():
    with pytest.raises(LocalProtocolError):
        Conversation(OpenRequest()).submit(READ)


def test_the_end_of_the_stream_ends_every_call():
    client, _ = opened_pair()
    done = []
    pending = client.submit(READ)
    pending.on_done = lambda: done.append(pending)
    client.receive(b"")
    assert done == [pending]
    with pytest.raises(ConnectionLost):
        pending.result()


@pytest.mark.parametrize("end", [*GoodbyeReason, "eof", "broken rule", "own goodbye"])
def test_a_change_in_flight_is_unknown(end):
    """R-55: Only after GOODBYE 3 is it certain that a call without an answer has not run."""
    client, server = opened_pair()
    read, write, again = client.submit(READ), client.submit(WRITE), client.submit(WRITE)
    first, *_ = calls_at(server, client)
    if end == "eof":
        client.receive(server.send(read_answer(first)))
        client.receive(b"")
    elif end == "broken rule":
        client.receive(server.send(read_answer(first)) + bytes(16))
    elif end == "own goodbye":
        client.receive(server.send(read_answer(first)))
        client.goodbye()
    else:
        client.receive(server.send(read_answer(first)) + server.send(Goodbye(end, "the reason")))
    assert read.result()
    for pending in (write, again):
        with pytest.raises(type(client.ended)) as lost:
            pending.result()
        promised = end is GoodbyeReason.MIGRATED
        assert lost.value.unknown is not promised
        assert ("it is not known whether H_PKS_WRITE_OBJECT has run" in str(lost.value)) is not promised
        assert lost.value.rule is client.ended.rule
    with pytest.raises(type(client.ended)) as late:
        client.submit(WRITE)
    assert not late.value.unknown, "the call was not sent"


def test_a_read_in_flight_has_changed_nothing():
    client, _ = opened_pair()
    pending = client.submit(READ)
    client.receive(b"")
    with pytest.raises(ConnectionLost) as lost:
        pending.result()
    assert lost.value is client.ended


def test_a_hello_with_a_range_of_versions_is_fine():
    client, server = Conversation(OpenRequest()), Session(Role.SERVER)
    client.receive(server.send(Hello(0, 9, 1 << 20, 5, bytes(32), "newer")))
    assert client.ended is None
    assert client.outgoing


def test_keys_and_nonces_are_not_shown():
    opening = OpenRequest(3, KEY)
    assert repr(opening) == "OpenRequest(partition=3, name='hcall_client')"
    assert "x00" not in repr(Conversation(opening))


def test_each_session_has_its_own_nonce():
    """A recorded proof opens no later session."""
    nonces = set()
    for _ in range(5):
        client, server = Conversation(OpenRequest(access_key=KEY)), Session(Role.SERVER)
        client.receive(server.send(HELLO))
        server.receive_data(client.take_outgoing())
        asked = next(server.events())
        assert isinstance(asked, Open)
        nonces.add(asked.nonce)
    assert len(nonces) == 5


def test_a_wrong_answer_is_a_peer_error():
    client, server = opened_pair()
    pending = client.submit(raw_call(1))
    (call,) = calls_at(server, client)
    frame = bytearray(server.send(answer(call)))
    frame[11] ^= 1
    client.receive(bytes(frame))
    with pytest.raises(PeerError, match="unexpected tag"):
        pending.result()
    server.receive_data(client.take_outgoing())
    (goodbye,) = server.events()
    assert isinstance(goodbye, Goodbye)
    assert goodbye.reason == GoodbyeReason.PROTOCOL_ERROR
    assert goodbye.text.startswith("session.tag: HRETURN with unexpected tag")
