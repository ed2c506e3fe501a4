"""The check of decisions: a console's words must agree with the last entry of its register."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from hcall_server.console.entries import Entry
from hcall_server.platform.custody import Custody, Decision, Word
from swpks.testing.simulation.decisions import DecisionWatch
from swpks.testing.simulation.records import DurableRecords, HeardWord, StoredState

UUID_OF_X = UUID(int=1)


class JudgeTrace:
    """A trace that raises each failure at once."""

    def note(self, *_: str) -> None:
        """Ignore a line of the trace."""

    def fail(self, message: str) -> None:
        """Raise a failure."""
        raise AssertionError(message)


class Judged:
    """Two systems; a test sets their records and the entries of the console's register."""

    def __init__(self) -> None:
        self.a, self.b = (SimpleNamespace(name=each, system_id=each * 32, machine=None) for each in "ab")
        trace: Any = JudgeTrace()
        self.records = DurableRecords(trace)
        sites: Any = {"a": self.a, "b": self.b}
        self.watch = DecisionWatch(sites, self.records, trace)

    def stored(self, site: Any, custody: Custody, epoch: int = 0) -> None:
        """Let a system store a record."""
        self.records._keep(site.name, UUID_OF_X, StoredState(custody, epoch))

    def entered(self, decision: Decision = Decision.OPEN, **changes: Any) -> None:
        """Let the console store an entry for attempt 1, from system a to system b."""
        a, b = self.a.system_id, self.b.system_id
        entry = Entry(str(UUID_OF_X), "x", "live", 1, Decision.OPEN, source=a, target=b, owner=a, over=False)
        self.watch.entered(entry._replace(decision=decision, **changes))

    def moved(self) -> None:
        """Let the console's register say that partition x has moved to b. No system stores a record."""
        self.entered()
        self.entered(Decision.DONE, moved=1, owner=self.b.system_id, over=True)

    def hears(self, site: Any, word: Word, epoch: int = 0) -> None:
        """Send a word of the console to a system."""
        self.watch.heard(site, HeardWord(UUID_OF_X, word, epoch))


def test_only_the_last_owner_is_told_to_serve() -> None:
    """R-54: the console may send SERVE only to the last owner in its register."""
    judged = Judged()
    judged.moved()
    judged.hears(judged.b, Word.SERVE, 1)
    judged.hears(judged.a, Word.FENCED, 1)
    with pytest.raises(AssertionError, match="hears serve"):
        judged.hears(judged.a, Word.SERVE)
    with pytest.raises(AssertionError, match="hears fenced"):
        judged.hears(judged.b, Word.FENCED, 1)


def test_without_an_entry_only_the_one_with_the_store_is_told_to_serve() -> None:
    """R-54: without an entry, SERVE is right only for a system that alone has the store."""
    judged = Judged()
    judged.stored(judged.a, Custody.OWN)
    judged.hears(judged.a, Word.SERVE)
    with pytest.raises(AssertionError, match="hears serve"):
        judged.hears(judged.b, Word.SERVE)
    judged.stored(judged.b, Custody.OWN)
    with pytest.raises(AssertionError, match="hears serve"):
        judged.hears(judged.a, Word.SERVE)
    with pytest.raises(AssertionError, match="hears fenced"):
        judged.hears(judged.a, Word.FENCED)


@pytest.mark.parametrize("custody, right", [(Custody.PREPARED, True), (Custody.NONE, False)])
def test_a_target_is_forced_only_while_it_has_the_copy(custody: Custody, right: bool) -> None:
    """R-51: a target may be forced only while it has the copy."""
    judged = Judged()
    judged.entered()
    judged.stored(judged.b, Custody.PREPARED, 1)
    judged.stored(judged.b, custody, 1)
    if right:
        judged.entered(Decision.FORCED, moved=1, owner=judged.b.system_id)
        return
    with pytest.raises(AssertionError, match="which has no copy"):
        judged.entered(Decision.FORCED, moved=1, owner=judged.b.system_id)
