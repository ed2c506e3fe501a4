"""The state table of the data channel: every state, role and frame type, on both sides."""

import itertools

import pytest

from hcall_abi.codec import ProtocolError, decode_hcall, encode
from hcall_abi.frames import Frame, FrameType, HCall, Hello, Open, Opened, Segment
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Fault
from hcall_abi.session import LocalProtocolError, OtherVersion, Role, Session, SessionState
from tests.abi import sessions
from tests.abi.sessions import ANSWER, CALL, FRAMES, OPEN, OPENED, TABLE, ZEROS, at, fed, pair
from tests.abi.strategies import framed, header

EVERY = list(itertools.product(SessionState, Role, FrameType))
NAMES = [f"{state.value}-{role.value}-{kind.name}" for state, role, kind in EVERY]


@pytest.mark.parametrize("state,role,kind", EVERY, ids=NAMES)
def test_sending(state: SessionState, role: Role, kind: FrameType) -> None:
    """A session sends a frame that the table allows; another frame raises and changes nothing."""
    session = at(role, state, pending=True)
    follows = TABLE[state].get((role, kind))
    if follows is None:
        with pytest.raises(LocalProtocolError):
            session.send(FRAMES[kind])
        assert session.state is state
    else:
        assert session.send(FRAMES[kind]) == encode(FRAMES[kind])
        assert session.state is follows


@pytest.mark.parametrize("state,role,kind", EVERY, ids=NAMES)
def test_receiving(state: SessionState, role: Role, kind: FrameType) -> None:
    """A session accepts a frame that the table allows; the header of another frame is an error.

    A closed session ignores bytes.
    """
    peer = Role.CLIENT if role is Role.SERVER else Role.SERVER
    session = at(role, state, pending=True)
    follows = TABLE[state].get((peer, kind))
    session.receive_data(encode(FRAMES[kind]))
    if state is SessionState.CLOSED:
        assert list(session.events()) == []
        assert session.buffered == 0
    elif follows is None:
        for _ in range(2):  # each later call raises the same error again
            with pytest.raises(ProtocolError) as caught:
                list(session.events())
            assert caught.value.rule.page == "spec/protocol.md#states"
            assert caught.value.fault is Fault.PEER
        assert session.state is state
    else:
        assert list(session.events()) == [FRAMES[kind]]
        assert session.state is follows


FIXED_BITS = {
    # position of a header bit before the tag and the length -> the rule that a frame breaks if this bit is
    # flipped
    **dict.fromkeys(range(32), rules.FRAME_MAGIC),
    **dict.fromkeys(range(32, 40), rules.FRAME_VERSION),
    **dict.fromkeys(range(48, 64), rules.FRAME_FLAGS),
}


@pytest.mark.parametrize("bit", FIXED_BITS)
def test_the_short_cut_for_calls_reads_the_whole_header(bit: int) -> None:
    """After many good calls, an HCALL with a flag, another magic or another version is still refused."""
    server, good = at(Role.SERVER, SessionState.OPEN), encode(CALL)
    spoilt = bytearray(good)
    spoilt[bit // 8] ^= 0x80 >> bit % 8
    server.receive_data(good + bytes(spoilt))
    ((tag, start, end),) = server.spans(64)
    assert decode_hcall(tag, server.data, start, end) == CALL
    with pytest.raises(ProtocolError) as caught:
        server.next_event()
    assert caught.value.rule is FIXED_BITS[bit]


@pytest.mark.parametrize("kind", [FrameType.HCALL, FrameType.OPENED])
def test_a_forbidden_frame_is_refused_before_its_body(kind: FrameType) -> None:
    """In GREETED the server refuses an HCALL or OPENED by its first 16 bytes."""
    server = at(Role.SERVER, SessionState.GREETED)
    server.receive_data(header(kind, 1, 100_000))
    with pytest.raises(ProtocolError, match=r"(HCALL|OPENED) from the client in state greeted"):
        list(server.events())


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, -1, 2**31 - 1, -(2**31)])
def test_any_other_status_refuses(status: int) -> None:
    """OPENED with a status other than 0 leads both ends to REFUSED, where only GOODBYE may follow."""
    server, client = pair(SessionState.OPENING)
    frame = OPENED._replace(status=status)
    assert fed(client, [server.send(frame)]) == [frame]
    assert server.state is client.state is SessionState.REFUSED
    with pytest.raises(LocalProtocolError):
        client.send(CALL)
    assert fed(client, [server.send(sessions.BYE)]) == [sessions.BYE]


