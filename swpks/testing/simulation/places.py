"""NVRAM of a simulated system over all its lives: in memory here, on a simulated etcd in `etcd_places`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hcall_server.nvram.memory import MemoryNvram
from swpks.testing.simulation.life import Life, LivingNvram, OnRecords

if TYPE_CHECKING:
    from hcall_server.nvram.seam import Nvram


class NvramPlace(Protocol):
    """The place of one system's records; it stays when the system crashes."""

    async def take_over(self) -> None:
        """Own the records for the next life; return when no other owner may use them."""

    def opened(self, life: Life, offered: OnRecords, committed: OnRecords) -> Nvram:
        """Return the NVRAM for one life, after `take_over`.

        `offered` is called with the records of each commit before it begins, `committed` when they are
        durable.
        """

    async def abandon(self) -> None:
        """Give up the NVRAM of a start that has failed; return when the next start may begin."""

    def waited(self) -> float:
        """Return the seconds that NVRAM has waited for answers since the last call."""


class MemoryPlace:
    """NVRAM in memory."""

    def __init__(self) -> None:
        self._nvram = MemoryNvram()

    async def take_over(self) -> None:
        """Do nothing, without a checkpoint: the histories of seeds depend on each checkpoint."""

    def opened(self, life: Life, offered: OnRecords, committed: OnRecords) -> Nvram:
        """Return the NVRAM for one life."""
        return LivingNvram(self._nvram, life, offered, committed)

    async def abandon(self) -> None:
        """Do nothing: a start on memory does not fail."""

    def waited(self) -> float:
        """Return 0."""
        return 0.0
