"""The engine's authorisation decision, compared with an oracle on every row of the matrix."""

from collections import Counter

import pytest

from hcall_abi.arguments import Words
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import SecureBoot
from hcall_server.hcalls.numbers import refused_word
from hcall_server.keystore.authority import PasswordState, Verdict, authorise
from swpks.conformance.oracle import (
    AUTHORITY,
    BAD_POLICY,
    CALLERS_BITS,
    FOR_EVER,
    LEVELS,
    MAKERS,
    NO_SUCH_CALL,
    OFFERED,
    RULES,
    Presented,
    answer,
    deciding_rule,
)
from swpks.conformance.oracle import MatrixRow as Row
from swpks.conformance.oracle import OracleCall as Call
from tests.keystore.matrix import MODES, NEWEST, SHAPES, WRITTEN_WORDS, owners, rows

UNDECIDED = (Call.CONFIG, Call.SET_PASSWORD, Call.GEN_PASSWORD)
DECIDED = [shape for shape in SHAPES if shape[0] not in UNDECIDED]
CASES = [(call, level, owner) for call, level in DECIDED for owner in owners(level)]


def words_of(opcode: Opcode) -> Words:
    """Return the policy words that a call accepts."""
    words = CALLS[opcode].arg("policy").words
    assert words
    return words


def password_state(row: Row) -> PasswordState:
    """Return the engine's name of the row's password state."""
    match row.password_set, row.presented:
        case False, Presented.NOTHING:
            return PasswordState.UNSET
        case False, _:
            return PasswordState.UNSET_PRESENTED
        case True, Presented.NOTHING:
            return PasswordState.MISSING
        case True, Presented.RIGHT:
            return PasswordState.MATCHED
    return PasswordState.WRONG


def verdict(row: Row) -> Verdict:
    """Return the engine's decision on a row. For UNWRAP, the object is decided after the key."""
    word = row.word if row.exists or row.call in MAKERS else None
    if row.call is Call.SIGNED and not row.exists:
        word = row.word & ~FOR_EVER
    first = _decision(row, word)
    if row.call is Call.UNWRAP and first is Verdict.ALLOWED:
        return _decision(row, row.wrapped)
    return first


def _decision(row: Row, word: int | None) -> Verdict:
    opcode = Opcode[row.call.value]
    return authorise(opcode, word, password_state(row), SecureBoot(row.mode))


def agrees(row: Row) -> bool:
    """Return whether engine and oracle decide a row alike: by policy, by password, or allowed."""
    rule = deciding_rule(row)
    if rule is None:
        return verdict(row) is Verdict.ALLOWED
    if rule.status != AUTHORITY:
        # Another check than the one for authority decides this row. The end-to-end matrix tests it.
        return True
    return verdict(row) is not Verdict.ALLOWED and (verdict(row) is not Verdict.PASSWORD) == rule.by_policy


@pytest.mark.parametrize("call,level,owner", CASES, ids=[f"{c[0].name}-{c[1]}-{c[2]}" for c in CASES])
def test_the_decision_is_the_oracles(call: Call, level: str, owner: int) -> None:
    """R-17, R-10, R-11, R-12, R-13: on every row of the matrix, engine and oracle decide alike."""
    matrix = [row for mode in MODES for row in rows(call, level, owner, mode)]
    assert [row for row in matrix if not agrees(row)] == []


def test_the_matrix_has_thousands_of_rows_and_uses_every_rule() -> None:
    """R-17: each rule of the oracle decides some row; otherwise the rule would prove nothing."""
    matrix = [
        row
        for call, level in SHAPES
        for owner in owners(level)
        for mode in MODES
        for row in rows(call, level, owner, mode)
    ]
    assert len(matrix) == len(set(matrix)) > 200_000
    decided = Counter(deciding_rule(row) for row in matrix)
    assert set(decided) == {None, *RULES}
    assert min(decided.values()) >= 12


@pytest.mark.parametrize("call", MAKERS, ids=lambda call: call.name)
@pytest.mark.parametrize("level", LEVELS)
def test_every_policy_word_of_a_new_object_is_judged_as_the_oracle_does(level: str, call: Call) -> None:
    """R-15, R-16, R-17: engine and oracle decide alike on every policy word of a new object.

    Unknown and unsupported bits, and those of other calls, are refused.
    """
    for word in WRITTEN_WORDS:
        status = answer(Row(call, 3, word, False, Presented.NOTHING, 2, False, level)).status
        refused = refused_word(words_of(Opcode[call.value]), word, OFFERED[level]) is not None
        assert refused == (status == BAD_POLICY) or status == NO_SUCH_CALL, f"{word:#010x}"


def test_the_six_writable_bits_may_stand_together() -> None:
    """R-17: every combination of writable policy bits is allowed, even audit with enforce."""
    for word in (0x7E00_0000, 0x6000_0000, 0):
        assert refused_word(words_of(Opcode.WRITE_OBJECT), word, 0x7F80_0000) is None
    writable = [
        bit for bit in CALLERS_BITS if refused_word(words_of(Opcode.WRITE_OBJECT), bit, 0x7F80_0000) is None
    ]
    assert sum(writable) == 0x7E00_0000


def test_every_verdict_is_reached() -> None:
    """R-17: each verdict of the engine occurs on some row."""
    reached = {
        verdict(row)
        for call, level in DECIDED
        if level == NEWEST
        for mode in MODES
        for row in rows(call, level, 3, mode)
    }
    assert reached == set(Verdict)
