"""Helpers of the tests of the data channel: a machine without files, and a peer that sends raw frames."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import trio

from hcall_abi.frames import Frame, Goodbye, HCall, Hello, HReturn, Open, Opened
from hcall_abi.proof import NO_PROOF
from hcall_abi.session import Event, Role, Session
from hcall_client.calls import Request, read_object, write_object
from hcall_client.request import Authorization
from hcall_server.data_channel.conversation import ServerConversation
from hcall_server.data_channel.lane import Lane
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.data_channel.stream import SocketStream
from hcall_server.machine.limits import Limits
from hcall_server.machine.machine import Machine
from hcall_server.machine.turns import CALLS, Quantum
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.worker import Worker
from swpks.testing.seams import simulated_seams
from tests.guest import Chance

KEY = bytes(range(32))
"""The access key of every partition."""
OS = Authorization(3)


def make_machine(
    *names: str, limits: Limits | None = None, kbytes: int = 64, worker: Worker | None = None
) -> Machine:
    """A machine over memory streams with a partition for each name, all powered on. No encryptor runs."""
    wishes = tuple(PartitionSettings.of(name, kbytes) for name in names or ("alpha",))
    settings = Settings(limits=limits or Limits(), partition=wishes)
    seams = simulated_seams(transport=MemoryTransport(), entropy=Chance(), worker=worker)
    machine = assemble(seams, settings)
    for partition in machine.system.partitions.values():
        partition.set_access_key(KEY)
    machine.start()
    return machine


class Peer:
    """A client that sends exactly the bytes of the test."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.session = Session(Role.CLIENT)
        self.hello: Hello | None = None
        self._tag = 0

    async def event(self) -> Event | None:
        """Return the next frame from the server, or None at the end of the stream."""
        while (event := next(self.session.events(), None)) is None:
            data = await self.stream.receive_some(1 << 16)
            if not data:
                return None
            self.session.receive_data(bytes(data))
        return event

    async def expect(self, kind: type[Any]) -> Any:
        """Return the next frame, which has to be of one kind."""
        event = await self.event()
        assert isinstance(event, kind), event
        if isinstance(event, Hello):
            self.hello = event
        return event

    async def send(self, *frames: Frame) -> None:
        """Send frames with one send."""
        await self.stream.send_all(b"".join(self.session.send(frame) for frame in frames))

    async def open(self, partition: int = 0, kind: int = 0, proof: bytes = NO_PROOF) -> Opened:
        """Send OPEN after HELLO has arrived; return the answer."""
        if self.hello is None:
            await self.expect(Hello)
        await self.send(Open(7, partition, kind, bytes(32), proof, "test"))
        opened: Opened = await self.expect(Opened)
        return opened

    def frames(self, requests: Iterable[Request[Any]]) -> list[HCall]:
        """Return HCALL frames with new tags."""
        found = []
        for request in requests:
            self._tag += 1
            found.append(request.frame(self._tag))
        return found

    async def call(self, request: Request[Any]) -> Any:
        """Send one call; return its result."""
        await self.send(*self.frames([request]))
        return request.parse(await self.expect(HReturn))

    async def goodbye(self) -> int:
        """Read to the end of the session; return the reason of the GOODBYE, which is the last frame."""
        while not isinstance(event := await self.event(), Goodbye):
            assert event is not None, "closed without GOODBYE"
        assert await self.event() is None
        return event.reason


def answers(conversation: ServerConversation, data: bytes) -> Iterator[bytes]:
    """Let the server work on these bytes turn by turn; yield the answers of each turn."""
    conversation.take(data)
    while conversation.ready:
        if answer := conversation.turn(Quantum(CALLS, math.inf)):
            yield answer


class Service:
    """A machine that serves memory streams or sockets in a nursery. No encryptor runs.

    With `lane`, its connections are sockets in the lane.
    """

    def __init__(self, machine: Machine, *, lane: bool = False) -> None:
        self.machine = machine
        self.lane = Lane(machine.turns) if lane else None
        self.transport.lane = self.lane
        self._sockets: list[socket.socket] = []

    @classmethod
    async def start(cls, nursery: trio.Nursery, machine: Machine, *, lane: bool = False) -> Service:
        """Serve in a nursery."""
        made = cls(machine, lane=lane)
        await nursery.start(made.transport.run, machine)
        return made

    @property
    def transport(self) -> MemoryTransport:
        assert isinstance(self.machine.transport, MemoryTransport)
        return self.machine.transport

    def close(self) -> None:
        """Close the test's own ends."""
        for each in self._sockets:
            each.close()
        if self.lane:
            self.lane.close()

    def connect(self, name: str | None = "alpha", *, demand_proof: bool = False) -> Peer:
        """Return a new connection by the private listener of `name`, or by a common one (None)."""
        if self.lane:
            return self._over_sockets(name, demand_proof)
        return Peer(self.transport.connect(name, demand_proof=demand_proof))

    def connect_socket(self, name: str = "alpha") -> Peer:
        """Return a new connection over a pair of real sockets with small buffers."""
        return self._over_sockets(name, demand_proof=False, buffer=4096)

    def _over_sockets(self, name: str | None, demand_proof: bool, buffer: int = 0) -> Peer:
        ours, theirs = socket.socketpair()
        self._sockets.append(ours)
        if buffer:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.transport.serve(SocketStream(theirs), name, demand_proof=demand_proof)
        return Peer(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))

    async def session(self, name: str = "alpha") -> Peer:
        """Return a connection with an open session."""
        peer = self.connect(name)
        assert (await peer.open()).status == 0
        return peer


def write(label: bytes, data: bytes = b"x") -> Request[None]:
    """Return a WRITE_OBJECT for the operating system."""
    return write_object(OS, label, data)


def read(label: bytes) -> Request[Any]:
    """Return a READ_OBJECT for the operating system."""
    return read_object(OS, label)
