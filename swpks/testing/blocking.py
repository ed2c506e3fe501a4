"""A fresh partition inside the process for plain tests: the real server in a thread with its own loop.

    with blocking_partition(level="FW1060") as partition:
        config = partition.channel.call(get_config())

The engine alone, without a loop, would start in less time.  But sessions, write-behind and CONFIRM need the
loop.  Without the loop, a plain test would test another server than an asynchronous test.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar, Unpack

from hcall_abi.attributes import attribute_number
from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import WrongType, check_function, check_time_limit
from hcall_client.blocking import BlockingChannel
from swpks.testing.at_caller import at_caller, block
from swpks.testing.block import tasks_around
from swpks.testing.loop_thread import LoopThread
from swpks.testing.options import FreshPartition, PartitionOptions, check_known, faults_of, fresh_partition
from swpks.testing.remedies import of_session, off_already, off_told
from swpks.testing.snapshots import PartitionSnapshots

if TYPE_CHECKING:
    from hcall_server.platform.saved import PartitionSnapshot

T = TypeVar("T")

TIMEOUT = 20.0
"""Most seconds of each call of a channel, so that a test fails and does not hang."""


_ENDS = of_session("channel = ipl(), or take the member `channel` of the newest IPL", "channel = connect()")


class BlockingPartition:
    """A running partition with an open session, for a test without an event loop.

    `channel` is a session of the current IPL.  `partition`, `machine`, `encryptor` and `nvram` are the
    server's own objects.  They belong to the server's thread.  To change one, or to read several at the same
    moment, use `run`.
    """

    channel: BlockingChannel

    def __init__(self, fresh: FreshPartition, loop: LoopThread[FreshPartition]) -> None:
        self.machine, self.partition, self._transport, self.nvram = fresh
        self.encryptor = self.machine.encryptor
        self._loop = loop
        self._snapshots = PartitionSnapshots(self.machine, self.partition, "ipl()")
        self._channels: list[BlockingChannel] = []

    def __repr__(self) -> str:
        return f"BlockingPartition({self.partition!r})"

    @at_caller
    def run(self, function: Callable[[], T]) -> T:
        """Run a plain function in the thread of the server, and return its result."""
        check_function("the argument of run", function, "run(lambda: ...)")
        if inspect.iscoroutinefunction(function):
            raise WrongType("run takes a plain function, not an asynchronous one: write run(lambda: ...)")
        return self._loop.run_sync(function)

    @at_caller
    def locate(self) -> socket.socket:
        """Return a new connection to the partition, for `FollowingBlockingChannel`."""
        from hcall_server.data_channel.stream import SocketStream

        # The connection is a socket and no memory stream: a plain test waits in the kernel, in another thread
        # than the server.
        ours, theirs = socket.socketpair()
        try:
            self.run(lambda: self._transport.serve(SocketStream(theirs), self.partition.name))
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return ours

    @at_caller
    def connect(self, timeout: float | None = TIMEOUT) -> BlockingChannel:
        """Open one more session with the partition; the end of the block closes it if the test has not."""
        check_time_limit("timeout", timeout)
        with off_told(self.partition.name, "channel = ipl()"):
            channel = BlockingChannel.connect(self.locate(), name="test", timeout=timeout)
        channel.advise(_ENDS)
        self._channels.append(channel)
        return channel

    @at_caller
    def ipl(self, secure_boot: SecureBoot | str | None = None) -> BlockingChannel:
        """Restart the partition, with another secure-boot mode if one is given ("off", "audit", "enforce").

        Every session ends with GOODBYE 2.  A new session is opened, stored as `channel`, and returned.
        """
        name = self.partition.name
        if secure_boot is not None:
            mode = attribute_number("secure_boot", secure_boot)
            self.run(lambda: self.machine.set_attributes(name, {"secure_boot": mode}))
        start = self.machine.ipl if self.partition.running else self.machine.power_on
        self.run(lambda: start(name))
        self.channel = self.connect()
        return self.channel

    @at_caller
    def set_faults(self, *faults: str) -> None:
        """Give the partition a fault plan from its next call on; without arguments, remove the plan.

        The texts are those of `EmulatedPartition.set_faults`.  Seconds are those of the real clock.
        """
        plan = faults_of(faults)
        self.run(lambda: self.machine.set_faults(self.partition.name, plan))

    @at_caller
    def power_off(self) -> None:
        """Stop the partition; its sessions end with GOODBYE 2."""
        try:
            self.run(lambda: self.machine.power_off(self.partition.name))
        except OperatorError as error:
            raise off_already(error, "ipl()") from None

    @at_caller
    def flush(self) -> bool:
        """Flush all changes now; return False if NVRAM refused."""
        return self._loop.run(self.encryptor.flush)

    @at_caller
    def snapshot(self) -> PartitionSnapshot:
        """Return the state of the partition for `restore`: objects, passwords, attributes with the latch.

        It is in memory, with TRANSIENT objects and the mode of the IPL.  OperatorError while the partition
        is powered off, or while it moves.
        """
        return self.run(self._snapshots.save)

    @at_caller
    def restore(self, snapshot: PartitionSnapshot | None = None) -> None:
        """Return to a snapshot of this partition, by default to its last one.  Sessions go on.

        Generation and IPL count never go back.  The restored objects count as changed: CONFIRM is "not yet"
        until the next flush.  Open label lists end.  Faults and the power stay.

        WrongType if it is no snapshot, WrongValue if it is one of another partition, NoSnapshot if there is
        none, OperatorError while the partition is powered off, or while it moves.
        """
        self.run(lambda: self._snapshots.restore(snapshot))

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Open the session `channel` when the block begins, and close all sessions when it ends."""
        try:
            self.channel = self.connect()
            yield
        finally:
            for channel in self._channels:
                channel.close()


@block
def blocking_partition(
    name: str = "lpar1", **options: Unpack[PartitionOptions]
) -> Iterator[BlockingPartition]:
    """Run a fresh, powered-on partition for the length of a block; the test needs no event loop.

    The options are those of `swpks.testing.fresh_partition`.  A failure of the server is raised at the end.
    """
    check_known(fresh_partition, options)
    loop = LoopThread(lambda: _served(name, options))
    fresh = loop.start()
    try:
        partition = BlockingPartition(fresh, loop)
        with partition._open():
            yield partition
    finally:
        loop.stop()


@asynccontextmanager
async def _served(name: str, options: PartitionOptions) -> AsyncIterator[FreshPartition]:
    """Make a partition, and serve it for the length of a block."""
    # The machine is made within the loop, because it takes the clock of the loop.
    fresh = fresh_partition(name, **options)
    async with tasks_around() as nursery:
        await nursery.start(fresh.machine.run)
        fresh.machine.start()
        yield fresh
