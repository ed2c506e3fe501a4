"""The server's end of a session, without I/O: bytes in, bytes out, no event loop."""

import itertools
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_abi.codec import ProtocolError, encode
from hcall_abi.exchange import Event
from hcall_abi.frames import (
    FrameType,
    Goodbye,
    GoodbyeReason,
    HReturn,
    Opened,
    OpenStatus,
)
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.session import complaint
from hcall_client.conversation import Conversation, OpenRequest
from hcall_client.errors import SessionEnded
from hcall_server.data_channel.conversation import FLUSH_SIZE, ServerConversation
from hcall_server.data_channel.opening import ListenerFacts, refusal
from hcall_server.machine import logs
from hcall_server.machine.limits import Limits
from hcall_server.machine.sessions import Link
from hcall_server.machine.turns import CALLS
from tests.abi import strategies as wire
from tests.data_channel.ends import OPEN, End, opened
from tests.data_channel.support import KEY, answers, make_machine, read, write


def test_two_conversations_talk_to_each_other() -> None:
    """The client's end and the server's end, directly connected, exchange OPEN, calls and GOODBYE."""
    machine = make_machine("alpha")
    link = Link(0.0, lambda: None)
    server = ServerConversation(machine, link, ListenerFacts(None, demand_proof=True), logs.Log())
    client = Conversation(OpenRequest(access_key=KEY))
    client.receive(server.greet())
    client.receive(b"".join(answers(server, client.take_outgoing())))
    assert client.opened is not None
    waiting = [client.submit(request) for request in (write(b"a", b"data"), read(b"a"))]
    client.receive(b"".join(answers(server, client.take_outgoing())))
    assert read(b"a").parse(waiting[1].result()).data == b"data"
    client.goodbye()
    assert list(answers(server, client.take_outgoing())) == []
    assert server.over
    assert server.farewell is None
    assert isinstance(client.ended, SessionEnded)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=12))
def test_pieces_of_any_size_make_the_same_answers(places: list[int]) -> None:
    """Any division of the stream into pieces gives the client the same frames."""
    end = End()
    data = (
        end.sent(OPEN)
        + encode(write(b"a").frame(1))
        + encode(read(b"a").frame(2))
        + encode(read(b"b").frame(3))
    )
    bounds = sorted({place % len(data) for place in places} | {0, len(data)})
    pieces = [data[start:stop] for start, stop in itertools.pairwise(bounds)]
    out = b"".join(sent_out for piece in pieces for sent_out in answers(end.conversation, piece))
    whole = End()
    assert out == b"".join(answers(whole.conversation, data))
    assert end.machine.counters.calls == whole.machine.counters.calls


def test_the_answers_of_a_turn_are_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R-20: the changes of a turn are handed to the encryptor before any of its answers is sent."""
    end = opened()
    ended: list[str] = []
    monkeypatch.setattr(end.machine, "after_calls", lambda partition, log: ended.append(partition.name))
    pieces = answers(end.conversation, end.calls(*[write(bytes([65 + n])) for n in range(CALLS + 4)]))
    assert [type(event) for event in end.heard([next(pieces)])] == [HReturn] * CALLS
    assert ended == ["alpha"]
    assert [type(event) for event in end.heard(pieces)] == [HReturn] * 4
    assert ended == ["alpha", "alpha"]


def test_a_large_batch_comes_in_bounded_pieces() -> None:
    """Answers are sent once they exceed FLUSH_SIZE; the calls after them wait until then."""
    end = opened()
    end.run(write(b"big", bytes(60_000)))
    pieces = answers(end.conversation, end.calls(*[read(b"big")] * 40))
    first = next(pieces)
    assert FLUSH_SIZE <= len(first) < FLUSH_SIZE + 60_200
    assert end.machine.counters.calls[1].total() == 1 + len(first) // 60_000
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) < FLUSH_SIZE + 60_200
    assert end.machine.counters.calls[1].total() == 41


def stopped(end: End) -> Goodbye:
    """Return the GOODBYE of a conversation that accepts no more bytes."""
    assert end.conversation.over or end.link.ending
    goodbye = end.conversation.farewell
    assert goodbye is not None
    assert end.heard([end.conversation.say(goodbye)])[-1] == goodbye
    assert end.conversation.farewell is None
    return goodbye


@pytest.mark.parametrize("verb", ["ipl", "power_off"])
def test_an_ipl_between_two_pieces_stops_the_batch(verb: str) -> None:
    """R-04: calls that have not run at the IPL do not run."""
    end = opened()
    end.run(write(b"big", bytes(60_000)))
    pieces = answers(end.conversation, end.calls(*[read(b"big")] * CALLS))
    ran = len(end.heard([next(pieces)]))
    getattr(end.machine, verb)("alpha")
    assert list(pieces) == []
    assert end.woken == 1
    assert 0 < ran < CALLS
    assert end.machine.counters.calls[1].total() == 1 + ran
    assert stopped(end).reason == GoodbyeReason.IPL_OR_POWER_OFF


def test_an_ipl_that_nobody_told_is_seen_by_its_number() -> None:
    """R-04: Although the link was not ended, no call of the old IPL runs in the new one.

    The IPL count shows the IPL.
    """
    end = opened()
    end.machine.system.find("alpha").ipl()
    assert end.run(write(b"a")) == []
    assert end.machine.counters.calls[1].total() == 0
    assert stopped(end) == (GoodbyeReason.IPL_OR_POWER_OFF, "a new IPL has begun")


def test_answers_that_are_due_come_before_the_goodbye() -> None:
    """If good calls and a bad frame come in one piece, the calls are answered. The GOODBYE names the rule."""
    end = opened()
    events = end.heard(answers(end.conversation, end.calls(write(b"a"), write(b"b")) + b"HCAX" + bytes(12)))
    assert [type(event) for event in events] == [HReturn] * 2
    assert stopped(end) == (
        GoodbyeReason.PROTOCOL_ERROR,
        "frame.magic: bad magic where the frame before it ends; a frame begins with HCAL",
    )


def test_an_end_by_the_machine_counts_before_a_protocol_error() -> None:
    """If the operator ends a session that also broke the protocol, the client gets the operator's reason."""
    end = opened()
    list(answers(end.conversation, bytes(16)))
    end.link.end(GoodbyeReason.SERVER_STOPPING, "stopping")
    assert stopped(end) == (GoodbyeReason.SERVER_STOPPING, "stopping")


