"""The common part of the channels that follow a partition, with Trio and without."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from hcall_abi.frames import GoodbyeReason
from hcall_client.errors import SessionEnded


class OpenSession(Protocol):
    """The facts of OPENED, as a channel shows them."""

    @property
    def partition(self) -> int:
        """The partition's id."""

    @property
    def ipl_count(self) -> int:
        """How many IPLs the partition has had."""

    @property
    def level(self) -> str:
        """The firmware level's name."""


C = TypeVar("C", bound=OpenSession)


class Moving(Generic[C]):
    """The sessions of one partition, one after the other; `moves` counts the changes from one to the next."""

    moves = 0
    _channel: C

    @property
    def partition(self) -> int:
        """The partition's id on its present system."""
        return self._channel.partition

    @property
    def ipl_count(self) -> int:
        """How many IPLs the partition has had; a live move is none."""
        return self._channel.ipl_count

    @property
    def level(self) -> str:
        """The firmware level of the present system."""
        return self._channel.level


def not_found_again(error: Exception) -> SessionEnded:
    """Return the error that ends a channel whose partition was not found after a GOODBYE 3."""
    return SessionEnded(GoodbyeReason.MIGRATED, f"it was not found again: {error}")
