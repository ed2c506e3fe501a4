"""The tables of custody: each state with each word and guard (R-51, R-54; spec/migration.md#custody)."""

from __future__ import annotations

from itertools import product

import pytest

from hcall_server.platform.custody import (
    CONSOLE,
    LEFT,
    OWNING,
    SAYS,
    SYSTEM,
    Custody,
    Decision,
    Guard,
    Mode,
    Party,
    Register,
    Row,
    Standing,
    Word,
    after,
    answer,
    console_step,
    decided,
    mode_after_start,
    step,
)

LAST, STORE = 5, 7
STANDINGS = [Standing(custody, mode, LAST, STORE) for custody, mode in product(Custody, Mode)]
REGISTERS = [Register(LAST, decision, moved) for decision, moved in product(Decision, (0, 3, LAST))]
EPOCHS = (2, 4, LAST, 6)
SERVES = frozenset({Mode.SERVING, Mode.COPYING})


def fitting(at: Standing, on: Word, epoch: int, generation: int) -> list[Row]:
    """Return the rows that accept the word, each tried as the only row of the table."""
    return [row for row in SYSTEM if step(at, on, epoch, generation, [row])]


@pytest.mark.parametrize("at", STANDINGS, ids=lambda at: f"{at.custody.name} {at.mode.value}")
def test_each_state_and_word(at: Standing) -> None:
    """R-51: For each state and word at most one row fits, and `step` returns it."""
    for on, epoch, generation in product(Word, EPOCHS, (STORE, STORE + 1)):
        rows = fitting(at, on, epoch, generation)
        assert len(rows) <= 1, (on, epoch)
        assert step(at, on, epoch, generation) is (rows[0] if rows else None)


@pytest.mark.parametrize("at", REGISTERS, ids=lambda at: f"{at.decision.value} {at.moved}")
def test_each_decision_and_word(at: Register) -> None:
    """R-51: For each decision and word at most one row of the console fits.

    No row makes a number in the register smaller.
    """
    for on, epoch in product(Word, EPOCHS):
        rows = [row for row in CONSOLE if console_step(at, on, epoch, [row])]
        assert len(rows) <= 1, (on, epoch)
        for row in rows:
            behind = decided(at, row, epoch)
            assert behind.epoch >= at.epoch
            assert behind.moved >= at.moved
            assert behind.moved <= behind.epoch


@pytest.mark.parametrize(
    "guard,epochs",
    [
        (Guard.LATER, {6}),
        (Guard.SAME, {LAST}),
        (Guard.NOT_OLDER, {LAST, 6}),
        (Guard.FREE, set(EPOCHS)),
    ],
)
def test_guards_of_a_system(guard: Guard, epochs: set[int]) -> None:
    """R-51: a word of an old attempt has no effect, unless a row allows it."""
    row = SYSTEM[0]._replace(guard=guard)
    at = Standing(Custody.OWN, Mode.SERVING, LAST)
    assert {each for each in EPOCHS if step(at, Word.BEGIN, each, rows=[row])} == epochs


def test_the_guard_of_the_store() -> None:
    """R-51: PREPARED is accepted only with the generation that the source has sent."""
    at = Standing(Custody.FROZEN, Mode.WAITING, LAST, STORE)
    found = {(e, g): step(at, Word.PREPARED, e, g) for e, g in product(EPOCHS, (STORE - 1, STORE))}
    assert [key for key, row in found.items() if row] == [(LAST, STORE)]


def test_no_word_without_a_guard_changes_a_record() -> None:
    """R-51: A word without a number comes from inside the system. It changes the mode and no record."""
    free = [row for row in SYSTEM if row.guard is Guard.FREE]
    assert {row.on for row in free} == {Word.ABORT}
    assert [row.to for row in free] == [None] * len(free)


def test_the_record_that_serves() -> None:
    """R-51: Only an owner can be in the modes SERVING and COPYING."""
    for at, row in product(STANDINGS, SYSTEM):
        if at.custody in row.at and at.mode in row.mode:
            behind = after(at, row, LAST + 1, STORE)
            assert behind.mode not in SERVES or behind.custody in OWNING
            assert behind.custody not in LEFT or behind.mode is Mode.SETTLED


