"""Sessions: many calls in flight, several sessions of one partition, and calls that a level lacks."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.codec import encode
from hcall_abi.frames import HCall, HReturn
from hcall_abi.rules import hcalls, protocol
from hcall_abi.statuses import REGISTERS, Status
from swpks.conformance.case import ConformanceCase, Deviation, by_rule
from swpks.conformance.server.draft import NOWHERE, Draft
from swpks.conformance.server.judged import SYSTEM, Attempt, Facts, Judged

_SESSIONS = "spec/protocol.md#sessions"
_TAGS = "spec/protocol.md#tags"
_HCALL = "spec/protocol.md#hcall"
_REGISTERS = "spec/hcalls/index.md#registers"
_IN_FLIGHT = 100
UNKNOWN = (0, 1, 0x418, 0x440, 0x450, 0x48C, 0x498, 0x4B4, 0xF000, (1 << 64) - 1)
"""Numbers that no call of the keystore has: those beside its calls, small ones, and the largest."""


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    for opcode in UNKNOWN:
        yield by_rule(f"sessions.opcode-0x{opcode:x}", hcalls.CALL_SERVED, _unknown(opcode), page=_HCALL)
    for call in CALLS:
        if call not in facts.level.calls:
            name = call.name.lower().replace("_", "-")
            yield by_rule(f"sessions.no-{name}", hcalls.CALL_SERVED, _not_served(call))
    yield by_rule("sessions.repeated-tags", protocol.SESSION_TAG, _repeated_tags)
    yield by_rule("sessions.answers-in-order", protocol.SESSION_TAG, _in_order)
    if facts.level.has_keystore:
        yield ConformanceCase("sessions.calls-in-order", _SESSIONS, "", _calls_in_order)
        yield ConformanceCase("sessions.two-see-one-store", _SESSIONS, "", _two_see_one_store)
        yield ConformanceCase("sessions.interleaved", _SESSIONS, "", _interleaved)
        yield ConformanceCase("sessions.half-a-frame-holds-up-none", _SESSIONS, "", _half_a_frame)
        yield ConformanceCase(
            "sessions.unused-registers", "spec/hcalls/index.md#registers", "", _unused_registers
        )


def _unknown(opcode: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        session = judged.open()
        call = HCall(9, opcode, (NOWHERE,) * REGISTERS, ())
        session.connection.send(encode(call), f"HCALL with opcode 0x{opcode:X}")
        _expect_function(session.connection.frame("HRETURN"))

    return attempt


def _not_served(opcode: Opcode) -> Attempt:
    """Return a case that makes a call which the level lacks.

    The arguments of the call are wrong too.  The server must return H_FUNCTION, because this check comes
    before any check of arguments.
    """

    def attempt(judged: Judged) -> None:
        session = judged.open()
        draft = Draft(opcode)
        draft.registers = dict.fromkeys(draft.registers, NOWHERE)
        session.connection.send(encode(draft.frame(9)), str(draft))
        _expect_function(session.connection.frame("HRETURN"))

    return attempt


def _expect_function(frame: object) -> None:
    if not isinstance(frame, HReturn) or frame.status != Status.H_FUNCTION:
        raise Deviation("HRETURN with H_FUNCTION", repr(frame))
    if any(frame.registers) or frame.writes:
        raise Deviation("no result beside H_FUNCTION", repr(frame))


def _repeated_tags(judged: Judged) -> None:
    """Calls in flight may have the same tag."""
    session = judged.open()
    call = HCall(5, 0, (0,) * REGISTERS, ())
    session.connection.send(encode(call) * 3, "three HCALLs with tag 5")
    for _ in range(3):
        frame = session.connection.frame("HRETURN")
        if not isinstance(frame, HReturn) or frame.tag != 5:
            raise Deviation("HRETURN with tag 5", repr(frame))


def _in_order(judged: Judged) -> None:
    """The server answers calls in the order in which they came; their tags show the order."""
    session = judged.open()
    # The tags neither rise nor fall: a server that sorts its answers by tag must fail.
    tags = [tag * 7919 % 65521 for tag in range(1, _IN_FLIGHT + 1)]
    calls = b"".join(encode(HCall(tag, 0, (0,) * REGISTERS, ())) for tag in tags)
    session.connection.send(calls, f"{_IN_FLIGHT} HCALLs at once")
    came = [getattr(session.connection.frame("HRETURN"), "tag", None) for _ in tags]
    if came != tags:
        raise Deviation("the tags in the order of the calls", "another order")


def _calls_in_order(judged: Judged) -> None:
    """Calls of one connection run in the order sent: write, read, remove, read."""
    label = judged.label()
    auth = judged.auth()
    write = Draft.of(Opcode.WRITE_OBJECT, authorization=auth, label=label, data=b"first")
    read = Draft.of(Opcode.READ_OBJECT, authorization=auth, label=label, data=64)
    remove = Draft.of(Opcode.REMOVE_OBJECT, authorization=auth, label=label)
    answers = judged.open().calls([write, read, remove, read])
    statuses = [answer.status for answer in answers]
    if statuses != [Status.H_SUCCESS] * 3 + [Status.H_NOT_FOUND]:
        raise Deviation("write, read and remove succeed, and the next read is H_NOT_FOUND", str(statuses))
    answers[1].expect_written(b"first")


def _two_see_one_store(judged: Judged) -> None:
    """A call that was answered has taken effect for every session."""
    label = judged.label()
    judged.write(label, b"seen").expect(Status.H_SUCCESS)
    other = judged.open()
    read = Draft.of(Opcode.READ_OBJECT, authorization=judged.auth(), label=label, data=64)
    other.call(read).expect(Status.H_SUCCESS).expect_written(b"seen")


def _interleaved(judged: Judged) -> None:
    """Each of two sessions with many calls in flight gets all its own answers."""
    first, second = judged.open(), judged.open()
    configs = [Draft.of(Opcode.GET_CONFIG, config=24) for _ in range(40)]
    lists = [
        Draft.of(Opcode.GET_OBJECTLABELS, authorization=judged.auth(SYSTEM), labels=64) for _ in range(40)
    ]
    for answer in first.calls(configs) + second.calls(lists) + second.calls(configs):
        answer.expect(Status.H_SUCCESS)


def _half_a_frame(judged: Judged) -> None:
    """A session with an unfinished frame delays no other session, and goes on when the rest comes."""
    # 50 bytes are the header and a part of the body, so the server knows that more bytes have to come.
    slow = judged.open()
    data = encode(Draft.of(Opcode.GET_CONFIG, config=24).frame(3))
    slow.connection.send(data[:50], "half an HCALL")
    judged.do(Opcode.GET_CONFIG, config=24).expect(Status.H_SUCCESS)
    slow.connection.send(data[50:], "the rest of the HCALL")
    slow.connection.frame("HRETURN")


def _unused_registers(judged: Judged) -> None:
    """The server does not check registers for which the call has no argument."""
    draft = Draft.of(Opcode.GET_CONFIG, config=24)
    draft.unused = NOWHERE
    judged.call(draft).expect(Status.H_SUCCESS)
