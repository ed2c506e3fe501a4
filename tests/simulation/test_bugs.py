"""The simulation finds mistakes that are put into the product, each within a stated number of seeds.

The search of custody (`tests/platform`) finds mistakes of the tables by every interleaving.  These here are
mistakes of the code around the tables, or of tables that the code follows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import trio

from hcall_abi.control_views import CustodyView
from hcall_server.console import courier
from hcall_server.console.register import Carried, Entry, answered
from hcall_server.console.store import ConsoleStore
from hcall_server.data_channel.connection import Connection
from hcall_server.keystore.store import Keystore
from hcall_server.machine.custodian import Custodian
from hcall_server.machine.holds import Holds
from hcall_server.platform import custody
from hcall_server.platform.custody import Custody, Decision, Mode, Row, Standing, Word
from hcall_server.service import custody as starts
from hcall_server.writeback.encryptor import Encryptor
from swpks.testing.simulation import simulate
from swpks.testing.simulation.plan import DIRECTED, SLOW_ANSWERS, plan

Bug = Callable[[], AbstractContextManager[Any]]


def with_rows(change: Callable[[Row], Row | None]) -> AbstractContextManager[Any]:
    """Have the custodian follow changed tables."""
    rows = tuple(row for row in map(change, custody.SYSTEM) if row)
    step = custody.step

    def changed(at: Standing, on: Word, epoch: int = 0, generation: int = 0) -> Row | None:
        return step(at, on, epoch, generation, rows)

    return patch.object(custody, "step", changed)


def effects_before_durable() -> AbstractContextManager[Any]:
    async def at_once(_: Encryptor) -> None:
        await trio.lowlevel.checkpoint()

    return patch.object(Encryptor, "stored", at_once)


def source_resumes_alone() -> AbstractContextManager[Any]:
    def resumed(row: Row) -> Row:
        return row._replace(to=Custody.OWN, then=Mode.SERVING) if row.number == 9 else row

    return with_rows(resumed)


def source_forgets_at_release() -> AbstractContextManager[Any]:
    return with_rows(lambda row: row._replace(to=Custody.GONE) if row.number == 6 else row)


def source_is_never_fenced() -> AbstractContextManager[Any]:
    return with_rows(lambda row: None if row.number == 18 else row)


def nobody_asks() -> AbstractContextManager[Any]:
    after_start = custody.mode_after_start

    def without(record: Custody, *, asks: bool) -> Mode:
        return after_start(record, asks=asks and False)

    return patch.object(starts, "mode_after_start", without)


def target_drops_alone() -> AbstractContextManager[Any]:
    return patch.object(Custodian, "_durable", _and_later(Word.ABORTED))


def target_serves_alone() -> AbstractContextManager[Any]:
    return patch.object(Custodian, "_durable", _and_later(Word.ACTIVATE))


def _and_later(word: Word) -> Callable[..., None]:
    """Return a `Custodian._durable` that takes a word a second after PREPARED, by itself."""
    durable = Custodian._durable

    def changed(self: Any, step: Any, row: Row, partition: Any, order: Any) -> None:
        durable(self, step, row, partition, order)

        async def later() -> None:
            await trio.sleep(1)
            await self.take(order.uuid, word, order.epoch)

        if row.to is Custody.PREPARED:
            self._machine.run_beside(later)

    return changed


def passwords_stay_behind() -> AbstractContextManager[Any]:
    return patch.object(Keystore, "take_used", lambda self, used: None)


def held_calls_run() -> AbstractContextManager[Any]:
    return patch.object(Holds, "before", lambda self, partition, calls, on_refusal, counts: calls)


def epochs_are_not_compared() -> AbstractContextManager[Any]:
    step = custody.step

    def any_attempt(at: Standing, on: Word, epoch: int = 0, generation: int = 0) -> Row | None:
        return step(at, on, at.epoch if epoch and at.epoch else epoch, generation)

    return patch.object(custody, "step", any_attempt)


def register_only_in_memory() -> AbstractContextManager[Any]:
    return patch.object(ConsoleStore, "enter", lambda self, entry: None)


def console_resumes_after_forced() -> AbstractContextManager[Any]:
    def resumed(entry: Entry | None, system: str, fact: CustodyView, *further: Any) -> Any:
        if entry and entry.decision is Decision.FORCED and fact.mode == Mode.IN_DOUBT.value:
            return entry, Carried(fact.uuid, fact.epoch, "resume")
        return answered(entry, system, fact, *further)

    return patch.object(courier, "answered", resumed)


def goodbye_before_the_answers() -> AbstractContextManager[Any]:
    return patch.object(Connection, "_unsent", lambda self: b"")


def an_older_copy_is_restarted() -> AbstractContextManager[Any]:
    copies_of = ConsoleStore.copies_of
    return patch.object(ConsoleStore, "copies_of", lambda self, uuid: copies_of(self, uuid)[::-1])


LATE_FORCE, BUSY = range(9, 200, DIRECTED), range(19, 200, DIRECTED)
"""The seeds below 200 whose story is that of a late force, or of busy guests."""
BUGS: dict[str, tuple[Bug, range, str]] = {
    "effects come before the commit": (effects_before_durable, range(60), "owner"),
    "a source resumes alone": (
        source_resumes_alone,
        range(60),
        "does not serve it|two owners|no single owner",
    ),
    "a source forgets all at RELEASED": (source_forgets_at_release, range(20), "no single owner"),
    "a source is never fenced": (source_is_never_fenced, range(30), "no single owner"),
    "no system asks at a start": (nobody_asks, range(60), "two owners"),
    "a target drops its copy alone": (target_drops_alone, LATE_FORCE, "no single owner"),
    "a target serves alone": (target_serves_alone, range(60), "two owners"),
    "passwords stay behind": (passwords_stay_behind, range(20), "not linearizable"),
    "calls run while they are held": (held_calls_run, range(20), "runs a call in FROZEN"),
    "epochs are not compared": (epochs_are_not_compared, range(60), "no single owner"),
    "the register is only in memory": (register_only_in_memory, LATE_FORCE, "two owners"),
    "a console resumes after FORCED": (console_resumes_after_forced, LATE_FORCE, "two owners"),
    "GOODBYE comes before the answers": (goodbye_before_the_answers, BUSY, "not linearizable"),
    "a restart takes an older copy": (an_older_copy_is_restarted, range(200), "an older copy"),
}
"""Each mistake, the seeds among which it is found, and the text of its failure."""


def test_the_stated_seeds_have_the_stories_of_their_mistakes() -> None:
    assert all(any(step.what == "late-force" for step in plan(seed).steps) for seed in LATE_FORCE)
    assert all(plan(seed).slow_answers > SLOW_ANSWERS for seed in BUSY)
    assert all(seeds.stop <= 200 for _, seeds, _ in BUGS.values())


@pytest.mark.parametrize("name", BUGS)
def test_a_mistake_is_found(name: str) -> None:
    bug, seeds, failure = BUGS[name]
    with bug():
        found = next((each for each in map(partial(simulate, traced=False), seeds) if each.failure), None)
    assert found, f"not found in {seeds}"
    assert any(part in found.failure for part in failure.split("|")), found.failure
