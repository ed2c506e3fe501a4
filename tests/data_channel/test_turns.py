"""Turns: partitions take turns, whatever number of calls and connections each of them has (R-01)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hcall_server.machine.turns import CALLS, NO_PARTITION, PASS, SECONDS, SHARED, SHARED_FOR, Quantum, Turns


class Clock:
    """A clock that calls advance by their duration."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Talker:
    """A connection with a number of calls, each of `seconds`.

    Each call adds the connection's name to `ran`.
    """

    def __init__(self, name: str, calls: int, clock: Clock, ran: list[str], seconds: float = 0.0) -> None:
        self.name = name
        self.calls = calls
        self._clock = clock
        self._ran = ran
        self._seconds = seconds

    def serve(self, turn: Quantum) -> bool:
        """Run calls as a conversation does."""
        while self.calls and turn.calls > 0:
            self.calls -= 1
            turn.calls -= 1
            self._ran.append(self.name)
            self._clock.now += self._seconds
            if self._clock.now >= turn.until:
                turn.calls = 0
        return self.calls > 0


class Ring:
    """Turns that run in a nursery, with their own clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.ran: list[str] = []

    def talk(self, partition: int, name: str, calls: int, seconds: float = 0.0) -> None:
        """Request a turn for a connection of a partition."""
        self.turns.ask(partition, Talker(name, calls, self.clock, self.ran, seconds).serve)

    def runs(self) -> list[tuple[str, int]]:
        """Return the names in the order of the calls, each with its number of calls in a row."""
        found: list[tuple[str, int]] = []
        for name in self.ran:
            if found and found[-1][0] == name:
                found[-1] = name, found[-1][1] + 1
            else:
                found.append((name, 1))
        return found


@pytest.fixture
async def ring(nursery: trio.Nursery) -> Ring:
    """Running turns."""
    made = Ring()
    await nursery.start(made.turns.run)
    return made


async def test_a_partition_waits_for_one_turn_of_another(ring: Ring) -> None:
    """A partition waits for one turn of another, however many calls the other has received."""
    ring.talk(1, "flood", 600)
    ring.talk(2, "neighbour", 1)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("flood", CALLS), ("neighbour", 1), ("flood", 600 - CALLS)]


async def test_more_connections_give_no_more_turns(ring: Ring) -> None:
    """Partition 1 has fifty connections with calls, partition 2 has one: they alternate."""
    for number in range(50):
        ring.talk(1, f"flood {number}", CALLS)
    ring.talk(2, "neighbour", 4 * CALLS)
    await wait_all_tasks_blocked()
    assert [name for name, _ in ring.runs()[:7:2]] == [f"flood {number}" for number in range(4)]
    assert ring.runs()[1:8:2] == [("neighbour", CALLS)] * 4


async def test_the_connections_of_a_partition_share_its_turn(ring: Ring) -> None:
    """Twenty connections of one partition, with a call each, share two turns.

    They run in the order of requests.
    """
    for number in range(20):
        ring.talk(1, f"{number}", 1)
    ring.talk(2, "neighbour", 1)
    await wait_all_tasks_blocked()
    first = [f"{number}" for number in range(CALLS)]
    assert ring.ran == [*first, "neighbour", *(f"{number}" for number in range(CALLS, 20))]


async def test_a_connection_that_goes_on_lets_the_others_of_its_partition_pass(ring: Ring) -> None:
    """A connection with more calls than a turn lets the other connections of its partition run between."""
    ring.talk(1, "long", 40)
    ring.talk(1, "short", 1)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("long", CALLS), ("short", 1), ("long", 40 - CALLS)]


async def test_a_turn_begins_no_call_after_its_time(ring: Ring) -> None:
    """A turn begins no call after its time, but a call that has begun runs to its end."""
    ring.talk(1, "slow", 10, SECONDS * 0.4)
    ring.talk(1, "next", 1)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("slow", 3), ("next", 1), ("slow", 7)]


async def test_turns_are_short_while_several_partitions_call(ring: Ring) -> None:
    """If another partition has called within the last second, turns are short."""
    ring.talk(1, "flood", 20, SHARED * 0.4)
    ring.talk(2, "neighbour", 1)
    ring.talk(3, "slower", 2, SECONDS * 50)
    await wait_all_tasks_blocked()
    assert ring.runs() == [
        ("flood", CALLS),
        ("neighbour", 1),
        ("slower", 1),
        ("flood", 3),
        ("slower", 1),
        ("flood", 1),
    ]


async def test_turns_are_long_again_when_the_other_partitions_are_quiet(ring: Ring) -> None:
    """If no other partition has called for SHARED_FOR seconds, turns are long again."""
    ring.talk(2, "neighbour", 1)
    ring.talk(1, "flood", 4, SHARED)
    ring.talk(1, "other", 1)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("neighbour", 1), ("flood", 1), ("other", 1), ("flood", 3)]
    ring.ran.clear()
    ring.clock.now += SHARED_FOR
    ring.talk(1, "flood", 4, SHARED)
    ring.talk(1, "other", 1)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("flood", 4), ("other", 1)]


async def test_an_opening_connection_shortens_no_turn(ring: Ring) -> None:
    """A connection that is opening belongs to no partition yet, so it makes no turn shorter."""
    ring.talk(NO_PARTITION, "opens", 2, SHARED)
    ring.talk(1, "alone", CALLS, SHARED * 0.4)
    ring.talk(1, "alone too", 1)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("opens", 1), ("alone", CALLS), ("opens", 1), ("alone too", 1)]


async def test_bytes_without_a_call_take_time_of_the_turn(ring: Ring) -> None:
    """Receiving a piece of a frame takes time of the turn, so fifty such connections delay no partition."""

    def receives(_: Quantum) -> bool:
        ring.ran.append("piece")
        ring.clock.now += SECONDS / 2
        return False

    for _ in range(50):
        ring.turns.ask(1, receives)
    ring.talk(2, "neighbour", 1)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("piece", 2), ("neighbour", 1), ("piece", 48)]


async def test_all_other_tasks_run_between_two_passes(ring: Ring) -> None:
    """Other tasks run between two passes. Trio's order is random, so they wait for two passes at most."""
    steps: list[int] = []

    async def console() -> None:
        while len(steps) < 5:
            steps.append(len(ring.ran))
            await trio.lowlevel.checkpoint()

    per_pass = int(PASS / (SECONDS / 10)) + 1
    async with trio.open_nursery() as nursery:
        ring.talk(1, "flood", 20 * per_pass, SECONDS / 10)
        ring.talk(2, "flood too", 20 * per_pass, SECONDS / 10)
        nursery.start_soon(console)
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps) <= 2 * per_pass
    assert sum(gaps) > 0