def test_a_goodbye_of_the_client_is_not_answered() -> None:
    """A GOODBYE of the client gets no answer, but the calls before it get theirs."""
    end = opened()
    data = end.calls(write(b"a"), write(b"b")) + end.sent(Goodbye(0, "done"))
    assert kinds(b"".join(answers(end.conversation, data))) == [FrameType.HRETURN] * 2
    assert end.machine.counters.calls[1].total() == 2
    assert end.conversation.over
    assert end.conversation.farewell is None


@pytest.mark.parametrize("partition,status", [(1, 0), (99, 1)])
def test_a_client_that_leaves_behind_its_open_is_told(partition: int, status: int) -> None:
    """If OPEN and GOODBYE come in one piece, OPENED still has the result."""
    end = End()
    ask = end.sent(OPEN._replace(partition=partition))
    data = ask + encode(Goodbye(0, ""))
    (answer,) = answers(end.conversation, data)
    assert kinds(answer) == [FrameType.OPENED]
    assert end.machine.counters.opens[status] == 1
    assert end.conversation.over


@pytest.mark.parametrize("half,expected", [(b"", None), (b"HCAL", "frame.whole")])
def test_the_end_of_the_stream(half: bytes, expected: str | None) -> None:
    """Between two frames, the end of the stream ends the session. Inside a frame, it is a protocol error."""
    end = opened()
    for data in [half, b""] if half else [b""]:
        assert list(answers(end.conversation, data)) == []
    assert end.conversation.over
    goodbye = end.conversation.farewell
    assert (goodbye.text.partition(":")[0] if goodbye else None) == expected


# OPEN


def elsewhere(end: End) -> list[Event]:
    return end.say(OPEN._replace(partition=2))


def unproven(end: End) -> list[Event]:
    return end.say(OPEN._replace(proof_kind=1, proof=b"\1" * 32))


def powered_off(end: End) -> list[Event]:
    end.machine.power_off("alpha")
    return end.say(OPEN)


def crowded(end: End) -> list[Event]:
    other = End(end.machine)
    other.say(OPEN)
    return end.say(OPEN)


def of_later_version(end: End) -> list[Event]:
    frame = bytearray(end.sent(OPEN))
    frame[4] = 2
    return end.heard(answers(end.conversation, bytes(frame)))


REFUSED: dict[Callable[[End], list[Event]], Rule] = {
    elsewhere: rules.OPEN_PARTITION,
    unproven: rules.OPEN_PROOF,
    powered_off: rules.OPEN_POWER,
    crowded: rules.OPEN_SESSIONS,
    of_later_version: rules.OPEN_VERSION,
}