def test_a_source_never_decides_alone() -> None:
    """R-51: Only a word of the target or of the console ends FROZEN; no event at the source does."""
    ways = {row.on for row in SYSTEM if Custody.FROZEN in row.at and row.to}
    assert ways == {Word.PREPARED, Word.RESUME, Word.FENCED, Word.ACTIVE}


def test_a_target_acts_on_no_time_out() -> None:
    """R-51: A target with a copy waits for a word, also after a restart."""
    ways = {row.on for row in SYSTEM if Custody.PREPARED in row.at}
    assert Word.ABORT not in ways
    assert mode_after_start(Custody.PREPARED, asks=True) is Mode.SETTLED


def test_the_console_never_tells_a_target_to_drop() -> None:
    """R-51: The source sends ABORTED to the target; the console never does."""
    assert Word.ABORTED not in {row.says for row in CONSOLE}
    assert {each.at for each in SAYS if each.word is Word.ABORTED} == {Custody.OWN}


def test_one_decision_of_two() -> None:
    """R-51: After RESUME the console never forces the attempt. After a force it never answers RESUME."""
    aborted, forced = Register(LAST, Decision.ABORTED), Register(LAST, Decision.FORCED, LAST)
    assert console_step(aborted, Word.FORCE, LAST) is None
    row = console_step(forced, Word.ASK, LAST)
    assert row is not None
    assert row.says is Word.FENCED
    resumes = {d for row in CONSOLE if row.says is Word.RESUME for d in row.at}
    assert resumes == {Decision.OPEN, Decision.ABORTED}


@pytest.mark.parametrize("epoch,word", [(2, Word.FENCED), (3, Word.FENCED), (4, Word.RESUME)])
def test_questions_about_older_attempts(epoch: int, word: Word) -> None:
    """R-51: A question about the last move or an earlier attempt is answered with FENCED."""
    assert answer(Register(LAST, Decision.OPEN, moved=3), epoch) is word


def test_active_of_an_older_attempt() -> None:
    """R-51: ACTIVE of an older attempt moves the partition in the register. The last attempt stays open."""
    at = Register(LAST, Decision.OPEN, moved=1)
    row = console_step(at, Word.ACTIVE, 3)
    assert row is not None
    assert decided(at, row, 3) == Register(LAST, Decision.OPEN, moved=3)
    assert console_step(at, Word.ACTIVE, 1) is None
    assert console_step(Register(LAST, Decision.DONE, LAST), Word.ACTIVE, 3) is None


@pytest.mark.parametrize("custody", Custody)
@pytest.mark.parametrize("asks", [True, False])
def test_starts(custody: Custody, asks: bool) -> None:
    """R-51, R-54: After a start only an owner serves. If it must ask, it serves only after SERVE."""
    mode = mode_after_start(custody, asks=asks)
    expected = {Custody.FROZEN: Mode.IN_DOUBT}
    if custody in OWNING:
        assert mode is (Mode.ASKING if asks else Mode.SERVING)
    else:
        assert mode is expected.get(custody, Mode.SETTLED)


def test_asking() -> None:
    """R-54: Only SERVE and FENCED end the mode asking."""
    for custody in OWNING:
        at = Standing(custody, Mode.ASKING, LAST)
        ways = {on for on, epoch in product(Word, EPOCHS) if step(at, on, epoch)}
        assert ways == {Word.SERVE, Word.FENCED}
        assert step(at, Word.SERVE, LAST - 1) is None
        assert step(at, Word.FENCED, LAST) is None


@pytest.mark.parametrize("on,generation", [(Word.FINAL, 9), (Word.COPY, 9)])
def test_a_copy_brings_its_generation(on: Word, generation: int) -> None:
    """R-51: After a copy arrives, the standing has the generation of the copy."""
    at = Standing(Custody.NONE, Mode.SETTLED, LAST, STORE)
    row = step(at, on, LAST + 1, generation)
    assert row is not None
    assert after(at, row, LAST + 1, generation).generation == generation


def test_what_is_said_has_a_hearer() -> None:
    """Each word that a state sends has a row at its receiver. For ASK, the receiver is the console."""
    heard = {row.on for row in SYSTEM}
    for saying in SAYS:
        for party in saying.to:
            rows = {row.on for row in CONSOLE} | {Word.PREPARED} if party is Party.CONSOLE else heard
            assert saying.word in rows


def test_what_left_says_nothing() -> None:
    """R-51: a system without a store sends no word."""
    assert not LEFT & {each.at for each in SAYS}
