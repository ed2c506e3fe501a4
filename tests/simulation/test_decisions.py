"""The watch of decisions checks a console's words against the last entry of its register."""

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
    """Raises each failure at once."""

    def note(self, *_: str) -> None:
        """Take a line of the trace."""

    def fail(self, message: str) -> None:
        """Take a failure."""
        raise AssertionError(message)


class Judged:
    """Two systems whose records and entries a test sets."""

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
        """Let the console store an entry of the attempt 1, a to b."""
        a, b = self.a.system_id, self.b.system_id
        entry = Entry(str(UUID_OF_X), "x", "live", 1, Decision.OPEN, source=a, target=b, owner=a, over=False)
        self.watch.entered(entry._replace(decision=decision, **changes))

    def moved(self) -> None:
        """Move x to b, by entries alone."""
        self.entered()
        self.entered(Decision.DONE, moved=1, owner=self.b.system_id, over=True)

    def hears(self, site: Any, word: Word, epoch: int = 0) -> None:
        """Deliver a word to a system."""
        self.watch.heard(site, HeardWord(UUID_OF_X, word, epoch))


def test_only_the_last_owner_is_told_to_serve() -> None:
    """R-54: SERVE goes only to the last owner; an entry with a former owner does not count."""
    judged = Judged()
    judged.moved()
    judged.hears(judged.b, Word.SERVE, 1)
    judged.hears(judged.a, Word.FENCED, 1)
    with pytest.raises(AssertionError, match="hears serve"):
        judged.hears(judged.a, Word.SERVE)
    with pytest.raises(AssertionError, match="hears fenced"):
        judged.hears(judged.b, Word.FENCED, 1)


def test_without_an_entry_only_the_one_with_the_store_is_told_to_serve() -> None:
    """R-54: without an entry, a second system may have the store too, and then no system serves."""
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
    """R-51: a target that has dropped its copy is not forced."""
    judged = Judged()
    judged.entered()
    judged.stored(judged.b, Custody.PREPARED, 1)
    judged.stored(judged.b, custody, 1)
    if right:
        judged.entered(Decision.FORCED, moved=1, owner=judged.b.system_id)
        return
    with pytest.raises(AssertionError, match="which has no copy"):
        judged.entered(Decision.FORCED, moved=1, owner=judged.b.system_id)
