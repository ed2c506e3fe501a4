"""While the disk works, the encryptor prepares keys for guests that are likely to confirm again."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hcall_server.nvram import parse_partition
from hcall_server.sealing.formats import ENVELOPE, SALT_SIZE
from hcall_server.writeback.worker import Job, Landed
from tests.guest import Chance
from tests.writeback.rig import FLUSHED, Rig
from tests.writeback.workers import ParkedWorker


class Salts:
    """Entropy that counts the salts it returned, and can fail."""

    def __init__(self) -> None:
        self.given = 0
        self.broken = False
        self._chance = Chance()

    def __call__(self, size: int) -> bytes:
        if size == SALT_SIZE:
            if self.broken:
                raise OSError(5, "Input/output error")
            self.given += 1
        return self._chance(size)


class Noting(ParkedWorker):
    """A worker that records the number of drawn salts at the start of each flight."""

    def __init__(self, salts: Salts) -> None:
        super().__init__()
        self.salts = salts
        self.before: list[int] = []

    def start(self, job: Job, landed: Landed) -> None:
        self.before.append(self.salts.given)
        super().start(job, landed)


class Prepared:
    """A rig that counts the salts that are drawn after its assembly."""

    def __init__(self, partitions: int = 1) -> None:
        self.salts = Salts()
        self.worker = Noting(self.salts)
        self.rig = Rig(partitions, worker=self.worker, entropy=self.salts, kbytes=8)
        self.salts.given = 0

    def ask(self, label: bytes, n: int = 0) -> None:
        """Write an object, and wait for its flush."""
        self.rig.write(label, n=n)
        self.rig.confirm(label, n=n)
        self.rig.encryptor.wait_landing(lambda: None, trio.current_time() + 1)

    def counts(self) -> tuple[list[int], int]:
        """Return the number of salts at the start of each flight, and the present number."""
        return self.worker.before, self.salts.given


async def test_the_key_of_the_next_flight_is_there_when_it_starts() -> None:
    """R-20: The first flight draws its own key. Each later flight finds a prepared one."""
    it = Prepared()
    for n in range(3):
        it.ask(b"%d" % n)
        it.worker.let_go()
    assert it.counts() == ([1, 2, 3], 4)
    records = [item for changes in it.rig.journal.journal for item in changes.items()]
    blobs = [blob for name, blob in records if parse_partition(name)]
    assert len({ENVELOPE.parse(blob).header.salt for blob in blobs}) == 3
    assert it.rig.power_cut().objects() == it.rig.objects()


async def test_no_key_is_made_for_a_guest_that_did_not_ask() -> None:
    """R-20: No key is prepared for a guest without CONFIRM, because it does not wait."""
    it = Prepared(2)
    it.rig.write(b"quiet", n=1)
    it.ask(b"asked")
    assert it.counts() == ([2], 3)


async def test_an_old_key_is_dropped(mock_clock: MockClock) -> None:
    """R-02: A prepared key is dropped after a second, because a copy of an idle machine could use it too."""
    it = Prepared()
    it.ask(b"first")
    it.worker.let_go()
    mock_clock.jump(1.0)
    it.ask(b"in time")
    it.worker.let_go()
    mock_clock.jump(1.01)
    it.ask(b"late")
    assert it.counts() == ([1, 2, 4], 5)


async def test_a_failure_to_prepare_is_no_failure_of_the_flight() -> None:
    """R-23: If no key can be prepared, the flight is still durable. The next flight reports the error."""
    it = Prepared()
    it.rig.write(b"label")
    it.rig.confirm(b"label")
    start = it.worker.start

    def start_and_break(job: Job, landed: Landed) -> None:
        start(job, landed)
        it.salts.broken = True

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(it.worker, "start", start_and_break)
        it.rig.encryptor.wait_landing(lambda: None, 1)
    it.worker.let_go()
    assert (it.rig.confirm(b"label"), it.rig.told) == (FLUSHED, [])
    it.ask(b"another")
    it.worker.let_go()
    assert [report and report.rule.id for report in it.rig.told] == ["scarce.entropy"]


async def test_a_large_flight_prepares_a_bounded_number() -> None:
    """R-20: A large flight prepares at most 64 keys, because more partitions can't be in a hurry at once."""
    it = Prepared(66)
    for n in range(66):
        it.rig.write(b"label", n=n)
        it.rig.confirm(b"label", n=n)
    it.rig.encryptor.wait_landing(lambda: None, 1)
    assert it.counts() == ([66], 66 + 64)
