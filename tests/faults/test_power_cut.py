"""The power is cut at every operation of NVRAM, before and after its effect: thousands of cuts.

A machine works on a virtual clock. At each commit the test checks the records that a cut there would leave,
before and after it. At intervals the power is really cut, and the next life starts on what is left.
`SWPKS_FAULT_SEED` repeats the choices of a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from random import Random

import pytest
import trio.testing

from hcall_abi.faults import NvramFault
from swpks.testing.etcd.network import drawn
from tests.faults import writer
from tests.faults.history import History, State
from tests.faults.simulation import Life, Simulation
from tests.nvram.backends import Backend, EtcdBackend, MemoryBackend

pytestmark = pytest.mark.usefixtures("not_measured")

SEED = os.environ.get("SWPKS_FAULT_SEED") or str(int.from_bytes(os.urandom(4), "big"))
NAMES = ("a", "b")
KBYTES = 8


class Trial:
    """A simulation, the histories of its partitions, and the checks of all possible cuts."""

    def __init__(self, seed: str, *, trouble: bool = False, backend: Backend | None = None) -> None:
        self.chance = Random(seed)
        planned = troubles(self.chance) if trouble else []
        self.simulation = Simulation(self.chance, NAMES, KBYTES, planned, backend)
        self.histories = {name: History(self.chance, KBYTES) for name in NAMES}
        self.bases = dict.fromkeys(NAMES, 0)
        self.ipls = dict.fromkeys(NAMES, 0)
        self._left_by: Mapping[str, bytes] | None = None
        self._left: dict[str, tuple[int, State]] = {}
        self.judged = 0
        self.lost = 0
        self.simulation.nvram.watch = self.judge

    def judge(self, records: Mapping[str, bytes]) -> None:
        """Compare the histories with the stores that a cut at this moment would leave."""
        self.judged += 1
        for name, (generation, state) in self.left(records).items():
            history, number = self.histories[name], generation - self.bases[name]
            assert history.confirmed <= number
            assert history.states[number] == state
            self.lost += number < len(history.states) - 1

    def left(self, records: Mapping[str, bytes]) -> dict[str, tuple[int, State]]:
        """Return the generation and the store of each partition that a start on these records would find."""
        # The records after one commit are the records before the next one, so one result is stored.
        if records is not self._left_by:
            self._left_by, self._left = records, dict.fromkeys(NAMES, (0, {}))
            for name, partition in self.simulation.recovered(records).partitions.items():
                assert partition.keystore is not None
                image = partition.keystore.contents.snapshot()
                assert len(image.objects) == partition.keystore.contents.object_count, (
                    "nothing TRANSIENT was stored"
                )
                state = {(each.consumer, each.label): (each.policy, each.data) for each in image.objects}
                self._left[name] = image.generation, state
        return self._left

    async def live(self, batches: int, delay: float) -> None:
        """Run one life, until each guest has made its batches of calls or the power is cut."""

        async def body(life: Life) -> None:
            backend = self.simulation.nvram.backend
            if isinstance(backend, EtcdBackend):
                # Requests meet fates during a life, and not at its start: a failed start is no life.
                network = backend.lab.networks[-1]
                network.fates, network._lateness = drawn(self.chance, 0.1), lambda: self.chance.randint(1, 9)
            async with trio.open_nursery() as guests:
                for name in NAMES:
                    guests.start_soon(self.guest, life, name, batches)

        await self.simulation.live(delay, body)

    async def guest(self, life: Life, name: str, batches: int) -> None:
        """Act as the guest of a partition: read, write, wait for some time, and restart at random."""
        chance, history = self.chance, self.histories[name]
        await self.look(life, name, first=True)
        while batches:
            async with life.session(name) as channel:
                some = chance.randint(1, batches)
                for _ in range(some):
                    await writer.work_async(channel, history, longest=chance.choice((2, 12)))
                    await trio.sleep(chance.choice((0, 0.02, 0.2)))
                batches -= some
            if batches:
                life.machine.ipl(name)
                history.ipl()
                await self.look(life, name, first=False)

    async def look(self, life: Life, name: str, *, first: bool) -> None:
        """Read the whole store and compare it with the history.

        `first` is True for the first look after a power cut. The cut may then have lost changes.
        """
        history, partition = self.histories[name], life.system.find(name)
        async with life.session(name) as channel:
            assert channel.ipl_count > self.ipls[name] or first
            self.ipls[name] = channel.ipl_count
            state: State = await writer.have_async(channel, writer.look(history))
            if first:
                history.found(state)
                assert partition.keystore is not None
                self.bases[name] = partition.keystore.contents.generation
            else:
                assert state == history.memory
            history.opened_with(writer.LOOK)

    async def torment(self, lives: int) -> int:
        """Run this number of lives; return how many of them a power cut has ended."""
        chance, nvram, cuts = self.chance, self.simulation.nvram, 0
        for _ in range(lives):
            nvram.operations, nvram.at = 0, chance.randint(1, 60)
            nvram.after = chance.random() < 0.5
            await self.live(batches=40, delay=chance.choice((0, 0.005, 0.05)))
            cuts += nvram.operations >= nvram.at
        return cuts


def troubles(chance: Random) -> list[NvramFault]:
    """Plan NVRAM faults: one commit in five fails, some of them after their effect."""
    numbers = [n for n in range(1, 2000) if chance.random() < 0.2]
    return [NvramFault(chance.choice(("full", "io")), nth=n, after=chance.random() < 0.3) for n in numbers]


@pytest.mark.slow
@pytest.mark.parametrize(
    "trials, through_channel, backend",
    [(3, True, MemoryBackend), (12, False, MemoryBackend), (2, False, EtcdBackend)],
    ids=["sessions", "direct", "direct over etcd"],
)
async def test_a_cut_at_any_commit_of_a_long_history(
    autojump_clock: trio.testing.MockClock,
    trials: int,
    through_channel: bool,
    backend: Callable[[], Backend],
) -> None:
    """R-04, R-14, R-20 to R-23: a cut at each of thousands of commits.

    Every other machine has failing NVRAM too.  Over etcd, requests are late, lost and repeated as well.
    """
    print(f"SWPKS_FAULT_SEED={SEED}")
    all_trials = [Trial(f"{SEED} {n}", trouble=bool(n % 2), backend=backend()) for n in range(trials)]
    cuts = 0
    for trial in all_trials:
        trial.simulation.through_channel = through_channel
        cuts += await trial.torment(lives=5)
    judged, lost = sum(trial.judged for trial in all_trials), sum(trial.lost for trial in all_trials)
    facts = sum(history.facts for trial in all_trials for history in trial.histories.values())
    print(f"{judged} places for a cut judged, {cuts} cuts, {facts} facts confirmed, {lost} stores lost news")
    assert judged > 100 * trials
    assert min(lost, facts, cuts) >= trials // 2


@pytest.mark.parametrize("backend, batches", [(MemoryBackend, 20), (EtcdBackend, 10)])
async def test_a_cut_at_every_operation_of_a_short_history(
    autojump_clock: trio.testing.MockClock, backend: Callable[[], Backend], batches: int
) -> None:
    """R-21, R-22: a cut at each operation in turn, also at the load of a start.

    Another life follows each cut.
    """
    nth, after, ended = 1, False, False
    while not ended:
        trial = Trial(f"{SEED} short", backend=backend())
        nvram = trial.simulation.nvram
        nvram.at, nvram.after = nth, after
        await trial.live(batches=batches, delay=0)
        ended = nvram.operations < nth
        nvram.at = 0
        await trial.live(batches=2, delay=0)
        nth, after = nth + after, not after
    assert nth > 10
