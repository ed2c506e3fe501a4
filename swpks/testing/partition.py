"""A fresh partition inside the process: the real server over memory streams, NVRAM in memory.

Engine, sessions, write-behind and sealing are those of `swpks serve`.  Only sockets, disk and the NVRAM
thread are replaced, so a partition starts in a few milliseconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Unpack

import trio

from hcall_abi.attributes import attribute_number
from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError
from hcall_client.channel import Channel, open_channel
from hcall_client.mistakes import check_loop
from swpks.testing.at_caller import async_block, at_caller
from swpks.testing.block import tasks_around
from swpks.testing.options import PartitionOptions, check_known, faults_of, fresh_partition
from swpks.testing.remedies import PartitionGone, of_session, off_already, off_told
from swpks.testing.snapshots import PartitionSnapshots

if TYPE_CHECKING:
    from hcall_server.data_channel.memory import MemoryTransport
    from hcall_server.machine.machine import Machine
    from hcall_server.nvram.memory import MemoryNvram
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.saved import PartitionSnapshot
    from hcall_server.writeback.encryptor import Encryptor


_ENDS = of_session(
    "channel = await ipl(), or take the member `channel` of the newest IPL", "async with connect() as channel"
)


class Home(NamedTuple):
    """The owner of a partition: `demand` raises a Mistake if it does not run any more.

    `remedies` are those for the end of a session (`swpks.testing.remedies.of_session`).
    """

    demand: Callable[[], None] = lambda: None
    remedies: Mapping[int | None, str] = _ENDS


class EmulatedPartition:
    """A running partition with an open session.

    `channel` is a session of the current IPL.  `partition`, `machine`, `encryptor` and `nvram` are the
    server's own objects; a test may read them.
    """

    channel: Channel

    def __init__(
        self,
        machine: Machine,
        partition: Partition,
        transport: MemoryTransport,
        nvram: MemoryNvram,
        nursery: trio.Nursery | None = None,
        home: Home | None = None,
    ) -> None:
        self.machine = machine
        self.partition = partition
        self.encryptor: Encryptor = machine.encryptor
        self.nvram = nvram
        self._transport = transport
        self._nursery = nursery
        self._home = home or Home()
        self._snapshots = PartitionSnapshots(machine, partition, "await ipl()")

    def __repr__(self) -> str:
        return f"EmulatedPartition({self.partition!r})"

    @at_caller
    def locate(self) -> trio.abc.Stream:
        """Return a new connection to the partition, for `open_following`."""
        self._demand_served()
        return self._transport.connect(self.partition.name)

    @at_caller
    def connect(self) -> AbstractAsyncContextManager[Channel]:
        """Open one more session with the partition, for the length of a block."""
        self._demand_served()
        return self._connect()

    @async_block
    async def _connect(self) -> AsyncIterator[Channel]:
        async with AsyncExitStack() as stack:
            with off_told(self.partition.name, "channel = await ipl()"):
                channel = await stack.enter_async_context(open_channel(self.locate(), name="test"))
            channel.advise(self._home.remedies)
            yield channel

    def _demand_served(self) -> trio.Nursery:
        self._home.demand()
        if self._nursery is None:
            raise PartitionGone
        return self._nursery

    @at_caller
    async def ipl(self, secure_boot: SecureBoot | str | None = None) -> Channel:
        """Restart the partition, with another secure-boot mode if one is given ("off", "audit", "enforce").

        Every session ends with GOODBYE 2.  A new session is opened, stored as `channel`, and returned.
        """
        self._demand_served()
        name = self.partition.name
        if secure_boot is not None:
            mode = attribute_number("secure_boot", secure_boot)
            self.machine.set_attributes(name, {"secure_boot": mode})
        (self.machine.ipl if self.partition.running else self.machine.power_on)(name)
        return await self._open()

    @at_caller
    async def open(self) -> Channel:
        """Open the session `channel` and return it; a partition that is off is powered on first."""
        return await (self._open() if self.partition.running else self.ipl())

    @at_caller
    async def set_faults(self, *faults: str) -> None:
        """Give the partition a fault plan from its next call on; without arguments, remove the plan.

        A fault is "HCALL=STATUS[,nth=N][,times=K|,seconds=S]", such as "WRITE_OBJECT=H_BUSY,times=2"
        (spec/faults.md).  Seconds are those of the trio clock, which may be a MockClock.
        """
        self._demand_served()
        self.machine.set_faults(self.partition.name, faults_of(faults))
        await trio.lowlevel.checkpoint()

    @at_caller
    async def power_off(self) -> None:
        """Stop the partition; its sessions end with GOODBYE 2."""
        self._demand_served()
        try:
            self.machine.power_off(self.partition.name)
        except OperatorError as error:
            raise off_already(error, "await ipl()") from None
        await trio.lowlevel.checkpoint()

    @at_caller
    async def flush(self) -> bool:
        """Flush all changes now; return False if NVRAM refused."""
        self._demand_served()
        return await self.encryptor.flush()

    @at_caller
    def snapshot(self) -> PartitionSnapshot:
        """Return the state of the partition for `restore`: objects, passwords, attributes with the latch.

        It is in memory, with TRANSIENT objects and the mode of the IPL.  OperatorError while the partition
        is powered off, or while it moves.
        """
        self._demand_served()
        return self._snapshots.save()

    @at_caller
    def restore(self, snapshot: PartitionSnapshot | None = None) -> None:
        """Return to a snapshot of this partition, by default to its last one.  Sessions go on.

        Generation and IPL count never go back.  The restored objects count as changed: CONFIRM is "not yet"
        until the next flush.  Open label lists end.  Faults and the power stay.

        WrongType if it is no snapshot, WrongValue if it is one of another partition, NoSnapshot if there is
        none, OperatorError while the partition is powered off, or while it moves.
        """
        self._demand_served()
        self._snapshots.restore(snapshot)

    async def _open(self) -> Channel:
        """Open a session in a background task, and return its channel; the task ends with the session."""
        # A channel is open only within an `async with` block. A test that calls `ipl` has no such block. So a
        # task of the background nursery has it.
        self.channel = await self._demand_served().start(self._hold)
        return self.channel

    async def _hold(self, *, task_status: trio.TaskStatus[Channel]) -> None:
        async with self.connect() as channel:
            task_status.started(channel)
            await channel.wait_ended()

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        """Run the machine and serve the partition for the length of a block."""
        async with tasks_around() as nursery:
            self._nursery = nursery
            await nursery.start(self.machine.run)
            self.machine.start()
            await self._open()
            # A test may use the partition after its block by mistake. Then the error must say so, and not
            # name a closed nursery.
            try:
                yield
            finally:
                self._nursery = None


@async_block
async def emulated_partition(
    name: str = "lpar1", **options: Unpack[PartitionOptions]
) -> AsyncIterator[EmulatedPartition]:
    """Run a fresh, powered-on partition for the length of a block.

    The options are those of `swpks.testing.fresh_partition`, with the same errors.
    """
    check_known(fresh_partition, options)
    check_loop("emulated_partition", "swpks.blocking_partition()")
    emulated = EmulatedPartition(*fresh_partition(name, **options))
    async with emulated._served():
        yield emulated
