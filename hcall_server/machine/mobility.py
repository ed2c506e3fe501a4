"""The parts of migrations that a machine needs: the seam to other systems, and the requests of the console.

`hcall_server.mobility` has the channel, and the drivers of both ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from uuid import UUID

if TYPE_CHECKING:
    import trio

    from hcall_abi.control_bodies import ExpectedPartition, MigrationOrder


class Peers(Protocol):
    """The seam to other systems: sockets in a server, memory streams in simulations."""

    @property
    def address(self) -> str:
        """The address at which other systems reach this one: ``unix:PATH`` or ``tcp:HOST:PORT``."""

    async def dial(self, address: str) -> trio.abc.Stream:
        """Return a connection to another system; OSError if it is not reached."""


class Mobility(Protocol):
    """The migrations that a system takes part in."""

    async def begin(self, name: str, order: MigrationOrder) -> None:
        """Begin to move a partition to another system; return before the partition has moved.

        OperatorError if it can't begin.
        """

    async def expect(self, expected: ExpectedPartition) -> str:
        """Permit another system to send a partition.

        Return this system's address, to which the other system connects.
        """

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve a connection of another system."""

    async def abort(self, uuid: UUID, epoch: int) -> None:
        """End an attempt at its source, if the custody table still permits that."""
