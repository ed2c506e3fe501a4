"""Policies: rows of the authorisation matrix, with the answers of the oracle.

A case makes an object with one policy word, then makes one call with every kind of password.  Policy words
are left out if no call can give them to an object in this stage or mode.  An IMMUTABLE object is made once in
a run, because no call removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from swpks.conformance import oracle
from swpks.conformance.case import ConformanceCase, Deviation, RunStage
from swpks.conformance.oracle import MatrixRow, OracleCall, Presented
from swpks.conformance.server.answers import Returned
from swpks.conformance.server.judged import SYSTEM, Attempt, Facts, Judged

_PAGE = "spec/policies.md#verdicts"
_USING = (OracleCall.READ, OracleCall.REMOVE, OracleCall.CONFIRM, OracleCall.WRITE, OracleCall.KEY)
_KEYS = (OracleCall.WRAP, OracleCall.REVOKE, OracleCall.UNREVOKE)
_OUTPUT = {OracleCall.READ: "policy", OracleCall.REVOKE: "policy", OracleCall.UNREVOKE: "policy"}
PLAIN_BITS = (
    Policy.OSSECBOOTAUDIT,
    Policy.OSSECBOOTENFORCE,
    Policy.PWSET,
    Policy.WORLDREADABLE,
    Policy.IMMUTABLE,
    Policy.TRANSIENT,
)


def words(facts: Facts) -> list[int]:
    """Return the policy words of the objects that the cases make.

    Plain objects get 0, each single bit, and each pair of OSSECBOOTAUDIT, OSSECBOOTENFORCE, PWSET and
    WORLDREADABLE.  If the level has WRAP, there are wrapping keys too.
    """
    acting = (Policy.OSSECBOOTAUDIT, Policy.OSSECBOOTENFORCE, Policy.PWSET, Policy.WORLDREADABLE)
    plain = [0, *PLAIN_BITS, *(one | other for one, other in combinations(acting, 2))]
    keys = [
        Policy.WRAPPINGKEY | bit
        for bit in (0, Policy.OSSECBOOTAUDIT, Policy.OSSECBOOTENFORCE, Policy.PWSET, Policy.TRANSIENT)
    ]
    return [int(each) for each in plain + (keys if Opcode.WRAP_OBJECT in facts.level.calls else [])]


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    for stage in (RunStage.UNSET, RunStage.SET):
        for call in (*_USING, *_KEYS):
            if call.value not in {each.name for each in facts.level.calls}:
                continue
            for word in words(facts):
                if makeable(facts, word, password_set=stage is RunStage.SET):
                    name = f"{call.value.lower().replace('_', '-')}.{_name(word)}-{stage.name.lower()}"
                    yield ConformanceCase(f"policies.{name}", _PAGE, "", _rows(call, word), stage)
        yield from _makers(facts, stage)


def makeable(facts: Facts, word: int, *, password_set: bool) -> bool:
    """Return whether the oracle lets a call make an object with this policy word, in this stage and mode."""
    by = OracleCall.KEY if word & Policy.WRAPPINGKEY else OracleCall.WRITE
    row = _row(facts, by, word, password_set, _right(password_set=password_set), exists=False)
    return oracle.answer(row).status == oracle.GRANTED


def _makers(facts: Facts, stage: RunStage) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of WRITE and GEN_KEY that try to make an object with each policy word."""
    known = [1 << bit for bit in range(32)]
    pairs = [one | other for one, other in combinations(PLAIN_BITS, 2) if Policy.IMMUTABLE not in one | other]
    for call in (OracleCall.WRITE, OracleCall.KEY):
        for word in (0, *known, *map(int, pairs), int(Policy.WRAPPINGKEY | Policy.WORLDREADABLE)):
            # No call removes an IMMUTABLE object, so each would take space from all later cases.
            if word & Policy.IMMUTABLE:
                continue
            name = f"{call.value.lower().replace('_', '-')}.makes-{_name(word)}-{stage.name.lower()}"
            page = "spec/policies.md#words-that-are-refused"
            yield ConformanceCase(f"policies.{name}", page, "", _made(call, word), stage)


