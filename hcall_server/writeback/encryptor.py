"""The write-behind encryptor: seals dirty partitions, commits them, and marks them flushed.

One flush covers all dirty partitions and is one NVRAM transaction.  A partition has one record, with its
profile and, where its keystore is on, its image.  So neither goes back without the other.

    a partition changes   -> dirty; the encryptor waits `delay` for changes of other partitions
    a CONFIRM waits       -> the flush begins at once
    the commit returns    -> the snapshot's generation counts as flushed
    the commit fails      -> everything stays dirty; the next try comes after a longer wait

Nothing is ever reported as flushed before its commit has returned.

A flush fails for three kinds of reasons: NVRAM refuses; the host has no entropy, memory or thread; or a bug
raises any other exception.  All three are handled alike.  An exception that ended the encryptor would end
the whole server, and lose the pending changes of all partitions.  A server that goes on and reports bad
health loses nothing: CONFIRM answers "pending", and the operator can act.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import trio

from hcall_abi.errors import SwpksError
from hcall_abi.rules import storage as rules
from hcall_abi.scarcity import scarcity_of
from hcall_server.keystore.store import Keystore
from hcall_server.nvram.names import SYSTEM, partition_name
from hcall_server.platform.partition import Partition
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing import PartitionRecord, Sealer, SystemRecord, seal_partition, seal_system
from hcall_server.writeback.commits import Commits
from hcall_server.writeback.health import FlushState, Health
from hcall_server.writeback.worker import Worker

if TYPE_CHECKING:
    from hcall_server.platform.system import ManagedSystem

DEFAULT_DELAY = 0.05
"""Seconds that a change waits for changes of other partitions, if no CONFIRM asks for it."""
FIRST_RETRY = 0.05
LAST_RETRY = 5.0
"""Seconds between tries while NVRAM refuses: doubling from the first to the last."""
STALL = 2.0
"""Seconds after which a commit that has not returned counts as stalled."""

Clock = Callable[[], float]
"""Seconds since some moment; never goes back."""
OnTrouble = Callable[[SwpksError | None], None]
Records = dict[str, bytes | None]


class _Snapshot(NamedTuple):
    """The state of one partition for a flush; its profile has the generation of its image."""

    partition: Partition
    keystore: Keystore | None
    profile: PartitionProfile

    @property
    def awaited(self) -> bool:
        """Whether a CONFIRM waits for a change in this snapshot."""
        return self.keystore is not None and self.keystore.contents.awaited > self.keystore.contents.flushed

    def covers(self, partition: Partition) -> bool:
        """Return whether this snapshot is still current."""
        return self.keystore is partition.keystore and self.profile == partition.profile


class Encryptor:
    """Makes changes durable asynchronously: a writer gets its answer before the commit.

    `delay` is in seconds.  `on_trouble` is called with each failure, and with None when NVRAM
    works again.  `clock` measures the age of changes and the duration of commits.
    """

    def __init__(
        self,
        commits: Commits,
        sealer: Sealer,
        worker: Worker,
        *,
        clock: Clock,
        delay: float = DEFAULT_DELAY,
        on_trouble: OnTrouble = lambda error: None,
    ) -> None:
        self._commits = commits
        self._sealer = sealer
        self._worker = worker
        self.on_trouble = on_trouble
        self._clock = clock
        self._delay = delay
        self._dirty: dict[int, Partition] = {}
        self._system: ManagedSystem | None = None
        self._dirty_since = 0.0
        self._flying: dict[int, _Snapshot] = {}
        self._flying_since = 0.0
        self._work = trio.Event()
        self._hurry = trio.Event()
        self._succeeded = trio.Event()
        self._turn = trio.Lock()
        self._commit_since: float | None = None
        self._retry = 0.0
        self._error: SwpksError | None = None
        self._successes = 0
        self._failures = 0

    def changed(self, partition: Partition) -> None:
        """Mark a partition dirty.  Cheap: call it after every batch.

        A refused partition is never marked: its records must stay as they are until they are repaired.
        """
        if partition.refused:
            return
        flying = self._flying.get(partition.number)
        if flying is not None and flying.covers(partition):
            return  # the running commit has every change: a guest that polls must cause no second commit
        if partition.number not in self._dirty:
            self._note_work()
            self._dirty[partition.number] = partition
        keystore = partition.keystore
        if keystore is not None and keystore.contents.awaited > keystore.contents.flushed:
            self._hurry.set()

    def system_changed(self, system: ManagedSystem) -> None:
        """Mark the system record dirty; the next flush writes the system as it is then."""
        self._note_work()
        self._system = system

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush changes as they come, until cancelled."""
        task_status.started()
        while True:
            await self._work.wait()
            with trio.move_on_after(self._delay):
                await self._hurry.wait()
            if not await self.flush():
                await trio.sleep(self._retry)

    async def flush(self) -> bool:
        """Commit all dirty records; return False if that failed, and then they stay dirty."""
        async with self._turn:
            if not self._dirty and self._system is None:
                return True
            batch, system = self._take()
            self._flying = {snapshot.partition.number: snapshot for snapshot in batch}
            self._flying_since, self._commit_since = self._dirty_since, self._clock()
            try:
                await self._commit(batch, system)
            except Exception as error:
                self._put_back(system)
                self._note_failure(flush_error(error))
                return False
            except BaseException:
                self._put_back(system)
                raise
            finally:
                self._flying, self._commit_since = {}, None
            self._note_success(batch)
            return True

    async def durable(self, partition: Partition) -> None:
        """Return once a partition has no pending change; `run` flushes and retries meanwhile."""
        while partition.number in self._dirty or partition.number in self._flying:
            await self._succeeded.wait()

    @property
    def pending(self) -> bool:
        """Whether any change is not durable."""
        return bool(self._dirty) or self._system is not None or self._commit_since is not None

    @property
    def health(self) -> Health:
        """The state of write-behind now, with its counts."""
        pending = len(self._dirty.keys() | self._flying.keys())
        since = self._flying_since if self._flying else self._dirty_since
        return Health(
            state=self._state(),
            last_error=self._error.message if self._error else None,
            pending=pending,
            oldest_pending=self._clock() - since if pending else 0.0,
            commits=self._successes,
            failures=self._failures,
        )

    def _state(self) -> FlushState:
        if self._commit_since is not None and self._clock() - self._commit_since > STALL:
            return "stalled"
        if self._error:
            return "retrying"
        if self._commit_since is not None:
            return "flushing"
        return "waiting" if self.pending else "idle"

    def _note_work(self) -> None:
        if not self._dirty and self._system is None:
            self._dirty_since = self._clock()
        self._work.set()

    def _take(self) -> tuple[list[_Snapshot], ManagedSystem | None]:
        """Take the dirty partitions and the system; a change after this makes its partition dirty again."""
        batch = [
            _Snapshot(partition, partition.keystore, partition.profile) for partition in self._dirty.values()
        ]
        system = self._system
        self._dirty, self._system = {}, None
        self._hurry.set()  # `run` may wait for this event, and does not see its successor
        self._work, self._hurry = trio.Event(), trio.Event()
        return batch, system

    async def _commit(self, batch: list[_Snapshot], system: ManagedSystem | None) -> None:
        records: Records = {partition_name(each.profile.uuid): self._sealed(each) for each in batch}
        if system is not None:
            records[SYSTEM] = seal_system(self._sealer, SystemRecord.of(system))
        commit = self._commits.prepared(records)
        await self._worker.run(commit.run)
        self._commits.done(commit)

    def _sealed(self, snapshot: _Snapshot) -> bytes:
        """Seal a partition as it is now: no other task has run since the snapshot was taken."""
        image = snapshot.keystore.contents.snapshot() if snapshot.keystore else None
        return seal_partition(self._sealer, PartitionRecord(snapshot.profile, image))

    def _put_back(self, system: ManagedSystem | None) -> None:
        for number, snapshot in self._flying.items():
            self._dirty[number] = snapshot.partition
        self._system = self._system or system
        self._dirty_since = self._flying_since
        self._work.set()
        if any(snapshot.awaited for snapshot in self._flying.values()):
            self._hurry.set()

    def _note_failure(self, error: SwpksError) -> None:
        self._failures += 1
        self._error = error
        self._retry = min(max(2 * self._retry, FIRST_RETRY), LAST_RETRY)
        self.on_trouble(error)

    def _note_success(self, batch: list[_Snapshot]) -> None:
        self._successes += 1
        self._succeeded.set()
        self._succeeded = trio.Event()
        for snapshot in batch:
            if snapshot.keystore:
                snapshot.keystore.contents.mark_flushed(snapshot.profile.image_generation)
        if self._error:
            self._error, self._retry = None, 0.0
            self.on_trouble(None)


def flush_error(error: Exception) -> SwpksError:
    """Return the error of a failed flush, with its rule; the exception of a bug is its `__cause__`."""
    if isinstance(error, SwpksError):
        return error
    found: SwpksError | None = scarcity_of(error, "the flush")
    if found is None:
        name = type(error).__name__
        found = SwpksError(rules.FLUSH_FINISHED, f"a bug ended the flush ({name}): see the trace in the log")
        found.__cause__ = error
    return found
