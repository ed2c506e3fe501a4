"""Chapters `state` and `tag`: the server sends a frame that the state forbids, or a wrong tag."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hcall_abi.codec import encode
from hcall_abi.frames import Frame, Goodbye, GoodbyeReason, HCall, Open, Opened
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules import protocol as rules
from swpks.conformance.case import Deviation, NotRun
from swpks.conformance.client.cases.damage import in_state
from swpks.conformance.client.cases.made import GOODBYE, HEADER, STATES, TAGS, made
from swpks.conformance.client.trial import Trial
from swpks.conformance.client.usual import CHANGE, LEVEL, answer, hello, opened, plan
from swpks.conformance.client.wire import ServedConnection

_FRAMES: dict[str, Callable[[int], Frame]] = {
    "hello": lambda tag: hello(),
    "open": lambda tag: Open(tag, 0, 0, bytes(32), NO_PROOF, "judge"),
    "opened": lambda tag: Opened(tag, 0, 3, 7, NO_PROOF, LEVEL),
    "hcall": lambda tag: plan()._replace(tag=tag),
    "hreturn": lambda tag: answer(plan()._replace(tag=tag)),
}
"""Each frame with a tag.  It is whole and right, and only the state forbids it."""

_FORBIDDEN = {
    "start": ("open", "opened", "hcall", "hreturn"),
    "opening": ("hello", "open", "hcall", "hreturn"),
    "open": ("hello", "open", "opened", "hcall"),
}
"""The frames that a server must not send in each state."""


def _forbidden(trial: Trial, state: str, frame: str) -> None:
    connection, tag = in_state(trial, state)
    # Only the header is sent: a client must refuse the frame without waiting for its body.
    connection.say(encode(_FRAMES[frame](tag))[:16])
    trial.broken(connection)


def _two_hellos(trial: Trial) -> None:
    connection = trial.dial()
    connection.say(hello(), hello())
    # The client may answer the first HELLO with OPEN before it reads the second HELLO.
    _last_is_complaint(connection)
    trial.report("broken")


def _last_is_complaint(connection: ServedConnection) -> None:
    """Take all frames up to the end of the stream; Deviation unless the last one is GOODBYE 1."""
    frames = connection.rest()
    last = frames[-1] if frames else None
    if not isinstance(last, Goodbye) or last.reason != GoodbyeReason.PROTOCOL_ERROR:
        raise Deviation("GOODBYE 1", "the end of the stream" if last is None else repr(last))


def _opened_tag(trial: Trial, change: int) -> None:
    opening = trial.greet()
    wrong = opened(opening)._replace(tag=(opening.open.tag + change) & 0xFFFFFFFF)
    opening.connection.say(wrong)
    trial.broken(opening.connection)


def _answer_tag(trial: Trial, change: int) -> None:
    connection, tag = in_state(trial, "open")
    connection.say(answer(HCall((tag + change) & 0xFFFFFFFF, 0, (), ())))
    trial.broken(connection)


def _out_of_order(trial: Trial) -> None:
    connection = trial.open()
    first, second = trial.pipeline(connection, [plan(), plan(registers=(0x4000, 23))])
    if first.tag == second.tag:
        raise NotRun("the client gives all calls the same tag, so their order cannot be seen")
    connection.say(answer(second), answer(first))
    trial.broken(connection)
    # The pipeline has two calls, and the client reports each of them.  So the second report comes too.
    trial.report("broken")


def _twice(trial: Trial) -> None:
    connection = trial.open()
    call = trial.call(connection, plan())
    connection.say(answer(call, 0, 1), answer(call, 0, 2))
    # The second answer is one too many.  The client may read it together with the first, or only with its
    # next call.
    if trial.either("returned", "broken") == "returned":
        trial.client.command("call 0x41c")
        _last_is_complaint(connection)
        trial.report("broken")
    else:
        _last_is_complaint(connection)


def _after_goodbye(trial: Trial) -> None:
    connection = trial.open()
    call = trial.call(connection, CHANGE)
    connection.say(Goodbye(GoodbyeReason.SERVER_STOPPING, ""), answer(call))
    connection.gone()
    trial.numbered("ended", GoodbyeReason.SERVER_STOPPING)


def _after_fault(trial: Trial) -> None:
    connection, tag = in_state(trial, "open")
    right = answer(HCall(tag, 0, (), ()))
    # A right answer follows in the same piece: a client that skips bytes until the next magic would accept
    # it.
    connection.say(b"HCAK" + encode(right)[4:], right)
    trial.broken(connection)


CASES = (
    *(
        made(
            f"state.{state}-{frame}",
            STATES,
            partial(_forbidden, state=state, frame=frame),
            rules.SESSION_STATE,
        )
        for state, frames in _FORBIDDEN.items()
        for frame in frames
    ),
    made("state.two-hellos", STATES, _two_hellos, rules.SESSION_STATE),
    made("state.answer-after-goodbye", GOODBYE, _after_goodbye, rules.SESSION_OVER),
    made("state.answer-after-fault", HEADER, _after_fault, rules.FRAME_MAGIC),
    made("tag.opened-next", TAGS, partial(_opened_tag, change=1), rules.SESSION_TAG),
    made("tag.opened-high-bit", TAGS, partial(_opened_tag, change=1 << 31), rules.SESSION_TAG),
    made("tag.answer-next", TAGS, partial(_answer_tag, change=1), rules.SESSION_TAG),
    made("tag.answer-before", TAGS, partial(_answer_tag, change=-1), rules.SESSION_TAG),
    made("tag.answer-high-bit", TAGS, partial(_answer_tag, change=1 << 31), rules.SESSION_TAG),
    made("tag.out-of-order", TAGS, _out_of_order, rules.SESSION_TAG),
    made("tag.answered-twice", TAGS, _twice, rules.SESSION_TAG),
)
