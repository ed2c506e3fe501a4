"""Chapters `open`, `call` and `close`: the client's frames to a server that makes no fault."""

from __future__ import annotations

from functools import partial

from hcall_abi.frames import MAX_BODY, Access, Goodbye, GoodbyeReason, HCall, Open, ProofKind, Segment
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules import protocol as rules
from swpks.conformance.case import Deviation
from swpks.conformance.client.cases.made import (
    FRAMING,
    GOODBYE,
    HCALL,
    OPEN,
    OPENED,
    SESSIONS,
    STATES,
    made,
)
from swpks.conformance.client.lines import call_line
from swpks.conformance.client.trial import Trial
from swpks.conformance.client.usual import CHANGE, answer, hello, opened, plan

_TOP = (1 << 64) - 16
_ONES = (1 << 64) - 1
_FIXED = 88
"""Bytes of an HCALL's body before its segment table."""
_ENTRY = 16


def _opened_fields(trial: Trial, partition: int, ipl_count: int, level: str) -> None:
    opening = trial.greet()
    opening.connection.say(opened(opening)._replace(partition=partition, ipl_count=ipl_count, level=level))
    trial.opened(partition, ipl_count, level)
    trial.close(opening.connection)


def _partition(trial: Trial, partition: int) -> None:
    opening = trial.greet(partition=partition)
    trial.admit(opening)
    asked = opening.open
    if asked.partition != partition:
        raise Deviation(f"OPEN of partition {partition}", f"partition {asked.partition}")


def _no_proof(trial: Trial) -> None:
    opening = trial.greet()
    trial.admit(opening)
    asked = opening.open
    if asked.proof_kind != ProofKind.NONE or asked.proof != NO_PROOF:
        raise Deviation("proof kind 0 and a proof of zeros, without a key", f"kind {asked.proof_kind}")


def _fresh_nonce(trial: Trial) -> None:
    nonces = []
    for _ in range(2):
        opening = trial.greet()
        nonces.append(opening.open.nonce)
        trial.admit(opening)
        trial.close(opening.connection)
    if nonces[0] == nonces[1] or not all(map(any, nonces)):
        raise Deviation("a random nonce, another one in each session", "the same nonce twice, or zeros")


def _waits_for_hello(trial: Trial) -> None:
    # The server sends GOODBYE in place of HELLO.  If the client has sent OPEN too early, `rest` returns it.
    connection = trial.dial()
    connection.say(Goodbye(GoodbyeReason.SERVER_STOPPING, "stopping"))
    if any(isinstance(frame, Open | HCall) for frame in connection.rest()):
        raise Deviation("nothing before HELLO", "a frame of the client")
    trial.numbered("ended", GoodbyeReason.SERVER_STOPPING)


def _one_open(trial: Trial) -> None:
    opening = trial.greet()
    opening.connection.say(opened(opening, status=1))
    if any(not isinstance(frame, Goodbye) for frame in opening.connection.rest()):
        raise Deviation("nothing but GOODBYE after OPENED with status 1", "another frame")
    trial.numbered("refused", 1)


def _call(trial: Trial, made_call: HCall) -> None:
    connection = trial.open()
    call = trial.call(connection, made_call)
    connection.say(answer(call))
    trial.returned(0)
    trial.close(connection)


def _many(trial: Trial, count: int) -> None:
    # The first answer is sent after the last call: a client that waits for each answer never sends the second
    # call.
    connection = trial.open()
    calls = trial.pipeline(connection, [plan(registers=(0x4000, 24, n)) for n in range(count)])
    # Each answer has its number in r4.  The tags may repeat, so only r4 shows whether the client has mixed up
    # two answers.
    connection.say(*(answer(call, 0, n) for n, call in enumerate(calls, 1)))
    for n in range(1, count + 1):
        trial.returned(0, n)
    trial.close(connection)


def _with_body(size: int) -> HCall:
    """Return a call whose body has `size` bytes."""
    data = bytes(n & 0xFF for n in range(size - _FIXED - _ENTRY))
    return plan(registers=(0x10000,), segments=[Segment.read(0x10000, data)])