def _name(word: int) -> str:
    names = [bit.name.lower() for bit in Policy if word & bit and bit.name]
    rest = word & ~sum(int(bit) for bit in Policy)
    return "-".join([*names, *([f"0x{rest:x}"] if rest else [])]) or "none"


def _row(
    facts: Facts,
    call: OracleCall,
    word: int,
    password_set: bool,
    presented: Presented,
    *,
    exists: bool,
) -> MatrixRow:
    return MatrixRow(call, SYSTEM, word, password_set, presented, facts.mode, exists, facts.level.name)


def _right(*, password_set: bool) -> Presented:
    return Presented.RIGHT if password_set else Presented.NOTHING


def _presented(judged: Judged) -> dict[Presented, bytes]:
    """Return a password of every kind that the stage allows."""
    own = judged.passwords.get(SYSTEM)
    if own is None:
        return {Presented.NOTHING: b"", Presented.WRONG: b"wrong"}
    # The right password comes last, because a REMOVE with it removes the object.
    return {
        Presented.NOTHING: b"",
        Presented.WRONG: own[:-1] + bytes([own[-1] ^ 1]),
        Presented.SHORTER: own[:-1],
        Presented.ANOTHERS: judged.passwords[1],
        Presented.RIGHT: own,
    }


def _rows(call: OracleCall, word: int) -> Attempt:
    """Return a case that makes a call on an object of this policy, once with each kind of password."""

    def attempt(judged: Judged) -> None:
        label = _object(judged, word)
        for presented, password in _presented(judged).items():
            row = _row(judged.facts, call, word, SYSTEM in judged.passwords, presented, exists=True)
            _expect(row, _sent(judged, call, label, word, judged.auth(SYSTEM, password)))

    return attempt


def _object(judged: Judged, word: int) -> bytes:
    """Return the label of an object with this policy word; an IMMUTABLE object is made once in a run."""
    name = f"immutable {word:x}"
    if word & Policy.IMMUTABLE and name in judged.kept:
        return judged.label(name)
    label = judged.label(name) if word & Policy.IMMUTABLE else judged.label()
    made = judged.gen_key(label, word) if word & Policy.WRAPPINGKEY else judged.write(label, b"data", word)
    made.expect(Status.H_SUCCESS)
    judged.kept[name] = word
    return label


def _sent(judged: Judged, call: OracleCall, label: bytes, word: int, auth: bytes) -> Returned:
    match call:
        case OracleCall.READ:
            return judged.read(label, auth=auth)
        case OracleCall.REMOVE:
            return judged.remove(label, auth=auth)
        case OracleCall.WRITE:
            return judged.write(label, b"other", 0, auth=auth)
        case OracleCall.KEY:
            return judged.gen_key(label, 0, auth=auth)
        case OracleCall.WRAP:
            return judged.wrap(label, auth=auth)
    return judged.about(Opcode[call.value], label, auth=auth)


def _expect(row: MatrixRow, answer: Returned) -> None:
    """Compare an answer with the answer of the oracle; a deviation names the deciding sentence."""
    # WRITE and KEY have their policy as an argument, and these calls send 0.  But `row.word` is the policy of
    # the object that already has the label.
    right = oracle.answer(row._replace(word=0) if row.call in (OracleCall.WRITE, OracleCall.KEY) else row)
    if answer.status != right.status:
        rule = oracle.deciding_rule(row)
        why = f" ({rule.words})" if rule and rule.status == right.status else ""
        raise Deviation(
            f"status {right.status} of {row.call.value} with password {row.presented.value!r}{why}",
            f"status {answer.status}",
        )
    if row.call in _OUTPUT:
        answer.expect(right.status, policy=right.shown)


def _made(call: OracleCall, word: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        password_set = SYSTEM in judged.passwords
        row = _row(judged.facts, call, word, password_set, _right(password_set=password_set), exists=False)
        label = judged.label()
        answer = judged.write(label, policy=word) if call is OracleCall.WRITE else judged.gen_key(label, word)
        right = oracle.answer(row)
        answer.expect(right.status)
        if right.status == oracle.GRANTED:
            return
        # A refused call must make no object.
        judged.remove(label).expect(Status.H_NOT_FOUND)

    return attempt
