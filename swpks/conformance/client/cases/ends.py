"""Chapter `end`: the server ends a session, with GOODBYE or without, in each state."""

# A client has to report whether a lost call may have run.  A library must not repeat a call that changes
# something: only the program knows whether a repetition does harm.  After GOODBYE 3 (the partition has moved)
# the calls without an answer did not run.  After every other end they may have run, so their outcome is
# unknown.

from __future__ import annotations

from functools import partial

from hcall_abi.codec import encode
from hcall_abi.frames import Goodbye, GoodbyeReason, HCall
from hcall_abi.rules import protocol as rules
from swpks.conformance.case import Deviation
from swpks.conformance.client.cases.damage import in_state
from swpks.conformance.client.cases.made import FRAMING, GOODBYE, STATES, made
from swpks.conformance.client.lines import call_line
from swpks.conformance.client.trial import Trial
from swpks.conformance.client.usual import CHANGE, answer, hello, opened, plan
from swpks.conformance.client.wire import ServedConnection

_LAST_REASON = 0xFFFFFFFF
_MOVED = GoodbyeReason.MIGRATED


def _goodbye(trial: Trial, reason: int) -> None:
    """Send GOODBYE in place of the answer to a call that changes something.

    The client must report this end, and whether the call may have run.
    """
    connection = trial.open()
    trial.call(connection, CHANGE)
    connection.say(Goodbye(reason, "the judge ends the session"))
    connection.finish()
    connection.gone()
    _outcome(trial.numbered("ended", reason).outcome, "not-run" if reason == _MOVED else "unknown")


def _outcome(came: str, expected: str) -> None:
    if came != expected:
        raise Deviation(
            f"outcome={expected} for a call that changes something", f"outcome={came or '(none)'}"
        )


def _some_answered(trial: Trial, reason: int) -> None:
    connection = trial.open()
    calls = trial.pipeline(connection, [CHANGE] * 3)
    connection.say(answer(calls[0], 0, 1), answer(calls[1], -10), Goodbye(reason, ""))
    connection.finish()
    connection.gone()
    trial.returned(0, 1)
    trial.returned(-10)
    _outcome(trial.numbered("ended", reason).outcome, "not-run" if reason == _MOVED else "unknown")


def _goodbye_early(trial: Trial, state: str) -> None:
    connection, _ = in_state(trial, state)
    connection.say(Goodbye(GoodbyeReason.SERVER_STOPPING, ""))
    connection.finish()
    connection.gone()
    trial.numbered("ended", GoodbyeReason.SERVER_STOPPING)


# The table of states allows a GOODBYE after a refusal, although a server usually sends none.  The client must
# report the refusal, which came first.
def _goodbye_refused(trial: Trial) -> None:
    opening = trial.greet()
    opening.connection.say(opened(opening, status=3), Goodbye(GoodbyeReason.DONE, ""))
    opening.connection.rest()
    trial.numbered("refused", 3)


def _goodbye_idle(trial: Trial, reason: int) -> None:
    connection = trial.open()
    connection.say(Goodbye(reason, "idle"))
    connection.finish()
    trial.client.command(call_line(CHANGE))
    # The client may have sent the call before it read the GOODBYE.  It must send nothing else.
    if any(not isinstance(frame, HCall) for frame in connection.rest()):
        raise Deviation("at most the HCALL that crossed GOODBYE", "another frame")
    trial.numbered("ended", reason)


def _stays_ended(trial: Trial) -> None:
    connection = trial.open()
    trial.call(connection, plan())
    connection.say(Goodbye(GoodbyeReason.IPL_OR_POWER_OFF, "IPL"))
    connection.finish()
    connection.gone()
    trial.numbered("ended", GoodbyeReason.IPL_OR_POWER_OFF)
    # The client must not open a new session by itself: passwords and tokens of the old IPL are gone.
    trial.client.command(call_line(plan()))
    trial.numbered("ended", GoodbyeReason.IPL_OR_POWER_OFF)


