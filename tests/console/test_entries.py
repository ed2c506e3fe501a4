"""The console's register of partitions (R-51, R-54): its entries, decisions and words, and its table."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.control_views import CustodyName, CustodyView, ModeName
from hcall_abi.errors import OperatorError
from hcall_abi.rules import migration as rules
from hcall_server.console.carried import words_for
from hcall_server.console.entries import (
    Carried,
    Entry,
    aborted,
    answered,
    begun,
    forced,
    heard,
    next_epoch,
    restarted,
)
from hcall_server.console.migration_status import End, live_rows, row_text
from hcall_server.console.store import ConsoleStore
from hcall_server.platform.custody import Decision

A, B, C = "a" * 32, "b" * 32, "c" * 32
UUID = "11111111-0000-4000-8000-000000000000"
NEW = Entry(UUID, "x")


def fact(
    custody: CustodyName, epoch: int, peer: str = "", mode: ModeName = "settled", **further: Any
) -> CustodyView:
    """Return a fact of a system about x."""
    facts: dict[str, Any] = {"generation": 9, **further}
    return CustodyView(uuid=UUID, name="x", custody=custody, mode=mode, epoch=epoch, peer_id=peer, **facts)


_E = NEW._replace(kind="live", epoch=5)


@pytest.mark.parametrize(
    "source, target, forced, rows",
    [
        (None, None, False, []),
        (("own", 11), ("none", 13), False, ["4 FROZEN a", "11 OWN a", "13 NONE b"]),
        (("frozen", 4), None, False, ["4 FROZEN a"]),
        (("frozen", 9), None, False, ["4 FROZEN a", "9 FROZEN a"]),
        (("frozen", 4), ("prepared", 5), False, ["4 FROZEN a", "5 PREPARED b"]),
        (("released", 6), None, False, ["4 FROZEN a", "5 PREPARED b", "6 RELEASED a"]),
        (None, ("arrived", 7), False, ["4 FROZEN a", "5 PREPARED b", "6 RELEASED a", "7 ARRIVED b"]),
        (None, ("arrived", 7), True, ["4 FROZEN a", "5 PREPARED b", "7 ARRIVED b"]),
        (
            ("released", 12),
            ("arrived", 7),
            True,
            ["4 FROZEN a", "5 PREPARED b", "12 RELEASED a", "7 ARRIVED b"],
        ),
        (
            ("gone", 8),
            None,
            False,
            ["4 FROZEN a", "5 PREPARED b", "6 RELEASED a", "7 ARRIVED b", "8 GONE a"],
        ),
        (
            ("gone", 0),
            ("arrived", 0),
            True,
            ["4 FROZEN a", "5 PREPARED b", "12 RELEASED a", "7 ARRIVED b", "8 GONE a"],
        ),
    ],
)
def test_rows_that_no_view_has_shown_follow_from_later_ones(source, target, forced, rows) -> None:
    """R-51: rows that no view has shown are derived from later views, so the progress has every row."""
    ends = [
        End(name, fact(shown[0], 5, row=shown[1]) if shown else None)
        for name, shown in (("a", source), ("b", target))
    ]
    expected = [f"row {row}: {at}(5) at {name}" for row, at, name in map(str.split, rows)]
    assert live_rows(_E, *ends, forced=forced) == expected


def test_a_row_is_the_one_that_the_system_took() -> None:
    """R-51: The console names the row that the system reports, because several rows lead to one custody.

    If the system reports no row, the console names the usual one.
    """
    for custody, row in (("released", 12), ("released", 18), ("none", 19), ("none", 13), ("gone", 8)):
        text = row_text(_E, fact(custody, 5, row=row), "a")  # type: ignore[arg-type]
        assert text == f"row {row}: {custody.upper()}(5) at a"
    assert row_text(_E, fact("released", 5), "a") == "row 6: RELEASED(5) at a"


OPEN = begun(NEW, "live", 5, A, B)
DONE = heard(OPEN, B, fact("arrived", 5, A)) or NEW
ASKS = fact("frozen", 5, B, "in-doubt")


def decided(entry: Entry | None, asked: CustodyView, system: str = A, known=(A, B, C)) -> tuple:
    """Return the decision and the word with which the console answers a question."""
    answer = answered(entry, system, asked, known)
    assert answer
    return answer[0] and answer[0].decision, answer[1]


def test_an_attempt_is_open_until_its_target_serves() -> None:
    """Rows 1 and 7: an attempt is open, and the source owns the partition, until the target serves."""
    assert (OPEN.decision, OPEN.owner, OPEN.over) == (Decision.OPEN, A, False)
    assert (DONE.decision, DONE.owner, DONE.over, DONE.moved) == (Decision.DONE, B, True, 5)
    assert heard(DONE, B, fact("arrived", 5, A)) == DONE
    again = begun(DONE, "live", 6, B, C)
    assert (again.moved, again.owner) == (5, B)
    with pytest.raises(OperatorError) as caught:
        begun(forced(OPEN, fact("prepared", 5, A)), "live", 6, A, C)
    assert caught.value.rule is rules.CUSTODY_IDLE


def test_a_source_in_doubt_is_answered_by_the_table() -> None:
    """R-51, row 10: OPEN becomes ABORTED; after a forced or complete attempt the source is fenced."""
    assert decided(OPEN, ASKS) == (Decision.ABORTED, Carried(UUID, 5, "resume"))
    assert decided(aborted(OPEN), ASKS) == (Decision.ABORTED, Carried(UUID, 5, "resume"))
    assert decided(DONE, ASKS) == (Decision.DONE, Carried(UUID, 5, "fenced", peer=B))
    taken = forced(OPEN, fact("prepared", 5, A))
    assert decided(taken, ASKS) == (Decision.FORCED, Carried(UUID, 5, "fenced", peer=B))


def test_a_question_about_an_older_attempt() -> None:
    """A source that asks about the attempt of the last move, or an older one, is fenced.

    If it asks about a later attempt that is not the open one, it resumes.
    """
    later = begun(DONE, "live", 8, B, C)
    assert decided(later, ASKS)[1] == Carried(UUID, 5, "fenced", peer=B)
    assert decided(later, fact("frozen", 7, C, "in-doubt"), B)[1] == Carried(UUID, 7, "resume")
    assert decided(later, fact("frozen", 2, C, "in-doubt"), C)[1] == Carried(UUID, 2, "fenced", peer=B)


def test_a_forced_attempt_needs_the_copy_and_is_never_resumed() -> None:
    """Row 14: a forced attempt needs the copy and is never resumed; a resumed attempt is never forced."""
    for shown in None, fact("none", 5), fact("prepared", 4, A), fact("arrived", 4, A):
        with pytest.raises(OperatorError) as caught:
            forced(OPEN, shown)
        assert caught.value.rule is rules.MIGRATION_FORCE
    with pytest.raises(OperatorError):
        forced(aborted(OPEN), fact("prepared", 5, A))
    taken = forced(OPEN, fact("prepared", 5, A))
    assert aborted(taken) == taken


def test_only_the_owner_serves_after_a_start() -> None:
    """R-54, rows 17 and 18: After a start only the owner of a partition serves it."""
    asks = fact("own", 0, mode="asking")
    assert decided(None, asks)[1] == Carried(UUID, 0, "serve")
    assert decided(OPEN, asks)[1] == Carried(UUID, 0, "serve")
    assert decided(aborted(OPEN), fact("own", 5, B, "asking"))[1] == Carried(UUID, 5, "serve")
    moved = restarted(NEW, "restart", 5, A, B, b"copy")
    assert decided(moved, asks)[1] == Carried(UUID, 5, "fenced", peer=B)
    assert decided(DONE, fact("arrived", 5, A, "asking"), B)[1] == Carried(UUID, 5, "serve")
    assert answered(DONE, A, fact("own", 5, B, "asking"), [A, B]) is None


def test_a_new_store_answers_only_what_it_can_know() -> None:
    """A console without an entry answers a source in doubt only after the target has sent a view.

    Before the console lost its store, it may have forced the target.
    """
    assert answered(None, A, ASKS, [A]) is None
    assert decided(None, ASKS) == (Decision.ABORTED, Carried(UUID, 5, "resume"))
    entry = heard(None, B, fact("arrived", 5, A))
    assert entry
    assert (entry.epoch, entry.decision, entry.owner, entry.moved) == (5, Decision.DONE, B, 5)
    assert decided(entry, ASKS)[1] == Carried(UUID, 5, "fenced", peer=B)
    left = heard(None, A, fact("gone", 5, B))
    assert left
    assert (left.owner, left.moved) == (B, 5)
    own = heard(None, C, fact("own", 6, B))
    assert own
    assert decided(own, ASKS)[1] == Carried(UUID, 5, "fenced", peer=C)
    assert next_epoch(None, [fact("own", 6), fact("gone", 9)]) == 10
    assert next_epoch(OPEN, []) == 6
    assert heard(None, A, fact("own", 0, mode="asking")) is None


def test_an_attempt_is_over_by_a_record_that_proves_it() -> None:
    """An attempt is over when a record proves its end: the source owns again, or the target was barred."""
    for system, shown in (A, fact("own", 5, B)), (B, fact("none", 5)), (B, fact("none", 6)):
        entry = heard(OPEN, system, shown)
        assert entry
        assert entry.over, shown
    for system, shown in (
        (A, fact("own", 4, B)),
        (A, fact("frozen", 5, B)),
        (A, fact("released", 5, B)),
        (B, fact("none", 4)),
        (B, fact("prepared", 5, A)),
        (C, fact("none", 5)),
    ):
        assert heard(OPEN, system, shown) == OPEN
    older = heard(begun(aborted(OPEN, over=True), "live", 6, A, C), B, fact("arrived", 5, A))
    assert older
    assert (older.epoch, older.decision, older.moved, older.owner, older.over) == (
        6,
        Decision.OPEN,
        5,
        B,
        True,
    )


def test_a_restart_waits_for_the_end_of_the_last_attempt() -> None:
    """Row 20: a restart waits until the target of the last attempt is barred."""
    with pytest.raises(OperatorError) as caught:
        restarted(OPEN, "restart", 6, A, C, b"copy")
    assert caught.value.rule is rules.CUSTODY_IDLE
    entry = restarted(aborted(OPEN, over=True), "restart", 6, A, C, b"copy")
    assert (entry.decision, entry.owner, entry.final) == (Decision.FORCED, C, b"copy")
    assert heard(entry, C, fact("none", 0)) == entry
    done = heard(entry, C, fact("arrived", 6, A))
    assert done
    assert (done.decision, done.final) == (Decision.DONE, b"")


CARRIED = {
    "PREPARED to a frozen source": (OPEN, A, "frozen", "waiting", B, "prepared", [("prepared", 5, 9)]),
    "ACTIVE to a frozen source": (DONE, A, "frozen", "in-doubt", B, "arrived", [("active", 5, 0)]),
    "ACTIVATE to a target": (OPEN, B, "prepared", "settled", A, "released", [("activate", 5, 0)]),
    "ABORTED to a target": (OPEN, B, "prepared", "settled", A, "own", [("aborted", 5, 0)]),
    "nothing to a target whose source waits": (OPEN, B, "prepared", "settled", A, "frozen", []),
    "ACTIVE to a released source": (DONE, A, "released", "settled", B, "arrived", [("active", 5, 0)]),
    "nothing while the owner was not seen": (DONE, A, "released", "settled", B, "prepared", []),
    "FORCE to a target": (
        forced(OPEN, fact("prepared", 5, A)), B, "prepared", "settled", A, "frozen", [("force", 5, 0)],
    ),
    "nothing to a source that is cleaned up by order": (
        DONE._replace(kind="restart"), A, "released", "settled", B, "arrived", [],
    ),
    "nothing to an owner": (DONE, B, "arrived", "serving", A, "gone", []),
}  # fmt: skip


@pytest.mark.parametrize("case", CARRIED.values(), ids=CARRIED)
def test_a_word_follows_from_the_records(case) -> None:
    """R-51: The console sends a word only to a system whose last shown record requires the word."""
    entry, system, custody, mode, other, shown, words = case
    facts = {system: fact(custody, 5, other, mode), other: fact(shown, 5, system)}
    found = words_for(entry, system, facts)
    assert [(each.word, each.epoch, each.generation) for each in found] == words
    if custody == "frozen" and mode == "in-doubt":
        assert words_for(entry, system, facts, away=[other]) == []


def test_entries_are_durable(tmp_path: Path) -> None:
    """Each fact of an entry is there after a restart of the console."""
    path = tmp_path / "console.sqlite"
    store = ConsoleStore(path)
    entry = restarted(NEW, "restart", 5, A, B, b"copy")
    store.enter(OPEN)
    store.enter(entry)
    store.close()
    with closing(ConsoleStore(path)) as again:
        assert again.register() == [entry]


def test_a_store_of_the_release_before_gets_the_register(tmp_path: Path) -> None:
    """A store of the previous release is opened with all contents.

    The older release refuses it afterwards.
    """
    path = tmp_path / "console.sqlite"
    store = ConsoleStore(path)
    store.set_identity("1" * 32, "hmc")
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE register")
        connection.execute("PRAGMA user_version = 1")
    with closing(ConsoleStore(path)) as again:
        assert again.identity() == ("1" * 32, "hmc")
        again.enter(OPEN)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
