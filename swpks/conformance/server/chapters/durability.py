"""Durability: CONFIRM_OBJECT_FLUSHED after writes and removals, and for TRANSIENT and unknown labels."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status, status_name
from swpks.conformance.case import ConformanceCase, Deviation, RunStage
from swpks.conformance.server.judged import SYSTEM, Attempt, Facts, Judged

_RESULTS = "spec/hcalls/confirm_object_flushed.md#results"
_POLICIES = "spec/hcalls/confirm_object_flushed.md#policies"
LONGEST_WAIT = 5.0
"""Seconds after which Linux gives a flush up (spec/hcalls/confirm_object_flushed.md#public-and-chosen)."""
PAUSE = 0.01
"""Seconds between two CONFIRMs, as in Linux."""
_CONFIRM = Opcode.CONFIRM_OBJECT_FLUSHED


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""

    def case(name: str, page: str, attempt: Attempt, rule: str = "") -> ConformanceCase[Judged]:
        return ConformanceCase(f"durability.{name}", page, rule, attempt)

    yield case("write-is-flushed", _RESULTS, _write_is_flushed)
    yield case("flushed-stays-flushed", _RESULTS, _stays_flushed)
    yield case("removal-is-flushed", _RESULTS, _removal_is_flushed)
    yield case("key-is-flushed", _RESULTS, _key_is_flushed)
    yield case("write-after-removal", _RESULTS, _write_after_removal)
    yield case("never-was", _RESULTS, _never_was, rules.OBJECT_EXISTS.id)
    yield case("transient-at-once", _POLICIES, _transient)
    yield case("never-busy", _RESULTS, _never_busy)
    yield case("any-policy", _POLICIES, _any_policy)
    yield ConformanceCase("durability.write-is-flushed-set", _RESULTS, "", _write_is_flushed, RunStage.SET)
    yield ConformanceCase(
        "durability.removal-is-flushed-set", _RESULTS, "", _removal_is_flushed, RunStage.SET
    )


def flushed(judged: Judged, label: bytes, status: Status = Status.H_SUCCESS, by: int = SYSTEM) -> None:
    """Repeat CONFIRM until the change of a label is durable.

    Deviation if CONFIRM returns another status, or if the change is still pending after `LONGEST_WAIT`.
    """
    until = time.monotonic() + LONGEST_WAIT
    while True:
        answer = judged.about(_CONFIRM, label, by=by)
        pending = answer.status == Status.H_SUCCESS and answer.output("flushed") == 0
        if not pending:
            answer.expect(status, flushed=1)
            return
        if time.monotonic() > until:
            raise Deviation(f"flushed within {LONGEST_WAIT:.0f} s", "still pending")
        time.sleep(PAUSE)


def _write_is_flushed(judged: Judged) -> None:
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    flushed(judged, label)


def _stays_flushed(judged: Judged) -> None:
    """A later change of another object does not make a durable object pending again."""
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    flushed(judged, label)
    # This CONFIRM is not repeated.  A server that counts the changes of the whole partition would answer it
    # with "pending".
    judged.write(judged.label()).expect(Status.H_SUCCESS)
    judged.about(_CONFIRM, label).expect(Status.H_SUCCESS, flushed=1)


def _removal_is_flushed(judged: Judged) -> None:
    """For a durable removal, CONFIRM returns H_NOT_FOUND with r4 = 1; before that, H_SUCCESS with r4 = 0."""
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.remove(label).expect(Status.H_SUCCESS)
    flushed(judged, label, Status.H_NOT_FOUND)


def _key_is_flushed(judged: Judged) -> None:
    label = judged.label()
    judged.gen_key(label, 0).expect(Status.H_SUCCESS)
    flushed(judged, label)


def _write_after_removal(judged: Judged) -> None:
    """CONFIRM reports the newest change of a label, here a WRITE after a REMOVE."""
    label = judged.label()
    judged.write(label, b"first").expect(Status.H_SUCCESS)
    judged.remove(label).expect(Status.H_SUCCESS)
    judged.write(label, b"second").expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.read(label).expect(Status.H_SUCCESS).expect_written(b"second")


def _never_was(judged: Judged) -> None:
    judged.about(_CONFIRM, judged.label()).expect(Status.H_NOT_FOUND, flushed=1)


def _transient(judged: Judged) -> None:
    """A TRANSIENT object never reaches NVRAM, so CONFIRM reports it as flushed at once."""
    label = judged.label()
    judged.write(label, policy=Policy.TRANSIENT).expect(Status.H_SUCCESS)
    judged.about(_CONFIRM, label).expect(Status.H_SUCCESS, flushed=1)


def _never_busy(judged: Judged) -> None:
    """CONFIRM never returns H_BUSY, because Linux takes H_BUSY as a failure."""
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    # Twenty calls without a pause: some come while the change is pending, the others after it is flushed.
    for _ in range(20):
        answer = judged.about(_CONFIRM, label)
        if answer.status != Status.H_SUCCESS or answer.output("flushed") not in (0, 1):
            raise Deviation("H_SUCCESS with 0 or 1 in r4", status_name(answer.status))


def _any_policy(judged: Judged) -> None:
    """CONFIRM checks no policy bit, and WORLDREADABLE does not waive its password."""
    label = judged.label()
    judged.write(label, policy=Policy.WORLDREADABLE).expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.about(_CONFIRM, label, auth=judged.auth(password=b"wrong")).expect(Status.H_AUTHORITY)
