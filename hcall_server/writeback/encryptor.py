"""The write-behind encryptor: takes what is dirty, seals it, commits it, and says it is flushed.

One flush covers all dirty partitions and is one NVRAM transaction.  A partition has one record, with its
profile and, where its keystore is on, its image.  So neither goes back without the other.

    a partition changes   -> dirty; the encryptor waits `delay` for company
    a CONFIRM waits       -> it goes at once
    the commit returns    -> the snapshot's generation counts as flushed
    the commit fails      -> everything stays dirty and is tried again, later and later

Nothing is ever reported as flushed before its commit has returned.

A flush fails for three kinds of reasons: NVRAM refuses; the host has no entropy, memory or thread; or a bug
raises any other exception.  All three are handled alike.  An exception that ended the encryptor would end
the whole server, and with it the changes of all partitions that no commit has taken yet.  A server that goes
on and says that it is not healthy loses nothing: guests are told "pending", and the operator can act.
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
"""Seconds that a change waits for company when no CONFIRM asks for it."""
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
    """What of one partition goes into a flush; its profile names the generation of its image."""

    partition: Partition
    keystore: Keystore | None
    profile: PartitionProfile

    @property
    def awaited(self) -> bool:
        """Whether a CONFIRM waits for what is in it."""
        return self.keystore is not None and self.keystore.contents.awaited > self.keystore.contents.flushed

    def covers(self, partition: Partition) -> bool:
        """Whether nothing that is persisted of the partition has changed since."""
        return self.keystore is partition.keystore and self.profile == partition.profile


class Encryptor:
    """Makes changes durable behind the writers' backs.

    `delay` is in seconds.  `on_trouble` is called with each failure, and with None when NVRAM
    works again.  `clock` tells how old changes are and since when a commit hangs.
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
        """Note that a partition has something to make durable; cheap, call it after every batch.

        The records of a refused partition stay as they are, for whoever can repair them.
        """
        if partition.refused:
            return
        flying = self._flying.get(partition.number)
        if flying is not None and flying.covers(partition):
            return  # all of it is on its way; whoever polls meanwhile causes no second commit
        if partition.number not in self._dirty:
            self._note_work()
            self._dirty[partition.number] = partition
        keystore = partition.keystore
        if keystore is not None and keystore.contents.awaited > keystore.contents.flushed:
            self._hurry.set()

    def system_changed(self, system: ManagedSystem) -> None:
        """Note that the system's own record is to be written, as the system is at the next flush."""
        self._note_work()
        self._system = system

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush whatever becomes dirty, until cancelled."""
        task_status.started()
        while True:
            await self._work.wait()
            with trio.move_on_after(self._delay):
                await self._hurry.wait()
            if not await self.flush():
                await trio.sleep(self._retry)

    async def flush(self) -> bool:
        """Make everything durable that is dirty now; False if that failed, and then nothing is lost."""
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
        """Return once nothing of a partition waits to be flushed; `run` flushes and tries again meanwhile."""
        while partition.number in self._dirty or partition.number in self._flying:
            await self._succeeded.wait()

    @property
    def pending(self) -> bool:
        """Whether something is not durable."""
        return bool(self._dirty) or self._system is not None or self._commit_since is not None

    @property
    def health(self) -> Health:
        """How it is doing now."""
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
        """Take over what is dirty; from here on a new change counts as dirty again."""
        batch = [
            _Snapshot(partition, partition.keystore, partition.profile) for partition in self._dirty.values()
        ]
        system = self._system
        self._dirty, self._system = {}, None
        self._hurry.set()  # run may be waiting for it, and would not hear of the new one
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
        """Seal a partition as it is now; nothing has run since the snapshot was taken."""
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
    """Return why a flush failed, as an error with a rule; its `__cause__` is the exception of a bug."""
    if isinstance(error, SwpksError):
        return error
    found: SwpksError | None = scarcity_of(error, "the flush")
    if found is None:
        name = type(error).__name__
        found = SwpksError(rules.FLUSH_FINISHED, f"a bug ended the flush ({name}): see the trace in the log")
        found.__cause__ = error
    return found
