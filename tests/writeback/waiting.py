"""Guests whose CONFIRM waits for a landing, as in the data channel."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import wait_all_tasks_blocked

from tests.writeback.rig import PENDING, Rig
from tests.writeback.workers import ParkedWorker

PATIENCE = 0.04
"""Default seconds that a CONFIRM waits."""


class Waiting:
    """A CONFIRM that got "not yet" and waits for a landing. `calls` has the times of its callback."""

    def __init__(self, rig: Rig, label: bytes = b"label", *, n: int = 0, patience: float = PATIENCE) -> None:
        self.calls: list[float] = []
        self.then: Callable[[], object] = lambda: None
        assert rig.confirm(label, n=n) == PENDING
        self.drop = rig.encryptor.wait_landing(self._go_on, trio.current_time() + patience)

    def _go_on(self) -> None:
        self.calls.append(trio.current_time())
        self.then()


def ask(rig: Rig, label: bytes = b"label", *, n: int = 0) -> Waiting:
    """Write an object, and return its waiting CONFIRM."""
    rig.write(label, n=n)
    return Waiting(rig, label, n=n)


async def starts_in(parked: ParkedWorker, seconds: float) -> None:
    """Check that the next flight starts after this time and not before."""
    jobs = len(parked.jobs)
    await trio.sleep(seconds * 0.9)
    assert len(parked.jobs) == jobs
    await trio.sleep(seconds * 0.2)
    assert len(parked.jobs) == jobs + 1


async def flushed(rig: Rig, parked: ParkedWorker) -> bool:
    """Flush while the test runs the worker's jobs; return the result."""
    went: list[bool] = []

    async def flush() -> None:
        went.append(await rig.encryptor.flush())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        await wait_all_tasks_blocked()
        parked.let_go()
    return went[0]
