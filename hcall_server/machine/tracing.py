"""The parts of traces that a machine needs: taps at its connections, and the requests of the console.

`hcall_server.trace` has the file, and `hcall_server.service.tracing` the folder of the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition


class WireTap(Protocol):
    """Sees the bytes of one connection.  No function waits or raises."""

    def received(self, data: bytes | bytearray) -> None:
        """Take the next bytes of the client."""

    def sent(self, data: bytes) -> None:
        """Take the next bytes for the client: whole frames."""

    def opened(self, partition: Partition) -> None:
        """Note that the connection has a session now; its OPENED has not been sent yet."""

    def ended(self) -> None:
        """Note that the connection has ended."""


class Backlog(NamedTuple):
    """The place of a connection in its stream, for a tap that begins in the middle of it.

    `unread` are received bytes of which no frame was taken yet.  `unanswered` is the number of calls that
    were taken, and have no answer yet.
    """

    unread: bytes = b""
    unanswered: int = 0

    def __repr__(self) -> str:
        return f"Backlog({len(self.unread)} bytes, {self.unanswered} calls)"


class TraceFacts(NamedTuple):
    """One trace: the name of its file, and the numbers of its frames and bytes.

    `secrets`: nothing is blanked.  `lost` frames did not fit into the queue.  `ended` is the reason why the
    trace has ended by itself, "" while it runs.
    """

    file: str
    secrets: bool
    frames: int
    lost: int
    size: int
    ended: str


class Traces(Protocol):
    """The traces of a system."""

    def load(self) -> None:
        """Import the modules that a trace needs."""

    async def begin(self, partition: Partition, *, secrets: bool) -> TraceFacts:
        """Begin the trace of a partition, in a new file.

        OperatorError if it has one, StorageError if the file can't be made.
        """

    async def end(self, partition: Partition) -> TraceFacts:
        """End the trace of a partition; its file is complete then.

        OperatorError if it has none, StorageError if the file takes too long.
        """

    def forget(self, partition: Partition) -> None:
        """End the trace of a partition that this system does not have any more."""

    def counts(self) -> tuple[int, int]:
        """Return how many frames all traces have written since the start, and how many were lost."""

    async def close(self) -> None:
        """End all traces, and complete their files, in bounded time."""