def test_each_event_sees_the_state_of_its_moment() -> None:
    """An HCALL that arrives together with the OPEN is accepted if the server answers the OPEN first."""
    server = at(Role.SERVER, SessionState.GREETED)
    server.receive_data(encode(OPEN) + encode(CALL))
    events = server.events()
    assert next(events) == OPEN
    server.send(OPENED)
    assert next(events) == CALL


def test_nothing_after_a_goodbye() -> None:
    """Frames after a GOODBYE are dropped, in the same piece of bytes or in a later one."""
    server = at(Role.SERVER, SessionState.OPEN)
    assert fed(server, [encode(sessions.BYE) + encode(CALL), encode(CALL), b"junk" * 8]) == [sessions.BYE]
    assert server.state is SessionState.CLOSED


# Tags


def calls(*tags: int) -> list[HCall]:
    return [CALL._replace(tag=tag) for tag in tags]


def test_answers_in_order_with_their_tags() -> None:
    """Calls in flight are answered in the order sent.  The client chooses the tags, and may repeat them."""
    server, client = pair()
    sent = calls(5, 0, 5, 2**32 - 1)
    assert fed(server, [b"".join(client.send(call) for call in sent)]) == sent
    assert server.pending == client.pending == 4
    answers = [ANSWER._replace(tag=call.tag) for call in sent]
    assert fed(client, [server.send(answer) for answer in answers]) == answers
    assert server.pending == client.pending == 0


def test_the_server_may_not_answer_out_of_order() -> None:
    """The server may not answer out of order, twice, or without a call.

    A refused attempt changes nothing.
    """
    server, client = pair()
    fed(server, [client.send(call) for call in calls(1, 2)])
    with pytest.raises(LocalProtocolError):
        server.send(ANSWER._replace(tag=2))
    server.send(ANSWER._replace(tag=1))
    server.send(ANSWER._replace(tag=2))
    with pytest.raises(LocalProtocolError):
        server.send(ANSWER._replace(tag=2))


@pytest.mark.parametrize("sent,answered", [((1, 2), 2), ((1,), 0), ((), 1)])
def test_a_client_refuses_a_wrong_tag(sent: tuple[int, ...], answered: int) -> None:
    """For a client, an answer without a call or in the wrong order is an error."""
    _, client = pair()
    for call in calls(*sent):
        client.send(call)
    client.receive_data(encode(ANSWER._replace(tag=answered)))
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            list(client.events())
        assert caught.value.rule.page == "spec/protocol.md#tags"
    assert client.pending == len(sent)


def test_opened_echoes_the_tag_of_open() -> None:
    """OPENED has the tag of OPEN, on both sides."""
    server, client = pair(SessionState.OPENING)
    with pytest.raises(LocalProtocolError):
        server.send(OPENED._replace(tag=9))
    client.receive_data(encode(OPENED._replace(tag=9)))
    with pytest.raises(ProtocolError, match="unexpected tag"):
        list(client.events())


@pytest.mark.parametrize("role,kind", [(Role.CLIENT, FrameType.HELLO), (Role.SERVER, FrameType.GOODBYE)])
def test_no_tag_where_none_belongs(role: Role, kind: FrameType) -> None:
    """A HELLO or GOODBYE with a tag other than 0 is an error."""
    session = Session(role)
    session.receive_data(header(kind, 1, 0))
    with pytest.raises(ProtocolError, match="with tag 1"):
        list(session.events())


# Versions


@pytest.mark.parametrize("version", [0, 2, 255])
def test_an_open_of_another_version_is_an_event(version: int) -> None:
    """Body and flags of an OPEN of another version are skipped. The server can answer it with status 4."""
    server = at(Role.SERVER, SessionState.GREETED)
    body = b"a body of some later version"
    frame = header(FrameType.OPEN, 99, len(body), version=version, flags=0x8000) + body
    assert fed(server, [bytes([byte]) for byte in frame]) == [OtherVersion(99, version)]
    answer = Opened(99, 4, 0, 0, bytes(32), "")
    assert server.send(answer) == encode(answer)
    assert server.state is SessionState.REFUSED


