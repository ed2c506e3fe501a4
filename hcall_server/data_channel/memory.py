"""Connections over memory streams: the transport of simulations and in-process fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from hcall_server.data_channel.connection import Connection
from hcall_server.data_channel.lane import Lane
from hcall_server.data_channel.opening import ListenerFacts
from hcall_server.data_channel.reaper import reap
from hcall_server.data_channel.stream import CountedStream
from hcall_server.machine.sessions import Entrance

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition


class _MemoryEnd(CountedStream):
    """The server's end of a pair of memory streams.

    A send is taken as a whole, or not at all.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return the received bytes."""
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; if the call is cancelled, nothing was sent."""
        self.unsent = data
        # If this send is cancelled, it has taken no byte.  So all of `data` counts as unsent until it
        # returns.
        await self._stream.send_all(data)
        self.unsent = b""

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the stream takes bytes."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


class MemoryTransport:
    """The transport of a machine without sockets.

    `connect` works while `run` runs.  A connection to a powered-off partition is accepted, and its OPEN is
    refused.  A listener of all partitions does the same.

    `keys` are the access keys by the names of their partitions.  A test may pass them to the next transport.
    They then outlive the machine, as the folder of keys does (spec/recovery.md).  Without `keys`, no keys are
    known.
    """

    def __init__(self, keys: dict[str, bytes] | None = None) -> None:
        self._kept_keys = keys
        self.lane: Lane | None = None
        """Where connections over sockets are served; None: each in its own task, as memory streams are."""
        self._serving: tuple[trio.Nursery, Machine] | None = None
        self._entrances: dict[str | None, Entrance] = {}

    async def run(
        self, machine: Machine, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve connections, and end those past their deadline, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._serving = nursery, machine
            nursery.start_soon(reap, machine)
            nursery.start_soon(machine.turns.run)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._serving = None

    def open(self, partition: Partition) -> None:
        """Do nothing: `connect` needs no listener."""

    def close(self, partition: Partition) -> None:
        """Do nothing."""

    def address(self, name: str) -> str:
        """Return "": there is no socket."""
        return ""

    def publish_key(self, partition: Partition) -> None:
        """Store the key of a partition; clients in this process read the stored key."""
        if self._kept_keys is not None:
            self._kept_keys[partition.name] = partition.access_key

    def known_key(self, name: str) -> bytes | None:
        """Return the stored key of a partition, None if there is none."""
        return (self._kept_keys or {}).get(name)

    def known_names(self) -> list[str]:
        """Return the names of all partitions that have a stored key."""
        return sorted(self._kept_keys or {})

    def forget_key(self, name: str) -> None:
        """Remove the key of a partition."""
        if self._kept_keys is not None:
            self._kept_keys.pop(name, None)

    def rename_passed(self, before: str, after: str) -> None:
        """Do nothing: no socket was passed."""

    def close_passed(self, name: str) -> None:
        """Do nothing."""

    def connect(self, name: str | None, *, demand_proof: bool = False) -> trio.abc.Stream:
        """Return the client's end of a new connection."""
        ours, theirs = trio.testing.memory_stream_pair()
        self.serve(_MemoryEnd(theirs), name, demand_proof=demand_proof)
        return ours

    def serve(self, stream: trio.abc.Stream, name: str | None, *, demand_proof: bool = False) -> None:
        """Serve a connected stream as if a listener had accepted it.

        `name` is the partition of that listener, None for a listener of all partitions.  While all places of
        the listener are taken, the stream waits.  RuntimeError if the machine does not run.
        """
        if self._serving is None:
            raise RuntimeError("the machine does not run: its connections are not served")
        nursery, machine = self._serving
        partition = machine.system.find(name) if name else None

        entrance = self._entrances.setdefault(name, Entrance(machine.limits.max_unopened))

        async def run() -> None:
            await entrance.wait_place()
            facts = ListenerFacts(partition, demand_proof)
            await Connection(machine, stream, facts, entrance, self.lane).run()

        nursery.start_soon(run)
