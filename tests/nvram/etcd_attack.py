"""Accidents of etcd's members and of owners, while owners of several systems commit: `attack`.

tests/nvram/etcd_history.py judges each system's history.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random

from tests.nvram.etcd_history import OwnerAct, judge
from tests.nvram.etcd_members import Members
from tests.nvram.etcd_owner import PATIENCE, BusyOwner, revoked
from tests.nvram.etcd_server import BusyServer, SharedFolder, histories_of

RIVALS = 2
"""Servers that want to own a system."""
SLOWEST = 5
"""Largest factor of time-outs and leases on a machine that is busy with other work."""
TRAPPED = 4
"""Requests of each system that a stopped member gets; after the stop it may still carry them out."""
POLL = 0.05
"""Seconds between two claims of a server that waits."""

Figures = dict[str, int]


class ContestedSystem:
    """One system in etcd, and the servers that take it over from each other.

    With a `folder` they are servers with write-behind, otherwise owners of bare NVRAM.
    """

    def __init__(
        self, members: Members, prefix: str, chance: Random, folder: SharedFolder | None = None
    ) -> None:
        self.history: list[OwnerAct] = []
        self.owner: BusyOwner | None = None
        """The last server that has claimed the system."""
        self._endpoints = members.endpoints
        self._prefix = prefix
        self._chance = chance
        self._folder = folder
        self._lives = 0
        self._given_up = 0
        self._slowness = 1
        self._over = threading.Event()
        self._news = threading.Condition()
        self._pool = ThreadPoolExecutor(RIVALS)
        self._rivals = [self._pool.submit(self._compete, Random(f"{chance.random()}")) for _ in range(RIVALS)]

    def done(self, kind: str = "commit") -> int:
        """Return the number of acts of a kind that have succeeded."""
        return sum(act.kind == kind and act.done for act in self.history)

    def failed(self) -> int:
        """Return the number of commits and claims without an answer or refused."""
        return sum(not act.done for act in self.history)

    def given_up(self) -> int:
        """Return the number of requests without an answer in time."""
        owner = self.owner
        return self._given_up + (owner.given_up if owner else 0)

    def wait(self, enough: Callable[[], bool]) -> None:
        """Return when the history is long enough; AssertionError if that takes too long."""
        with self._news:
            assert self._news.wait_for(lambda: enough() or self._ended(), PATIENCE), (
                f"no progress: {self._prefix}"
            )
        for rival in self._rivals:
            # A server ends by itself only with an error, which is raised here.
            if rival.done():
                rival.result()

    def wait_commits(self, count: int) -> None:
        """Return after so many further acknowledged commits."""
        until = self.done() + count
        self.wait(lambda: self.done() >= until)

    def disturb(self, accident: str) -> None:
        """Let the present owner have an accident, and return when another one has claimed the system."""
        self.wait(lambda: self.owner is not None)
        owner = self.owner
        assert owner is not None
        if accident == "paused":
            self._pause(owner)
            return
        if accident == "lease revoked":
            until = time.monotonic() + PATIENCE
            while self.owner is owner and not revoked(owner, self._endpoints):
                assert time.monotonic() < until, "no member revokes a lease"
        else:
            owner.end = "die" if accident == "died" else "hand over"
        self.wait(lambda: self.owner is not owner)

    def _pause(self, owner: BusyOwner) -> None:
        owner.machine.suspend()
        try:
            self.wait(lambda: self.owner is not owner)
            # Either at once, so that it meets the new owner before its first fence, or later.
            if self._chance.random() < 0.5:
                self.wait_commits(self._chance.randint(1, 5))
        finally:
            owner.machine.resume()

    def close(self) -> None:
        """End the servers."""
        self._over.set()
        if self.owner:
            self.owner.end = self.owner.end or "hand over"
        self._pool.shutdown()

    def judged(self) -> int:
        """Load what the last owner left, and judge the history; return its number of acts."""
        last, until = self._made(self._chance, "last"), time.monotonic() + PATIENCE
        while not last.claim():
            assert time.monotonic() < until, "the last owner has left its key"
            last.close()
            time.sleep(POLL)
            last = self._made(self._chance, "last")
        last.end = "hand over"
        last.run()
        last.close()
        assert any(act.kind == "load" and act.owner == last.name for act in self.history)
        for rival in self._rivals:
            rival.result()
        histories = [self.history] if self._folder is None else histories_of(self.history)
        return sum(judge(each) for each in histories)

    def _ended(self) -> bool:
        return any(rival.done() for rival in self._rivals)

    def _compete(self, chance: Random) -> None:
        try:
            while not self._over.wait(POLL):
                self._live(chance)
        finally:
            self._notify()

    def _live(self, chance: Random) -> None:
        owner = self._made(chance, "life")
        try:
            if owner.claim():
                self.owner = owner
                self._notify()
                if self._over.is_set():
                    owner.end = "hand over"
                owner.run()
                self._adapt(owner)
        finally:
            owner.close()
            with self._news:
                self._given_up += owner.given_up
                owner.given_up = 0

    def _adapt(self, owner: BusyOwner) -> None:
        """Give the next owner more time if this one has done nothing: the machine may be too busy."""
        idle = not any(act.owner == owner.name and act.kind == "commit" and act.done for act in self.history)
        self._slowness = min(SLOWEST, self._slowness + 1) if idle else 1

    def _made(self, chance: Random, word: str) -> BusyOwner:
        with self._news:
            self._lives += 1
            name = f"{word} {self._lives}"
        endpoints = chance.sample(self._endpoints, len(self._endpoints))
        if self._folder is None:
            return BusyOwner(name, self._prefix, endpoints, chance, self._note, self._slowness)
        return BusyServer(name, self._prefix, endpoints, chance, self._note, self._slowness, self._folder)

    def _note(self, act: OwnerAct) -> None:
        with self._news:
            self.history.append(act)
            self._news.notify_all()

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()


class MemberAccidents:
    """Accidents of members; each waits until the systems have gone on, and ends with healthy members."""

    def __init__(self, members: Members, systems: list[ContestedSystem], chance: Random) -> None:
        self._members = members
        self._systems = systems
        self._chance = chance
        self.kinds: dict[str, Callable[[], None]] = {
            "follower killed": lambda: self._kill(self._follower()),
            "leader killed": lambda: self._kill(members.leader()),
            "follower stopped": lambda: self._stop(self._follower()),
            "leader stopped": lambda: self._stop(members.leader()),
            "majority lost": self._lose_majority,
        }

    def run(self, kind: str) -> None:
        """Let an accident happen."""
        self.kinds[kind]()
        self._members.ready()
        self._go_on(3)

    def _follower(self) -> int:
        return (self._members.leader() + self._chance.randint(1, 2)) % 3

    def _go_on(self, commits: int) -> None:
        for each in self._systems:
            each.wait_commits(commits)

    def _kill(self, number: int) -> None:
        self._members.kill(number)
        self._go_on(3)
        self._members.start(number)

    def _stop(self, number: int) -> None:
        """Stop a member until requests to it were given up, and newer commits were acknowledged."""
        before = [each.given_up() for each in self._systems]
        self._members.pause(number)
        try:
            for each, count in zip(self._systems, before, strict=True):
                each.wait(lambda each=each, count=count: each.given_up() >= count + TRAPPED)  # type: ignore[misc]
            self._go_on(3)
        finally:
            self._members.go_on(number)

    def _lose_majority(self) -> None:
        lost = self._chance.sample(range(3), 2)
        before = [each.failed() for each in self._systems]
        for number in lost:
            self._members.kill(number)
        for each, count in zip(self._systems, before, strict=True):
            each.wait(lambda each=each, count=count: each.failed() > count)  # type: ignore[misc]
        for number in lost:
            self._members.start(number)


OWNER_ACCIDENTS = ("handed over", "died", "paused", "lease revoked")


def attack(members: Members, chance: Random, prefix: str) -> Figures:
    """Let every accident happen once to the members and to each system's owner; judge; return figures.

    Two systems have owners of bare NVRAM, one has servers with write-behind.
    """
    with ExitStack() as stack:
        systems = [
            ContestedSystem(members, f"{prefix}/{n}", Random(f"{chance.random()}"), folder)
            for n, folder in enumerate((None, None, SharedFolder()))
        ]
        for each in systems:
            stack.callback(each.close)
        accidents = MemberAccidents(members, systems, chance)
        pool = stack.enter_context(ThreadPoolExecutor(len(systems)))
        disturbed = [pool.submit(_disturb, each, _shuffled(chance, OWNER_ACCIDENTS)) for each in systems]
        for kind in _shuffled(chance, accidents.kinds):
            accidents.run(kind)
        for ended in disturbed:
            ended.result()
    acts = sum(each.judged() for each in systems)
    return {"acts": acts, **_figures(systems, accidents)}


def _disturb(system: ContestedSystem, kinds: list[str]) -> None:
    for kind in kinds:
        system.wait_commits(5)
        system.disturb(kind)


def _shuffled(chance: Random, kinds: object) -> list[str]:
    names = sorted(kinds)  # type: ignore[call-overload]
    chance.shuffle(names)
    return names


def _figures(systems: list[ContestedSystem], accidents: MemberAccidents) -> Figures:
    counts = Counter[str]()
    for each in systems:
        counts["commits acknowledged"] += each.done()
        counts["commits and claims failed"] += each.failed()
        counts["loads"] += each.done("load")
        counts["owners"] += each.done("claim")
        counts["requests given up"] += each.given_up()
    return {
        **counts,
        "accidents of members": len(accidents.kinds),
        "of owners": len(systems) * len(OWNER_ACCIDENTS),
    }