@pytest.mark.parametrize(
    "role,state,kind",
    [
        (Role.SERVER, SessionState.START, FrameType.OPEN),
        (Role.SERVER, SessionState.OPENING, FrameType.OPEN),
        (Role.SERVER, SessionState.GREETED, FrameType.HCALL),
        (Role.SERVER, SessionState.OPEN, FrameType.HCALL),
        (Role.CLIENT, SessionState.START, FrameType.HELLO),
        (Role.CLIENT, SessionState.GREETED, FrameType.OPEN),
        (Role.CLIENT, SessionState.OPEN, FrameType.HRETURN),
        (Role.SERVER, SessionState.OPEN, FrameType.GOODBYE),
    ],
)
def test_any_other_frame_of_another_version_is_an_error(
    role: Role, state: SessionState, kind: FrameType
) -> None:
    """Only OPEN may have another version, and only in a state that expects an OPEN."""
    session = at(role, state)
    session.receive_data(header(kind, 0, 0, version=2))
    with pytest.raises(ProtocolError, match="version 2"):
        list(session.events())


# Frames of a client


def test_a_client_heeds_the_servers_largest_body() -> None:
    """A client refuses to send a call whose body is larger than HELLO allows.

    One of exactly that size is sent.
    """
    client = Session(Role.CLIENT)
    hello = Hello(1, 1, 200, 0, bytes(32), "")
    fed(client, [encode(hello)])
    client.send(OPEN)
    fed(client, [encode(OPENED)])
    fits = HCall(1, 0, ZEROS, (Segment.read(0, b"x" * (200 - 88 - 16)),))
    assert len(client.send(fits)) == 16 + 200
    with pytest.raises(LocalProtocolError, match="200"):
        client.send(fits._replace(segments=(Segment.read(0, b"x" * (201 - 88 - 16)),)))
    assert client.pending == 1


@pytest.mark.parametrize(
    "frame",
    [
        CALL._replace(opcode=2**64),
        CALL._replace(tag=-1),
        CALL._replace(registers=(0,) * 8),
        CALL._replace(segments=(Segment.written(-1, 1),)),
    ],
)
def test_a_frame_that_cannot_be_encoded_changes_nothing(frame: Frame) -> None:
    """If the caller's frame cannot be encoded, `send` raises, and no call becomes pending."""
    _, client = pair()
    with pytest.raises(Exception, match=r"."):
        client.send(frame)
    assert client.pending == 0


def test_garbage_is_named_by_its_magic() -> None:
    """For an HTTP request on the data channel, the error names the wrong magic, and not the length."""
    server = at(Role.SERVER, SessionState.OPEN)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    with pytest.raises(ProtocolError, match="bad magic"):
        list(server.events())


@pytest.mark.parametrize(
    "magic,shown", [(b"GET ", "bad magic 47 45 54 20 ('GET ')"), (b"\x16\3\1\2", "bad magic 16 03 01 02")]
)
def test_the_first_magic_is_shown(magic: bytes, shown: str) -> None:
    """The message has the bytes before a session alone: later they may be object data."""
    for state in (SessionState.GREETED, SessionState.OPENING, SessionState.OPEN):
        server = at(Role.SERVER, state)
        server.receive_data(magic + bytes(12))
        with pytest.raises(ProtocolError) as caught:
            list(server.events())
        inside = state is SessionState.OPEN
        assert caught.value.message == ("bad magic where the frame before it ends" if inside else shown)


@pytest.mark.parametrize("kind", [0, 7, 255])
def test_unknown_frame_types(kind: int) -> None:
    """A header with an unknown frame type is refused."""
    server = at(Role.SERVER, SessionState.OPEN)
    server.receive_data(header(kind, 0, 10))
    with pytest.raises(ProtocolError, match="frame type"):
        list(server.events())


@pytest.mark.parametrize("flag", range(16))
def test_unknown_flags(flag: int) -> None:
    """A header with any flag bit is refused, because no flag has a meaning yet."""
    server = at(Role.SERVER, SessionState.OPEN)
    server.receive_data(header(FrameType.HCALL, 1, 88, flags=1 << flag))
    with pytest.raises(ProtocolError, match="flags"):
        list(server.events())


def test_a_hello_that_contradicts_itself() -> None:
    """A HELLO with its lowest version above its highest is refused."""
    client = Session(Role.CLIENT)
    client.receive_data(framed(FrameType.HELLO, bytes([2, 1]) + bytes(47)))
    with pytest.raises(ProtocolError) as caught:
        list(client.events())
    assert caught.value.rule.page == "spec/protocol.md#hello"


def test_isinstance_of_events() -> None:
    """Events are frames, so a caller can match on their classes."""
    server = at(Role.SERVER, SessionState.GREETED)
    (event,) = fed(server, [encode(OPEN)])
    assert isinstance(event, Open)
