"""Connections between systems inside the process: memory streams instead of sockets.

network = MemoryNetwork()
machine.peers = network.attach("a", machine)        # as `EmulatedSystem` does when it starts
network.carry = spoiled                             # called with each new connection: a test may break it
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio
import trio.testing

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine


class PeerLine(NamedTuple):
    """Both ends of a new connection, and the names of the two systems that it connects."""

    source: str
    target: str
    near: trio.abc.Stream
    far: trio.abc.Stream


class MemoryNetwork:
    """Connects systems by their names; the connection to a system that does not run is refused.

    `carry` is called with each new connection: it may replace the ends, or raise an OSError.  `lines` is the
    number of connections so far.
    """

    def __init__(self) -> None:
        self.carry: Callable[[PeerLine], PeerLine] = lambda line: line
        self.lines = 0
        self._machines: dict[str, Machine] = {}

    def __repr__(self) -> str:
        return f"MemoryNetwork({', '.join(self._machines)})"

    def attach(self, name: str, machine: Machine) -> MemoryPeers:
        """Register a machine under the name of its system; return its connections to the other systems."""
        self._machines[name] = machine
        return MemoryPeers(self, name)

    def detach(self, name: str) -> None:
        """Remove a machine that has ended, so that connections to it are refused."""
        self._machines.pop(name, None)

    def connect(self, source: str, target: str) -> trio.abc.Stream:
        """Return the source's end of a new connection; ConnectionRefusedError if the target does not run."""
        machine = self._machines.get(target)
        if machine is None:
            raise ConnectionRefusedError(f"the system {target} does not run")
        line = self.carry(PeerLine(source, target, *trio.testing.memory_stream_pair()))
        self.lines += 1
        # The target's machine runs the task. So a power cut of the target also breaks the connection.
        machine.run_beside(partial(machine.migrations.serve, line.far))
        return line.near


class MemoryPeers:
    """The way from one system to the other systems of its network."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self._network = network
        self._name = name

    def __repr__(self) -> str:
        return f"MemoryPeers({self._name!r})"

    @property
    def address(self) -> str:
        """The address by which other systems connect to this system."""
        return f"unix:/memory/{self._name}"

    async def dial(self, address: str) -> trio.abc.Stream:
        """Connect to another system; ConnectionRefusedError if it does not run."""
        await trio.lowlevel.checkpoint()
        return self._network.connect(self._name, address.removeprefix("unix:/memory/"))
