"""Chapter `answer`: the client reports right HRETURNs, and refuses writes outside of output buffers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hcall_abi.frames import MAX_BODY, Access, Segment, Write
from hcall_abi.rules import protocol as rules
from swpks.conformance.client.cases.made import FRAMING, HRETURN, STATUSES, made
from swpks.conformance.client.trial import Trial
from swpks.conformance.client.usual import CHANGE, answer, plan

_LARGEST = MAX_BODY - 88 - 16
"""Bytes of one write in the largest HRETURN."""
_OUT, _IN = 0x4000, 0x8000
_MEMORY = (
    Segment.read(_IN, bytes(16)),
    Segment.written(_OUT, 24),
    Segment(0xA000, 16, Access.BOTH, bytes(16)),
)
_SIX = bytes(range(1, 7))


def _status(trial: Trial, status: int) -> None:
    connection = trial.open()
    call = trial.call(connection, CHANGE)
    connection.say(answer(call, status))
    trial.returned(status)
    # The next frame must be the new call.  A client that repeats a busy call by itself sends the old call
    # here.
    call = trial.call(connection, plan())
    connection.say(answer(call))
    trial.returned(0)
    trial.close(connection)


def _registers(trial: Trial, values: Sequence[int]) -> None:
    connection = trial.open()
    call = trial.call(connection, plan())
    connection.say(answer(call, 0, *values))
    trial.returned(0, *values)


def _right(trial: Trial, writes: Sequence[Write], status: int = 0) -> None:
    connection = trial.open()
    call = trial.call(connection, plan(segments=_MEMORY))
    connection.say(answer(call, status, writes=writes))
    trial.returned(status, writes=writes)
    trial.close(connection)


def _largest(trial: Trial) -> None:
    connection = trial.open()
    call = trial.call(connection, plan(segments=[Segment.written(_OUT, _LARGEST)]))
    written = [Write(_OUT, bytes(n & 0xFF for n in range(_LARGEST)))]
    connection.say(answer(call, writes=written))
    trial.returned(0, writes=written)


def _top(trial: Trial) -> None:
    # This write is right, and its segment ends at 2**64.  A client that adds in 64 bits gets 0 for that end,
    # and refuses the write.
    top = (1 << 64) - 8
    connection = trial.open()
    call = trial.call(connection, plan(segments=[Segment.written(top, 8)]))
    written = [Write(top, bytes(range(8)))]
    connection.say(answer(call, writes=written))
    trial.returned(0, writes=written)


def _wrong(trial: Trial, writes: Sequence[Write]) -> None:
    connection = trial.open()
    call = trial.call(connection, plan(segments=_MEMORY))
    connection.say(answer(call, writes=writes))
    trial.broken(connection)


def _earlier_call(trial: Trial) -> None:
    # The second answer writes to the segment of the first call.  A client must allow only the segments of the
    # present call.
    connection = trial.open()
    before = trial.call(connection, plan(segments=[Segment.written(0x6000, 16)]))
    connection.say(answer(before, writes=[Write(0x6000, _SIX)]))
    trial.returned(0, writes=[Write(0x6000, _SIX)])
    call = trial.call(connection, plan(segments=_MEMORY))
    connection.say(answer(call, writes=[Write(0x6000, _SIX)]))
    trial.broken(connection)


_STATUSES = {
    "success": 0,
    "busy": 1,
    "long-busy": 9900,
    "longest-busy": 9905,
    "continue": 18,
    "authority": -10,
    "state": -45,
    "unknown": 12345,
    "unknown-negative": -12345,
    "lowest": -(1 << 63),
    "highest": (1 << 63) - 1,
}

_RIGHT = {
    "one-write": [Write(_OUT, bytes(range(24)))],
    "first-bytes": [Write(_OUT, _SIX)],
    "last-bytes": [Write(_OUT + 18, _SIX)],
    "two-writes": [Write(_OUT + 12, _SIX), Write(_OUT, _SIX)],
    "two-segments": [Write(_OUT, _SIX), Write(0xA000, bytes(16))],
    "empty-write": [Write(_OUT, b""), Write(_OUT, _SIX)],
}

_WRONG = {
    "outside": [Write(0xC000, _SIX)],
    "input": [Write(_IN, _SIX)],
    "past-the-end": [Write(_OUT + 19, _SIX)],
    "before-the-start": [Write(_OUT - 1, _SIX)],
    "much-too-long": [Write(_OUT, bytes(25 + 4096))],
    "round-the-end": [Write((1 << 64) - 2, _SIX)],
    "second-write": [Write(_OUT, _SIX), Write(_IN + 8, _SIX)],
    "address-0": [Write(0, _SIX)],
    # A client that compares only 32 bits of the address would accept this write.
    "low-half": [Write((1 << 32) + _OUT, _SIX)],
}

CASES = (
    *(
        made(f"answer.status-{name}", STATUSES, partial(_status, status=status))
        for name, status in _STATUSES.items()
    ),
    made("answer.registers", HRETURN, partial(_registers, values=range(0x1111, 0x1111 + 9))),
    made("answer.high-registers", HRETURN, partial(_registers, values=[(1 << 64) - 1] * 9)),
    *(made(f"answer.{name}", HRETURN, partial(_right, writes=writes)) for name, writes in _RIGHT.items()),
    # 18 is H_CONTINUE: GET_OBJECTLABELS returns labels with it, so a client must not need H_SUCCESS to write.
    made("answer.write-with-a-status", HRETURN, partial(_right, writes=_RIGHT["first-bytes"], status=18)),
    made("answer.largest", FRAMING, _largest),
    made("answer.top-of-memory", HRETURN, _top),
    *(
        made(f"answer.write-{name}", HRETURN, partial(_wrong, writes=writes), rules.ANSWER_WRITES)
        for name, writes in _WRONG.items()
    ),
    made("answer.write-earlier-call", HRETURN, _earlier_call, rules.ANSWER_WRITES),
)