def _max_body(trial: Trial, most: int, size: int) -> None:
    connection = trial.open(greeting=hello(max_body=most))
    if size > most:
        trial.client.command(call_line(_with_body(size)))
        trial.report("too-large")
    else:
        call = trial.call(connection, _with_body(size))
        connection.say(answer(call))
        trial.returned(0)
    # The session must go on: a call that is too large is refused before it is sent.
    call = trial.call(connection, plan())
    connection.say(answer(call))
    trial.returned(0)
    trial.close(connection)


def _close(trial: Trial, *, called: bool) -> None:
    connection = trial.open()
    if called:
        call = trial.call(connection, CHANGE)
        connection.say(answer(call))
        trial.returned(0)
    trial.close(connection)


def _tcp(trial: Trial) -> None:
    key = bytes(range(32))
    connection = trial.open(tcp=True, key=key)
    call = trial.call(connection, plan())
    connection.say(answer(call))
    trial.returned(0)
    trial.close(connection)


def _no_server(trial: Trial) -> None:
    place = trial.deserted()
    trial.client.command(f"open {place}")
    trial.report("unreachable")


_LATER = Segment.written(0x9000, 32)
_EARLIER = Segment.read(0x2000, b"earlier")
_CALLS = {
    "config": plan(),
    "change": CHANGE,
    "no-segments": plan(registers=(), segments=()),
    "all-registers": plan(registers=range(0x1122334455667788, 0x1122334455667788 + 9), segments=()),
    "high-registers": plan(registers=(_ONES,) * 9, segments=()),
    "unknown-opcode": plan(0x7FF0, segments=()),
    "highest-opcode": plan(_ONES, segments=()),
    "both-ways": plan(segments=[Segment(0x4000, 24, Access.BOTH, bytes(range(24)))]),
    "any-order": plan(registers=(0x9000,), segments=[_LATER, _EARLIER]),
    "top-of-memory": plan(registers=(_TOP, 16), segments=[Segment.written(_TOP, 16)]),
    "neighbours": plan(segments=[Segment.read(0x1000, bytes(range(16))), Segment.written(0x1010, 8)]),
    "empty-segment": plan(segments=[Segment.read(0x1000, b""), Segment.written(0x4000, 24)]),
    "many-segments": plan(segments=[Segment.read(0x1000 + 32 * n, bytes([n] * 8)) for n in range(64)]),
    # HCALL has no bytes of a segment that only the server writes.  So this segment may be longer than the
    # largest body.
    "large-output": plan(segments=[Segment.written(0x100000, 0xFFFFFFFF)]),
}

CASES = (
    *(
        made(f"open.{name}", OPENED, partial(_opened_fields, partition=p, ipl_count=i, level=level))
        for name, p, i, level in (
            ("fields", 3, 7, "FW1110"),
            ("highest-numbers", 0xFFFF, 0xFFFFFFFF, "FW950"),
            ("unknown-level", 1, 1, "FW2050 \u00e9t\u00e9"),
            ("empty-level", 1, 0, ""),
            ("longest-level", 2, 2, "L" * 255),
        )
    ),
    *(made(f"open.partition-{n}", OPEN, partial(_partition, partition=n)) for n in (0, 3, 0xFFFF)),
    made("open.no-proof", OPEN, _no_proof, rules.OPEN_PROOF_ZERO),
    made("open.fresh-nonce", OPEN, _fresh_nonce),
    made("open.waits-for-hello", STATES, _waits_for_hello, rules.SESSION_STATE),
    made("open.once", STATES, _one_open, rules.SESSION_STATE),
    made("open.tcp", "spec/protocol.md#proof", _tcp),
    made("open.no-server", OPENED, _no_server, rules.OPEN_PLACE),
    *(made(f"call.{name}", HCALL, partial(_call, made_call=call)) for name, call in _CALLS.items()),
    made("call.two-in-flight", SESSIONS, partial(_many, count=2)),
    made("call.many-in-flight", SESSIONS, partial(_many, count=200)),
    made("call.largest-body", FRAMING, partial(_max_body, most=MAX_BODY, size=MAX_BODY)),
    made("call.fits-max-body", FRAMING, partial(_max_body, most=1000, size=1000), rules.CALL_SIZE),
    made("call.exceeds-max-body", FRAMING, partial(_max_body, most=1000, size=1001), rules.CALL_SIZE),
    made("close.after-open", GOODBYE, partial(_close, called=False), rules.SESSION_GOODBYE),
    made("close.after-a-call", GOODBYE, partial(_close, called=True), rules.SESSION_GOODBYE),
)
