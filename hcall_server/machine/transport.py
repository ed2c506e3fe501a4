"""The transport seam: how the partitions of a machine are reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from hcall_server.platform.partition import Partition

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine


class Transport(Protocol):
    """Sockets in a server, memory streams in tests and simulations.

    Everything but `access_key` is called on the event loop.
    """

    async def run(self, machine: Machine, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve connections of `machine`, and end those past their deadline, until cancelled."""

    def open(self, partition: Partition) -> None:
        """Listen for a partition that has been activated; OperatorError when that is impossible."""

    def close(self, partition: Partition) -> None:
        """Stop listening for a partition."""

    def access_key(self, partition: Partition) -> bytes:
        """Return the key that a partition's clients prove themselves with; empty: nobody can.

        Called for each partition before it is activated; raises SwpksError when there is no such key
        and none can be made.
        """
