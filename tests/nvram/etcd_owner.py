"""A server that owns records in etcd, commits and loads without pause, and records each act.

It runs in a thread.  A test may suspend it as a machine is suspended: its threads and its clock stand still.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Literal

import httpx

from hcall_abi.rules import storage as rules
from hcall_server.nvram import NvramError, NvramInUseError
from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.deadlines import TotalTimeouts
from hcall_server.nvram.etcd.lease import Lease, LeaseKeeper
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.transport import EtcdCluster
from hcall_server.nvram.mark import MemoryMark
from tests.nvram.etcd_history import OwnerAct, Records

NAMES = ("commit", "system", *(f"partition-{n}" for n in range(6)))
"""Several records, of which a commit puts few: so a load still finds an old one that has come back."""
ATTEMPT = 0.2
"""Seconds that a member gets: short, so that many requests are given up at a member that is stopped."""
PATIENCE = 120.0
"""Seconds after which a wait is a failure of the test."""
TRIES_WHEN_LOST = 3
"""Commits that a server tries after it was told that it is not the owner; all must fail."""


class SuspendedMachine:
    """The machine of one server: its clock, and whether it runs."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._running.set()
        self._changing = threading.Lock()
        self._lost = 0.0
        self._stopped_at = 0.0

    def clock(self) -> float:
        """Return monotonic seconds in which the machine has run."""
        with self._changing:
            now = time.monotonic() if self._running.is_set() else self._stopped_at
            return now - self._lost

    def wait(self) -> None:
        """Return when the machine runs."""
        assert self._running.wait(PATIENCE), "a machine was suspended for ever"

    def suspend(self) -> None:
        """Let all threads of the server stand still at their next request."""
        with self._changing:
            self._stopped_at = time.monotonic()
            self._running.clear()

    def resume(self) -> None:
        """Let the machine go on.  Its clock does not know of the pause."""
        with self._changing:
            self._lost += time.monotonic() - self._stopped_at
            self._running.set()


class SuspendedTransport(TotalTimeouts):
    """A transport that sends nothing, and returns no answer, while its machine is suspended.

    `on_given_up` is called after each request without an answer in time.
    """

    def __init__(self, machine: SuspendedMachine, on_given_up: Callable[[], None]) -> None:
        super().__init__(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._machine = machine
        self._on_given_up = on_given_up

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request while the machine runs."""
        self._machine.wait()
        try:
            return super().handle_request(request)
        except httpx.TimeoutException:
            self._on_given_up()
            raise
        finally:
            self._machine.wait()


class BusyOwner:
    """One life of a server: it claims the records, then commits and loads until it is told to end.

    `note` takes each act.  `slowness` multiplies its time-outs and the time of its lease.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        endpoints: list[str],
        chance: Random,
        note: Callable[[OwnerAct], None],
        slowness: int,
    ) -> None:
        self.name = name
        self.machine = SuspendedMachine()
        self.end: Literal["hand over", "die"] | None = None
        self.lost = False
        self.given_up = 0
        """Requests without an answer in time."""
        self._chance = chance
        self._note = note
        self._count = 0
        clusters = [self._connected(endpoints, ATTEMPT * slowness) for _ in range(2)]
        self._cluster = clusters[0]
        self.lease = Lease(clusters[1], self.machine.clock, chance.randint(1, 2) * slowness)
        self._nvram = EtcdNvram(self._cluster, EtcdKeys(prefix), name.encode(), self.lease, MemoryMark())
        self._keeper = LeaseKeeper(self.lease, lambda error: None)

    def _connected(self, endpoints: list[str], attempt: float) -> EtcdCluster:
        transport = SuspendedTransport(self.machine, self._give_up)
        return EtcdCluster(endpoints, httpx.Client(transport=transport, timeout=attempt, trust_env=False))

    def _give_up(self) -> None:
        self.given_up += 1

    def claim(self) -> bool:
        """Try to become the owner; return whether that has succeeded."""
        called = time.monotonic()
        try:
            self.lease.grant()
            self._nvram.own()
        except NvramInUseError:
            return False
        except NvramError:
            self._noted("claim", called, {}, done=False)
            return False
        self._noted("claim", called, {}, done=True)
        return True

    def run(self) -> None:
        """Work as the owner until the end."""
        self._keeper.start()
        # Sometimes the former owner gets time for a commit before the first fence of this one.
        self.machine.wait()
        time.sleep(self._chance.choice((0, 0, 0.05)))
        self._load()
        while not self.lost and not self.end:
            self.machine.wait()
            self._work()
        for _ in range(TRIES_WHEN_LOST if self.lost else 0):
            self._commit()

    def close(self) -> None:
        """Give the ownership up; after the death of a server only the end of its lease does that."""
        self._keeper.stop(PATIENCE)
        if self.end == "die":
            self._cluster.close()
            self.lease.close()
        else:
            self._nvram.close()

    def _work(self) -> None:
        if self._chance.random() < 0.25:
            # Another member is asked first.  So a stopped member gets more requests than one.
            self._chance.shuffle(self._cluster._endpoints)
        # A load after a failed commit finds its outcome.
        if self._chance.random() < 0.2 or (not self._commit() and self._chance.random() < 0.5):
            self._load()

    def _commit(self) -> bool:
        self._count += 1
        value = f"{self.name} {self._count}".encode()
        names = (
            NAMES if self._chance.random() < 0.1 else self._chance.sample(NAMES, self._chance.randint(1, 3))
        )
        changes = {name: None if self._chance.random() < 0.1 else value for name in names}
        called = time.monotonic()
        done = self._tried(lambda: self._nvram.commit(changes))
        self._noted("commit", called, changes, done=done)
        return done

    def _load(self) -> None:
        found: dict[str, bytes] = {}
        called = time.monotonic()
        if self._tried(lambda: found.update(self._nvram.load())):
            self._noted("load", called, found, done=True)

    def _tried(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except NvramError as error:
            self.lost = self.lost or error.rule is rules.NVRAM_OWNER
            return False
        return True

    def _noted(
        self, kind: Literal["claim", "commit", "load"], called: float, records: Records, *, done: bool
    ) -> None:
        self._note(OwnerAct(self.name, kind, called, time.monotonic(), records, done))


def revoked(owner: BusyOwner, endpoints: list[str]) -> bool:
    """End the lease of an owner in etcd; it is not told.  Return whether a member has answered."""
    for endpoint in endpoints:
        with suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=1) as client:
            answer = client.post(f"{endpoint}/v3/lease/revoke", json={"ID": str(owner.lease.id)})
            if answer.status_code in (httpx.codes.OK, httpx.codes.NOT_FOUND):
                return True
    return False
