"""The order of checks: if a call has two faults, the server returns the status of the first check.

Pairs of wrong arguments show the order of the registers.  The other cases show the order of the later checks:
password, existence, policy, space.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, NotRun, RunStage
from swpks.conformance.server.chapters.arguments import GOOD, bad_values, good, send_refused
from swpks.conformance.server.draft import NOWHERE, Draft
from swpks.conformance.server.judged import SYSTEM, Attempt, Facts, Judged

_PAGE = "spec/hcalls/index.md#order-of-checks"
WRONG = b"a password that is not set"
ABSENT = (
    Opcode.READ_OBJECT,
    Opcode.REMOVE_OBJECT,
    Opcode.CONFIRM_OBJECT_FLUSHED,
    Opcode.WRAP_OBJECT,
    Opcode.REVOKE_OBJECT,
    Opcode.UNREVOKE_OBJECT,
)
"""The calls that look for an object by its label."""


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    for opcode in GOOD:
        if opcode not in facts.level.calls:
            continue
        call = opcode.name.lower().replace("_", "-")
        bad = [arg for arg in CALLS[opcode].args if _can_be_bad(opcode, arg)]
        # A buffer and its own length make no pair: with the length 0, the buffer needs no memory.
        for first, second in combinations(bad, 2):
            if second.name != first.length:
                pair = f"{first.name}-before-{second.name}".replace("_", "-")
                yield ConformanceCase(f"order.{call}.{pair}", _PAGE, "", _two_bad(opcode, first, second))
        if any(arg.kind is Kind.AUTHORIZATION for arg in bad):
            last = bad[-1]
            name = f"order.{call}.{last.name.replace('_', '-')}-before-password"
            yield ConformanceCase(name, _PAGE, "", _before_password(opcode, last))
        if opcode in ABSENT:
            for stage in (RunStage.UNSET, RunStage.SET):
                when = stage.name.lower()
                name = f"order.{call}.password-before-existence-{when}"
                yield ConformanceCase(name, _PAGE, "", _password_before_existence(opcode), stage)
    yield from _behind_arguments(facts)


def _can_be_bad(opcode: Opcode, arg: Arg) -> bool:
    """Return whether a register alone can make an argument wrong.

    The lengths of READ and of a label list are checked only after the password, so they are left out.
    """
    return (opcode, arg.name) not in {
        (Opcode.READ_OBJECT, "data_length"),
        (Opcode.GET_OBJECTLABELS, "labels_length"),
    }


def _make_bad(facts: Facts, draft: Draft, arg: Arg) -> None:
    """Make an argument wrong by its register alone: an address without memory, the length 0, a bad number.

    The length 0 is a fault of the length alone, because a buffer of length 0 needs no memory.
    """
    if arg.kind.is_number:
        draft.registers[arg.name] = bad_values(facts, draft.spec.opcode, arg)[-1]
    else:
        draft.registers[arg.name] = 0 if arg.kind.is_length else NOWHERE


def _two_bad(opcode: Opcode, first: Arg, second: Arg) -> Attempt:
    def attempt(judged: Judged) -> None:
        draft = good(judged, opcode)
        for arg in (first, second):
            _make_bad(judged.facts, draft, arg)
        send_refused(judged, draft, first.status)

    return attempt


def _before_password(opcode: Opcode, last: Arg) -> Attempt:
    """Return a case that makes a call with a wrong password and a wrong last argument.

    The server must return the status of that argument.  If the last argument is the authorization block,
    only this block is wrong.
    """

    def attempt(judged: Judged) -> None:
        draft = good(judged, opcode)
        if last.kind is not Kind.AUTHORIZATION:
            draft.put("authorization", judged.auth(SYSTEM, WRONG))
        _make_bad(judged.facts, draft, last)
        send_refused(judged, draft, last.status)

    return attempt


def _password_before_existence(opcode: Opcode) -> Attempt:
    """Return a case that makes a call with a wrong password on a label that does not exist.

    The server must return H_AUTHORITY: a caller without the password must not learn which labels exist.
    """

    def attempt(judged: Judged) -> None:
        draft = good(judged, opcode)
        draft.put("authorization", judged.auth(SYSTEM, WRONG))
        judged.call(draft).expect(Status.H_AUTHORITY).expect_nothing_written()

    return attempt


def _behind_arguments(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    def case(name: str, attempt: Attempt, stage: RunStage = RunStage.UNSET) -> ConformanceCase[Judged]:
        return ConformanceCase(f"order.{name}", _PAGE, "", attempt, stage)

    yield case("write-object.password-before-taken-label", _password_before_taken)
    yield case("write-object.taken-label-before-policy", _taken_before_policy)
    yield case("write-object.taken-label-before-space", _taken_before_space)
    yield case("write-object.policy-before-space", _policy_before_space)
    yield case("read-object.policy-before-buffer", _policy_before_buffer)
    yield case("read-object.existence-before-buffer", _existence_before_buffer)
    yield case("set-password.argument-before-in-use", _argument_before_in_use, RunStage.SET)
    yield case("gen-password.argument-before-in-use", _generated_before_in_use, RunStage.SET)


def _password_before_taken(judged: Judged) -> None:
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    judged.write(label, auth=judged.auth(SYSTEM, WRONG)).expect(Status.H_AUTHORITY)


def _taken_before_policy(judged: Judged) -> None:
    """Without a password, WRITE of a PWSET object under a taken label returns H_RESOURCE."""
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    judged.write(label, policy=Policy.PWSET).expect(Status.H_RESOURCE)


def _taken_before_space(judged: Judged) -> None:
    label, data = judged.label(), bytes(min(judged.facts.largest_object, judged.facts.room))
    judged.write(label).expect(Status.H_SUCCESS)
    judged.write(label, data).expect(Status.H_RESOURCE)


def _policy_before_space(judged: Judged) -> None:
    """Without a password, WRITE of a PWSET object that does not fit returns H_AUTHORITY."""
    if judged.facts.largest_object < judged.facts.room:
        raise NotRun("the store has room for the largest object")
    # The data alone have the size of the free space.  The label and the overhead do not fit any more.
    label, data = judged.label(), bytes(judged.facts.room)
    judged.write(label, data, Policy.PWSET).expect(Status.H_AUTHORITY)
    judged.write(label, data).expect(Status.H_NO_MEM)


def _policy_before_buffer(judged: Judged) -> None:
    """READ of a wrapping key into a buffer of length 0 returns H_AUTHORITY, not H_TOO_BIG."""
    judged.demand(Opcode.WRAP_OBJECT)
    label = judged.label()
    judged.gen_key(label).expect(Status.H_SUCCESS)
    judged.read(label, room=0).expect(Status.H_AUTHORITY)


def _existence_before_buffer(judged: Judged) -> None:
    judged.read(judged.label(), room=0).expect(Status.H_NOT_FOUND)


def _argument_before_in_use(judged: Judged) -> None:
    draft = Draft.of(Opcode.SET_PASSWORD, consumer=SYSTEM, reserved=1, password=b"p" * 32)
    judged.call(draft).expect(Status.H_P2)


def _generated_before_in_use(judged: Judged) -> None:
    draft = Draft.of(Opcode.GEN_PASSWORD, consumer=SYSTEM, reserved=1, password=32)
    judged.call(draft).expect(Status.H_P2).expect_nothing_written()
