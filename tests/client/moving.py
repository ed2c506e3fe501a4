"""A system whose partition leaves and returns at the same address, over memory streams or sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from hcall_abi.calls import Opcode
from hcall_client.channel import Target
from hcall_server.data_channel.listeners import Listeners
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.machine import Machine
from hcall_server.platform.partition import Partition
from hcall_server.service.access_keys import AccessKeys
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.seams import simulated_seams

SETTINGS = Settings(partition=(PartitionSettings.of("lpar1", 64),))


class System:
    """A managed system with the partition lpar1. A test lets lpar1 leave and return at the same address."""

    def __init__(self, kind: str, folder: Path) -> None:
        keys = folder / "keys"
        keys.mkdir()
        (folder / "run").mkdir()
        self.transport = (
            Listeners(folder / "run", AccessKeys(keys)) if kind == "sockets" else MemoryTransport()
        )
        self.machine: Machine = assemble(simulated_seams(transport=self.transport), SETTINGS)
        self.asked = 0

    @property
    def lpar1(self) -> Partition:
        return self.machine.system.find("lpar1")

    def locate(self) -> Target:
        """Return the partition's target; `asked` counts the calls of this method."""
        self.asked += 1
        if isinstance(self.transport, MemoryTransport):
            return self.transport.connect("lpar1")
        return self.transport.path("lpar1")

    def move(self) -> None:
        """Let the partition leave; its system serves it again at once, as the target of a live move does."""
        self.machine.holds.begin(self.lpar1)
        self.machine.holds.leave(self.lpar1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the partition for the length of a block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.machine.run)
            self.machine.start()
            try:
                yield
            finally:
                if isinstance(self.transport, Listeners):
                    self.transport.close_all()
                nursery.cancel_scope.cancel()

    def ran(self, opcode: Opcode = Opcode.WRITE_OBJECT) -> dict[int, int]:
        """Return the number of calls of one kind that have run, by status."""
        counts = self.machine.counters.calls[1]
        return {status: count for (each, status), count in counts.items() if each == opcode}


@contextmanager
def where_socket(path: Path, reply: Callable[[str], str]) -> Iterator[None]:
    """A console that answers on its where socket with the results of `reply`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                with listener.accept()[0] as asked:
                    name = asked.makefile().readline()
                    if not name:
                        return
                    asked.sendall(reply(name.removesuffix("\n")).encode())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()