async def test_who_asks_while_nobody_does_is_served_at_once(ring: Ring) -> None:
    """A request wakes the sleeping task at once. A request during a turn is also served at once."""
    await wait_all_tasks_blocked()
    ring.talk(1, "first", 1)
    await wait_all_tasks_blocked()
    assert ring.ran == ["first"]

    def once_more(_: Quantum) -> bool:
        ring.talk(1, "inside", 1)
        return False

    ring.turns.ask(1, once_more)
    await wait_all_tasks_blocked()
    assert ring.ran == ["first", "inside"]


class Script:
    """A source of work that calls one function of the test per poll.

    `poll` clears a pending wake, as the lane does.
    """

    def __init__(self, *polls: Callable[[], int]) -> None:
        self.polls = list(polls)
        self._event = trio.Event()
        self._woken = False

    async def wait(self) -> None:
        """Wait until woken."""
        while not self._woken:
            await self._event.wait()
            self._event = trio.Event()
        self._woken = False

    def wake(self) -> None:
        """Wake up."""
        self._woken = True
        self._event.set()

    def poll(self) -> int:
        """Run the next step of the script."""
        self._woken = False
        return self.polls.pop(0)() if self.polls else 0


async def test_the_source_is_asked_between_two_turns(ring: Ring) -> None:
    """If bytes of another partition arrive during a turn of the flood, that partition has the next turn."""

    def comes() -> int:
        ring.talk(2, "neighbour", 1)
        return 1

    ring.turns.feed(Script(lambda: 0, comes))
    ring.talk(1, "flood", 3 * CALLS)
    await wait_all_tasks_blocked()
    assert ring.runs() == [("flood", CALLS), ("neighbour", 1), ("flood", 2 * CALLS)]


async def test_without_its_source_the_turns_go_on(ring: Ring) -> None:
    """Without the source of the lane, the other turns go on."""
    ring.turns.feed(Script())
    await wait_all_tasks_blocked()
    ring.turns.feed(None)
    await wait_all_tasks_blocked()
    ring.talk(1, "still", 1)
    await wait_all_tasks_blocked()
    assert ring.ran == ["still"]
    assert repr(ring.turns) == "Turns(0 partitions ask)"


async def test_a_landing_runs_the_turns_itself(ring: Ring) -> None:
    """`serve` runs the waiting turns at once, before it returns. The task of the turns is not woken."""
    await wait_all_tasks_blocked()
    ring.turns.ask(1, Talker("held", 1, ring.clock, ring.ran).serve, wake=False)
    assert ring.ran == []
    ring.turns.serve()
    assert ring.ran == ["held"]


@pytest.mark.parametrize("calls", [1, 30])
async def test_the_task_wakes_after_turns_that_a_landing_ran(ring: Ring, calls: int) -> None:
    """If a request arrives during `serve`, the task is woken, so a later poll can't lose the request."""

    def comes() -> int:
        ring.talk(2, "neighbour", calls, SECONDS)
        return 1

    ring.turns.feed(Script(lambda: 0, comes))
    await wait_all_tasks_blocked()
    ring.turns.ask(1, Talker("held", 1, ring.clock, ring.ran).serve, wake=False)
    ring.turns.serve()
    await wait_all_tasks_blocked()
    assert ring.runs() == [("held", 1), ("neighbour", calls)]
    ring.talk(3, "later", 1)
    await wait_all_tasks_blocked()
    assert ring.ran[-1] == "later"
