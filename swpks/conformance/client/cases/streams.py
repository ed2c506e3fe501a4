"""Chapter `piece`: the server sends its frames in pieces of other sizes than the frames."""

# A stream has no borders between frames, so a client must not depend on the pieces.  The sizes are those at
# which a reader may go wrong: 1 byte, 7 (no field has this size), a header alone, a header with one byte of
# the body.

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hcall_abi.frames import MAX_BODY, Frame, Goodbye, GoodbyeReason, Open, Segment, Write
from swpks.conformance.client.cases.made import FRAMING, made
from swpks.conformance.client.trial import Trial
from swpks.conformance.client.usual import (
    IPL_COUNT,
    LEVEL,
    PARTITION,
    AskedSession,
    answer,
    hello,
    opened,
    plan,
)
from swpks.conformance.client.wire import ServedConnection

_STOPPING = Goodbye(GoodbyeReason.SERVER_STOPPING, "stopping")


def _whole(trial: Trial, size: int) -> None:
    """Send all frames of a session, from HELLO to GOODBYE, in pieces of `size` bytes."""
    connection, greeting = trial.dial(), hello()
    connection.trickle(greeting, size=size)
    asked = connection.take(Open)
    connection.trickle(opened(AskedSession(connection, greeting, asked)), size=size)
    trial.opened(PARTITION, IPL_COUNT, LEVEL)
    call = trial.call(connection, plan())
    written = [Write(0x4000, bytes(range(24)))]
    connection.trickle(answer(call, 0, 5, writes=written), size=size)
    trial.returned(0, 5, writes=written)
    trial.call(connection, plan())
    connection.trickle(_STOPPING, size=size)
    connection.gone()
    trial.numbered("ended", GoodbyeReason.SERVER_STOPPING)


def _large(trial: Trial) -> None:
    connection = trial.open()
    data = bytes(n & 0xFF for n in range(MAX_BODY - 104))
    call = trial.call(connection, plan(segments=[Segment.written(0x4000, len(data))]))
    connection.trickle(answer(call, writes=[Write(0x4000, data)]), size=4093)
    trial.returned(0, writes=[Write(0x4000, data)])


def _answers(trial: Trial, size: int) -> None:
    connection = trial.open()
    calls = trial.pipeline(connection, [plan(registers=(0x4000, 24, n)) for n in range(8)])
    frames = [answer(call, -n, n, writes=[Write(0x4000, bytes([n] * n))]) for n, call in enumerate(calls, 1)]
    _say(connection, frames, size)
    for n in range(1, len(calls) + 1):
        trial.returned(-n, n, writes=[Write(0x4000, bytes([n] * n))])
    trial.close(connection)


def _say(connection: ServedConnection, frames: Sequence[Frame], size: int) -> None:
    if size:
        connection.trickle(*frames, size=size)
    else:
        connection.say(*frames)


def _answer_and_goodbye(trial: Trial) -> None:
    connection = trial.open()
    first, _ = trial.pipeline(connection, [plan(), plan()])
    connection.say(answer(first, 0, 1), _STOPPING)
    connection.gone()
    trial.returned(0, 1)
    trial.numbered("ended", GoodbyeReason.SERVER_STOPPING)


def _opened_and_goodbye(trial: Trial) -> None:
    opening = trial.greet()
    opening.connection.say(opened(opening), _STOPPING)
    opening.connection.finish()
    # The client may read OPENED and GOODBYE together, or GOODBYE only with its next call.
    if trial.either("opened", "ended") == "opened":
        trial.client.command("call 0x41c")
        opening.connection.rest()
        trial.numbered("ended", GoodbyeReason.SERVER_STOPPING)


CASES = (
    made("piece.byte-by-byte", FRAMING, partial(_whole, size=1)),
    made("piece.of-7", FRAMING, partial(_whole, size=7)),
    made("piece.header-alone", FRAMING, partial(_whole, size=16)),
    made("piece.header-and-one", FRAMING, partial(_whole, size=17)),
    made("piece.large-body", FRAMING, _large),
    made("piece.many-answers", FRAMING, partial(_answers, size=0)),
    made("piece.many-answers-cut", FRAMING, partial(_answers, size=100)),
    made("piece.answer-and-goodbye", FRAMING, _answer_and_goodbye),
    made("piece.opened-and-goodbye", FRAMING, _opened_and_goodbye),
)
