"""How clients reach the partitions of a machine: the listeners and key files in the transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition


class Reach(Protocol):
    """The listeners and the key files of partitions; all functions are called on the event loop."""

    def open(self, partition: Partition) -> None:
        """Listen for a partition that is about to be activated; all or nothing.

        OperatorError if the socket can't be made.  ScarcityError if the host lacks a resource for it.
        """

    def close(self, partition: Partition) -> None:
        """Stop listening for a partition; never raises, because a power-off may not fail half-way."""

    def address(self, name: str) -> str:
        """Return the address of a partition's data channel, ``unix:PATH``; "" if it has none.

        A partition that is about to arrive has its future address.
        """

    def publish_key(self, partition: Partition) -> None:
        """Write a partition's access key to the place where clients find it; SwpksError if that fails.

        Called before a partition is first activated, and whenever its key changes.
        """

    def known_key(self, name: str) -> bytes | None:
        """Return the key of a partition that its clients have at present, None if they have none."""

    def known_names(self) -> list[str]:
        """Return the names of all partitions whose clients have a key."""

    def forget_key(self, name: str) -> None:
        """Remove the key of a name that no partition has any more."""

    def rename_passed(self, before: str, after: str) -> None:
        """Give the passed sockets of a partition to the partition's new name."""

    def close_passed(self, name: str) -> None:
        """Close the sockets that were passed for a partition which does not exist any more."""