def _opens_again(trial: Trial) -> None:
    connection = trial.open()
    trial.call(connection, plan())
    connection.say(Goodbye(GoodbyeReason.IPL_OR_POWER_OFF, "IPL"))
    connection.gone()
    trial.numbered("ended", GoodbyeReason.IPL_OR_POWER_OFF)
    trial.client.command("close")
    trial.report("closed")
    connection = trial.open()
    call = trial.call(connection, plan())
    connection.say(answer(call))
    trial.returned(0)
    trial.close(connection)


def _stream_ends(trial: Trial, state: str) -> None:
    connection, _ = in_state(trial, state)
    connection.finish()
    _left(connection)
    trial.report("lost")


def _lost_call(trial: Trial) -> None:
    connection = trial.open()
    trial.call(connection, CHANGE)
    connection.finish()
    _left(connection)
    # If the report comes before any new connection, the client has not repeated the call.
    _outcome(trial.report("lost").outcome, "unknown")


def _lost_behind_answer(trial: Trial) -> None:
    connection = trial.open()
    calls = trial.pipeline(connection, [CHANGE] * 2)
    connection.say(answer(calls[0], 0, 1))
    connection.finish()
    _left(connection)
    trial.returned(0, 1)
    _outcome(trial.report("lost").outcome, "unknown")


def _lost_idle(trial: Trial) -> None:
    connection = trial.open()
    connection.close()
    trial.client.command(call_line(CHANGE))
    trial.report("lost")


def _cut(trial: Trial, state: str, size: int) -> None:
    """Send only the first `size` bytes of the frame that is due, then end the stream."""
    connection, tag = in_state(trial, state)
    frame = hello() if state == "start" else answer(plan()._replace(tag=tag))
    connection.say(encode(frame)[:size])
    connection.finish()
    _left(connection)
    # Both reports are right: the page does not say whether this is a broken rule or a lost connection.
    trial.report("lost", "broken")


def _left(connection: ServedConnection) -> None:
    """Take the end of the stream, with or without a GOODBYE before it."""
    if any(not isinstance(frame, Goodbye) for frame in connection.rest()):
        raise Deviation("the end of the stream, or GOODBYE", "another frame")


# Reasons 7 and 0xFFFFFFFF are unknown.  An unknown reason ends the session too, and the client must report
# its number.
_REASONS = {f"{int(reason)}": int(reason) for reason in GoodbyeReason} | {"7": 7, "highest": _LAST_REASON}
_STATES = ("start", "opening", "open")

CASES = (
    *(made(f"end.goodbye-{name}", GOODBYE, partial(_goodbye, reason=n)) for name, n in _REASONS.items()),
    *(made(f"end.answers-goodbye-{n}", GOODBYE, partial(_some_answered, reason=n)) for n in (2, 3, 4, 7)),
    *(made(f"end.goodbye-in-{each}", STATES, partial(_goodbye_early, state=each)) for each in _STATES[:2]),
    made("end.goodbye-in-refused", STATES, _goodbye_refused),
    *(made(f"end.goodbye-idle-{n}", GOODBYE, partial(_goodbye_idle, reason=n)) for n in (2, 5)),
    made("end.stays-ended", GOODBYE, _stays_ended, rules.SESSION_OVER),
    made("end.opens-again", GOODBYE, _opens_again),
    *(made(f"end.stream-in-{each}", FRAMING, partial(_stream_ends, state=each)) for each in _STATES),
    made("end.call-lost", GOODBYE, _lost_call),
    made("end.call-lost-behind-answer", GOODBYE, _lost_behind_answer),
    made("end.stream-idle", FRAMING, _lost_idle),
    *(
        made(f"end.cut-{state}-{size}", FRAMING, partial(_cut, state=state, size=size), rules.FRAME_WHOLE)
        for state in ("start", "open")
        for size in (1, 15, 16, 40)
    ),
)
