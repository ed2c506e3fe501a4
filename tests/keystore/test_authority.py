"""The authorisation decision against the oracle, every row of the matrix."""

from collections import Counter

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_server.keystore.authority import PasswordState, Verdict, authorise, refused_word
from tests.keystore.matrix import MODES, OWNERS, SHAPES, SUPPORTED, WRITTEN_WORDS, rows
from tests.keystore.oracle import (
    AUTHORITY,
    BAD_POLICY,
    CALLERS_BITS,
    RULES,
    Call,
    Presented,
    Row,
    answer,
    deciding_rule,
)

DECIDED = [shape for shape in SHAPES if "PASSWORD" not in shape[0].name]


def password_state(row: Row) -> PasswordState:
    """What the engine calls the row's password state."""
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
    """What the engine decides about the row."""
    word = row.word if row.exists or row.call is Call.WRITE else None
    opcode = Opcode[row.call.value]
    return authorise(opcode, Consumer(row.owner), word, password_state(row), SecureBoot(row.mode))


def agrees(row: Row) -> bool:
    """Whether engine and oracle decide a row alike, and for the same sort of reason."""
    rule = deciding_rule(row)
    if rule is None:
        return verdict(row) is Verdict.ALLOWED
    if rule.status != AUTHORITY:
        return True  # decided before or after authority; the end-to-end matrix has these
    return verdict(row) is not Verdict.ALLOWED and (verdict(row) is not Verdict.PASSWORD) == rule.by_policy


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("call,level", DECIDED, ids=[f"{call.name}-{level}" for call, level in DECIDED])
def test_the_decision_is_the_oracles(call: Call, level: str, owner: int) -> None:
    """R-17, R-10, R-11, R-12, R-13: every row of the matrix, judged by the pure function alone."""
    matrix = [row for mode in MODES for row in rows(call, level, owner, mode)]
    assert [row for row in matrix if not agrees(row)] == []


def test_the_matrix_has_thousands_of_rows_and_uses_every_rule() -> None:
    """R-17: a rule of the oracle that decides no row would prove nothing."""
    matrix = [
        row
        for call, level in SHAPES
        for owner in OWNERS
        for mode in MODES
        for row in rows(call, level, owner, mode)
    ]
    assert len(matrix) == len(set(matrix)) > 50_000
    decided = Counter(deciding_rule(row) for row in matrix)
    assert set(decided) == {None, *RULES}
    assert min(decided.values()) >= 27


@pytest.mark.parametrize("level", SUPPORTED)
def test_every_policy_word_of_a_new_object_is_judged_as_the_oracle_does(level: str) -> None:
    """R-15, R-17: unknown, unsupported, reported bits and those of other calls are refused in WRITE."""
    for word in WRITTEN_WORDS:
        row = Row(Call.WRITE, 3, word, False, Presented.NOTHING, 2, False, SUPPORTED[level])
        refused = refused_word(Opcode.WRITE_OBJECT, word, SUPPORTED[level]) is not None
        assert refused == (answer(row).status == BAD_POLICY), f"{word:#010x}"


def test_the_six_writable_bits_may_stand_together() -> None:
    """R-17: audit and enforce together are allowed, as is every combination of writable bits."""
    for word in (0x7E00_0000, 0x6000_0000, 0):
        assert refused_word(Opcode.WRITE_OBJECT, word, 0x7F80_0000) is None
    writable = [bit for bit in CALLERS_BITS if refused_word(Opcode.WRITE_OBJECT, bit, 0x7F80_0000) is None]
    assert sum(writable) == 0x7E00_0000


def test_every_verdict_is_reached() -> None:
    """R-17: the engine has no verdict that nothing leads to."""
    reached = {
        verdict(row) for call, level in DECIDED for mode in MODES for row in rows(call, level, 3, mode)
    }
    assert reached == set(Verdict) - {Verdict.NO_WRAPPING_KEY}  # of calls that have no handler yet
