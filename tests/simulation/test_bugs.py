"""Mistakes are planted into the product; the simulation finds each one within a stated number of seeds.

The search of custody (`tests/platform`) finds mistakes of the tables by every interleaving. The mistakes here
are in the code around the tables, or in tables that the code follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
import trio

from hcall_abi.consumers import SecureBoot
from hcall_abi.control_views import CustodyView
from hcall_client import following
from hcall_client.errors import ConnectionLost, SessionEnded
from hcall_client.following import FollowingChannel, _Call
from hcall_server.console import courier, migrations, restarting
from hcall_server.console.entries import Carried, Entry, answered, forced
from hcall_server.console.registry import Registry
from hcall_server.console.restarting import Restarter
from hcall_server.console.store import ConsoleStore
from hcall_server.data_channel.connection import Connection
from hcall_server.keystore.store import Keystore
from hcall_server.machine.custodian import Custodian
from hcall_server.machine.holds import Holds
from hcall_server.machine.steps import Steps
from hcall_server.platform import custody
from hcall_server.platform.custody import Custody, Decision, Mode, Row, Standing, Word
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import Power
from hcall_server.service import custody as starts
from hcall_server.writeback.encryptor import Encryptor
from swpks.testing.simulation import simulate
from swpks.testing.simulation.decisions import DecisionWatch
from swpks.testing.simulation.plan import DIRECTED, SLOW_ANSWERS, plan
from swpks.testing.simulation.records import DurableRecords

Bug = Callable[[], AbstractContextManager[Any]]


def with_rows(change: Callable[[Row], Row | None]) -> AbstractContextManager[Any]:
    """Run a block in which the custodian follows changed tables."""
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
    """Return a replacement of `Custodian._durable` that adds a mistake.

    One second after PREPARED is durable, the custodian takes this word, although no message brings it.
    """
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
    def resumed(entry: Entry | None, system: str, fact: CustodyView, *known: Any, **claims: Any) -> Any:
        if entry and entry.decision is Decision.FORCED and fact.mode == Mode.IN_DOUBT.value:
            return entry, Carried(fact.uuid, fact.epoch, "resume")
        return answered(entry, system, fact, *known, **claims)

    return patch.object(courier, "answered", resumed)


def everybody_is_told_to_serve() -> AbstractContextManager[Any]:
    def served(entry: Entry | None, system: str, fact: CustodyView, *known: Any, **claims: Any) -> Any:
        if fact.mode == Mode.ASKING.value:
            return entry, Carried(fact.uuid, fact.epoch, "serve")
        return answered(entry, system, fact, *known, **claims)

    return patch.object(courier, "answered", served)


def goodbye_before_the_answers() -> AbstractContextManager[Any]:
    return patch.object(Connection, "_unsent", lambda self: b"")


@contextmanager
def an_older_copy_is_restarted() -> Iterator[None]:
    copies_of = ConsoleStore.copies_of
    older = patch.object(ConsoleStore, "copies_of", lambda self, uuid: copies_of(self, uuid)[::-1])
    with older, patch.object(Restarter, "_is_newest", lambda self, uuid, copy: True):
        yield


def a_connected_source_is_restarted() -> AbstractContextManager[Any]:
    async def anyway(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    return patch.object(restarting, "demand_dead", anyway)


def no_bars() -> AbstractContextManager[Any]:
    async def unbarred(self: Restarter, _: object, entry: Entry) -> Entry:
        await trio.lowlevel.checkpoint()
        self.tools.registry.enter(entry._replace(over=True))
        return self.tools.entry(entry.uuid)

    return patch.object(Restarter, "_bar", unbarred)


def views_show_memory() -> AbstractContextManager[Any]:
    return patch.object(Custodian, "_shown", lambda self, uuid, partition: self._present(uuid, partition))


def a_step_has_its_effects_first() -> AbstractContextManager[Any]:
    async def completed(self: Any, step: Any, row: Row, partition: Any, order: Any) -> None:
        try:
            self._durable(step, row, partition, order)
            await self._machine.encryptor.stored()
        finally:
            self._under_way.pop(order.uuid, None)
            step.ended.set()

    return patch.object(Custodian, "_completed", completed)


def forced_without_a_copy() -> AbstractContextManager[Any]:
    def unguarded(entry: Entry, fact: CustodyView | None) -> Entry:
        shown = fact or CustodyView(entry.uuid, entry.name, "none", "settled", 0, 0, "")
        return forced(entry, msgspec.structs.replace(shown, custody="prepared", epoch=entry.epoch))

    return patch.object(migrations, "forced", unguarded)


def forced_after_resume() -> AbstractContextManager[Any]:
    def unguarded(entry: Entry, fact: CustodyView | None) -> Entry:
        resumed = entry.decision is Decision.ABORTED
        return forced(entry._replace(decision=Decision.OPEN) if resumed else entry, fact)

    return patch.object(migrations, "forced", unguarded)


def passwords_outlive_an_ipl() -> AbstractContextManager[Any]:
    ipl = Keystore.ipl

    def kept(self: Keystore, mode: SecureBoot) -> None:
        passwords = dict(self.access.passwords.items())
        ipl(self, mode)
        for consumer, password in passwords.items():
            self.access.passwords.take(consumer, password)

    return patch.object(Keystore, "ipl", kept)


def held_calls_are_answered_after_release() -> AbstractContextManager[Any]:
    return patch.object(Holds, "leave", Holds.end)


def a_target_runs_its_copy() -> AbstractContextManager[Any]:
    perform = Steps.perform

    def performed(self: Any, row: Row, partition: Any, order: Any) -> None:
        perform(self, row, partition, order)
        if row.to is Custody.PREPARED:
            with patch.object(Partition, "next_power", lambda self, event: Power.RUNNING):
                self._machine.arrive(partition, order.traveller)

    return patch.object(Steps, "perform", performed)


def the_console_speaks_first() -> AbstractContextManager[Any]:
    def later(self: Any, entry: Entry, _: str | None = None) -> None:
        new = entry != self._entries.get(entry.uuid)
        self._entries[entry.uuid] = entry

        async def store() -> None:
            await trio.sleep(0.05)
            self._store.enter(entry)

        if new:
            trio.lowlevel.spawn_system_task(store)

    return patch.object(Registry, "enter", later)


def a_channel_repeats_unknown_calls() -> AbstractContextManager[Any]:
    def moved(error: object) -> bool:
        return isinstance(error, SessionEnded | ConnectionLost)

    return patch.object(following, "has_moved", moved)


def a_channel_repeats_calls_twice() -> AbstractContextManager[Any]:
    stay = FollowingChannel._stay

    async def twice(self: Any, task_status: Any) -> Any:
        self._waiting = deque(each for call in self._waiting for each in (_Call(call.request), call))
        return await stay(self, task_status)

    return patch.object(FollowingChannel, "_stay", twice)


def a_channel_repeats_calls_in_any_order() -> AbstractContextManager[Any]:
    stay = FollowingChannel._stay

    async def turned(self: Any, task_status: Any) -> Any:
        self._waiting.reverse()
        return await stay(self, task_status)

    return patch.object(FollowingChannel, "_stay", turned)


LATE_FORCE, BUSY = range(9, 200, DIRECTED), range(19, 200, DIRECTED)
"""The seeds below 200 whose story has a late force, or busy guests."""
RESUMED, IN_DOUBT = range(4, 200, DIRECTED), range(14, 200, DIRECTED)
"""The seeds with a force after RESUME, and with a restart during a migration."""
FORMER = (7, 21, 25, 35, 45, 53, 58)
"""Seeds in which a former owner asks whether it may serve."""
FOLLOWED = sorted([*BUSY, *range(2, 200, DIRECTED)])
"""Seeds with a guest that follows its partition."""
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
    "GOODBYE comes before the answers": (goodbye_before_the_answers, BUSY, "not linearizable|follows"),
    "a restart takes an older copy": (an_older_copy_is_restarted, range(200), "an older copy"),
}
"""Each mistake, the seeds among which it breaks a promise, and the text of its failure."""
SHARP: dict[str, tuple[Bug, Sequence[int], str]] = {
    "a connected source is restarted": (a_connected_source_is_restarted, IN_DOUBT, "is connected"),
    "a restart sets no bars": (no_bars, IN_DOUBT, "without a bar"),
    "views show memory": (views_show_memory, range(10), "which is not stored"),
    "a step has its effects first": (a_step_has_its_effects_first, range(10), "which is not stored"),
    "a target without a copy is forced": (forced_without_a_copy, RESUMED, "which has no copy"),
    "a target is forced after RESUME": (forced_after_resume, RESUMED, "takes back"),
    "passwords outlive an IPL": (passwords_outlive_an_ipl, range(20), "not linearizable|older password"),
    "held calls are answered after RELEASED": (
        held_calls_are_answered_after_release,
        range(20),
        "gets the answer H_STATE|follows",
    ),
    "a target runs its copy": (a_target_runs_its_copy, range(10), "runs a partition in PREPARED"),
    "a channel repeats calls that may have run": (a_channel_repeats_unknown_calls, FOLLOWED, "follows"),
    "a channel repeats calls twice": (a_channel_repeats_calls_twice, FOLLOWED, "follows"),
    "a channel repeats calls in any order": (a_channel_repeats_calls_in_any_order, FOLLOWED, "follows"),
    "everybody who asks is told to serve": (everybody_is_told_to_serve, FORMER, "hears serve(1)"),
    "the console speaks before it stores": (the_console_speaks_first, range(10), "has stored nothing"),
}
"""The same for mistakes that show in a view, a word or a decision; they may never break a promise."""


def test_the_stated_seeds_have_the_stories_of_their_mistakes() -> None:
    assert all(any(step.what == "late-force" for step in plan(seed).steps) for seed in LATE_FORCE)
    assert all(plan(seed).slow_answers > SLOW_ANSWERS for seed in BUSY)
    assert all(plan(seed).follows for seed in FOLLOWED)
    assert all(any(step.what == "force-after-resume" for step in plan(seed).steps) for seed in RESUMED)
    assert all(any(step.what == "restart-in-doubt" for step in plan(seed).steps) for seed in IN_DOUBT)
    assert all(max(seeds) < 200 for _, seeds, _ in [*BUGS.values(), *SHARP.values()])


@pytest.mark.parametrize("name", BUGS)
def test_a_mistake_breaks_a_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake breaks a promise.

    The checks of views, words and decisions are off, because they find most of these mistakes earlier.
    """
    for sharp, judge in ((DurableRecords, "shown"), (DurableRecords, "heard")):
        monkeypatch.setattr(sharp, judge, lambda *_: None)
    for judge in ("entered", "heard"):
        monkeypatch.setattr(DecisionWatch, judge, lambda *_: None)
    _demand_found(*BUGS[name])


@pytest.mark.parametrize("name", SHARP)
def test_a_mistake_is_found_at_once(name: str) -> None:
    _demand_found(*SHARP[name])


def _demand_found(bug: Bug, seeds: Sequence[int], failure: str) -> None:
    with bug():
        found = next((each for each in map(partial(simulate, traced=False), seeds) if each.failure), None)
    assert found, f"not found in {seeds}"
    assert any(part in found.failure for part in failure.split("|")), found.failure
