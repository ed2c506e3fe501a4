"""Chapters `header` and `body`: the server sends frames with a wrong header or a wrong body."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from hcall_abi.codec import encode
from hcall_abi.frames import MAX_BODY, FrameType, Goodbye, GoodbyeReason, Segment
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from swpks.conformance.case import ConformanceCase
from swpks.conformance.client.cases.made import FRAMING, HEADER, made
from swpks.conformance.client.trial import Trial
from swpks.conformance.client.usual import answer, hello, opened, plan
from swpks.conformance.client.wire import ServedConnection
from swpks.conformance.vectors import FrameVector, frames

# The headers are changed as bytes: the codec can't encode a wrong one.
_SIZE = 16


def _with(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda header: header[:offset] + value + header[offset + len(value) :]


# The writes of all vectors lie in this segment.  A write outside of it would be a second fault: the client
# could refuse the answer for it.
_ALL_MEMORY = (Segment.written(0x1000, 0x8000),)

_HEADERS: tuple[tuple[str, Callable[[bytes], bytes], Rule], ...] = (
    ("magic", _with(0, b"HCAK"), rules.FRAME_MAGIC),
    ("lower-case-magic", _with(0, b"hcal"), rules.FRAME_MAGIC),
    ("version-0", _with(4, b"\0"), rules.FRAME_VERSION),
    ("version-2", _with(4, b"\2"), rules.FRAME_VERSION),
    ("type-0", _with(5, b"\0"), rules.FRAME_TYPE),
    ("type-7", _with(5, b"\7"), rules.FRAME_TYPE),
    ("low-flag", _with(7, b"\1"), rules.FRAME_FLAGS),
    ("high-flag", _with(6, b"\x80"), rules.FRAME_FLAGS),
    ("long-body", _with(12, (MAX_BODY + 1).to_bytes(4, "big")), rules.FRAME_LENGTH),
    ("body-of-4-gib", _with(12, b"\xff" * 4), rules.FRAME_LENGTH),
)
"""Each wrong header: its name, the function that makes it from a right one, and the rule that it breaks."""


def in_state(trial: Trial, state: str) -> tuple[ServedConnection, int]:
    """Bring a session to a state; return the connection, and the tag that the next answer must have.

    In state `open`, the client waits for the answer to a call.  Without a call, it might not read the damaged
    frame.
    """
    if state == "start":
        return trial.dial(), 0
    if state == "opening":
        opening = trial.greet()
        return opening.connection, opening.open.tag
    connection = trial.open()
    return connection, trial.call(connection, plan(segments=_ALL_MEMORY)).tag


def _right(trial: Trial, kind: FrameType) -> tuple[ServedConnection, bytes]:
    """Return a connection and a right frame of this type.

    The frame may come next on this connection.
    """
    if kind is FrameType.HELLO:
        return trial.dial(), encode(hello())
    if kind is FrameType.OPENED:
        opening = trial.greet()
        return opening.connection, encode(opened(opening))
    connection = trial.open()
    call = trial.call(connection, plan())
    frame = answer(call) if kind is FrameType.HRETURN else Goodbye(GoodbyeReason.SERVER_STOPPING, "")
    return connection, encode(frame)


def _header(trial: Trial, kind: FrameType, damaged: Callable[[bytes], bytes]) -> None:
    connection, frame = _right(trial, kind)
    # Only the header is sent: a client must refuse the frame without waiting for its body.
    connection.say(damaged(frame[:_SIZE]))
    trial.broken(connection)


def _headers() -> Iterator[ConformanceCase[Trial]]:
    for kind in (FrameType.HELLO, FrameType.OPENED, FrameType.HRETURN):
        for name, damaged, rule in _HEADERS:
            # A HELLO in another version is left out: chapter `version` has these cases.
            if not (kind is FrameType.HELLO and rule is rules.FRAME_VERSION):
                page = FRAMING if rule is rules.FRAME_LENGTH else HEADER
                run = partial(_header, kind=kind, damaged=damaged)
                yield made(f"header.{kind.name.lower()}-{name}", page, run, rule)
    # HELLO and GOODBYE have the tag 0 always.  Chapter `tag` has the other frames, whose right tag depends on
    # the session.
    for kind in (FrameType.HELLO, FrameType.GOODBYE):
        run = partial(_header, kind=kind, damaged=_with(8, bytes((0, 0, 0, 1))))
        yield made(f"header.{kind.name.lower()}-tag", HEADER, run, rules.FRAME_TAG)


def _body(trial: Trial, vector: FrameVector) -> None:
    connection, tag = in_state(trial, vector.state)
    # The answer needs the tag that the client chose: the tag of the vector would be a second fault.
    goodbye = vector.data[5] == FrameType.GOODBYE
    connection.say(vector.data if goodbye else _with(8, tag.to_bytes(4, "big"))(vector.data))
    trial.broken(connection)


def _bodies() -> Iterator[ConformanceCase[Trial]]:
    for name in ("hello", "opened", "hreturn", "goodbye"):
        for vector in frames(name):
            # Both ends send GOODBYE.  So a GOODBYE that is wrong from a client is wrong from a server too.
            if not vector.valid:
                yield made(
                    f"body.{vector.name}", vector.section, partial(_body, vector=vector), vector.rule_id
                )


CASES = (*_headers(), *_bodies())