@pytest.mark.parametrize("break_rule", REFUSED)
def test_a_refused_open(break_rule: Callable[[End], list[Event]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused OPEN has the status and the log line of its rule. Then the server closes."""
    lines: list[tuple[str, str]] = []
    monkeypatch.setattr(
        logs.Log, "warning", lambda log, event, **fields: lines.append((event, fields["rule_id"]))
    )
    end = End(make_machine("alpha", "beta", limits=Limits(max_sessions=1)))
    rule = REFUSED[break_rule]
    (answer,) = break_rule(end)
    assert isinstance(answer, Opened)
    assert (answer.tag, answer.status) == (7, rule.answer)
    assert (answer.ipl_count, answer.proof, answer.level) == (0, NO_PROOF, "")
    assert end.machine.counters.opens[answer.status] == 1
    assert lines == [("session.refused", rule.id)]
    assert end.conversation.over
    assert end.conversation.farewell is None
    assert end.link.partition is None


def test_every_rule_of_open_is_broken_above() -> None:
    """The cases above have a rule for each status of OPENED."""
    assert {rule.answer for rule in REFUSED.values()} == set(OpenStatus) - {OpenStatus.OPENED}


def test_a_rule_of_something_else_refuses_no_open() -> None:
    """A rule that is not one of OPEN has no status, so `refusal` raises ValueError."""
    with pytest.raises(ValueError, match=r"frame\.magic does not answer OPEN"):
        refusal(1, rules.FRAME_MAGIC)


BODY = encode(OPEN)[16:]
MALFORMED = {
    "open.fields: malformed OPEN: proof; the body of OPEN has all its fields": BODY[:40],
    "open.reserved: malformed OPEN: a reserved field; the reserved field of OPEN is 0": BODY[:3]
    + b"\1"
    + BODY[4:],
    "open.proof-kind: malformed OPEN: proof_kind 2; the proof kind of OPEN is 0 or 1": BODY[:2]
    + b"\2"
    + BODY[3:],
    "open.proof-zero: malformed OPEN: proof; with proof kind 0 the proof of OPEN is all zero": BODY[:67]
    + b"\1"
    + BODY[68:],
    "open.name: malformed OPEN: name; the name in OPEN is UTF-8": BODY[:-1] + b"\xff",
    "open.end: malformed OPEN: bytes left over; nothing follows the name in OPEN": BODY + b"\0",
}


@pytest.mark.parametrize("text", MALFORMED, ids=[text.partition(":")[0] for text in MALFORMED])
def test_a_malformed_open_names_its_rule_and_its_field(text: str) -> None:
    """After a malformed OPEN, GOODBYE has the rule and the field. Of the bytes it has only the proof kind."""
    end = End()
    frame = wire.framed(FrameType.OPEN, MALFORMED[text], 7)
    assert list(answers(end.conversation, frame)) == []
    assert end.conversation.farewell == (GoodbyeReason.PROTOCOL_ERROR, text)


def test_every_complaint_fits_a_goodbye() -> None:
    """Long texts are cut to 255 bytes, at a whole character."""
    goodbye = complaint(ProtocolError(rules.FRAME_MAGIC, "ü" * 200))
    assert len(goodbye.text.encode()) <= 255
    assert encode(goodbye)


parts = st.one_of(
    st.binary(max_size=64),
    wire.damaged(wire.hcalls.map(wire.hcall_bytes)),
    wire.damaged(wire.opens.map(wire.open_bytes)),
    wire.hcalls.map(wire.hcall_bytes),
    st.sampled_from([encode(OPEN), encode(Goodbye(0, ""))]),
)
MACHINE = make_machine("alpha", "beta")


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(parts, max_size=5))
def test_any_bytes_are_answered_or_end_the_session(is_open: bool, pieces: list[bytes]) -> None:
    """For any bytes, the answers are whole frames: one per call that ran, then GOODBYE after a bad frame."""
    end = opened(MACHINE) if is_open else End(MACHINE)
    before = MACHINE.counters.calls[1].total()
    out = b"".join(sent_out for piece in pieces if piece for sent_out in answers(end.conversation, piece))
    answered, ran = kinds(out), MACHINE.counters.calls[1].total() - before
    assert set(answered) <= {FrameType.OPENED, FrameType.HRETURN}
    if goodbye := end.conversation.farewell:
        assert goodbye.reason == GoodbyeReason.PROTOCOL_ERROR
        assert kinds(end.conversation.say(goodbye)) == [FrameType.GOODBYE]
    assert answered.count(FrameType.HRETURN) == ran
    MACHINE.sessions.remove(end.link)


def kinds(data: bytes) -> list[int]:
    """Return the types of consecutive frames."""
    found = []
    while data:
        magic, _, kind, _, _, length = struct.unpack_from(">4sBBHII", data)
        assert magic == b"HCAL"
        assert len(data) >= 16 + length
        found.append(kind)
        data = data[16 + length :]
    return found
