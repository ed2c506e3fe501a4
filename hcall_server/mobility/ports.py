"""The system at one end of a migration, as the drivers use it; `own_system_of` makes it of a machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import UUID

from hcall_abi.control_bodies import ArrivalCheck
from hcall_server.machine.mobility import Peers
from hcall_server.mobility.channel import Entropy
from hcall_server.platform.custody import Standing, Word

if TYPE_CHECKING:
    from hcall_server.machine.custodian import CustodyFacts
    from hcall_server.machine.noise import Allowance
    from hcall_server.sealing.traveller import Traveller


class Keeper(Protocol):
    """The custodian, as the drivers use it: they change custody by `take` alone."""

    def standing(self, uuid: UUID) -> Standing:
        """Return the state in memory, which may not be durable yet."""

    def facts_of(self, uuid: UUID) -> CustodyFacts | None:
        """Return the durable state, None if there is none.  Only this state may be sent to others."""

    async def changed(self, uuid: UUID) -> None:
        """Wait until the durable state, or its mode, changes."""

    async def settled(self, uuid: UUID) -> None:
        """Return when no step is under way."""

    async def take(
        self,
        uuid: UUID,
        on: Word,
        epoch: int,
        *,
        generation: int = 0,
        peer: bytes = b"",
        traveller: Traveller | None = None,
        on_mark: Callable[[], None] = ...,
    ) -> Standing | None:
        """Perform the custody step for a word; return the new standing, None if the word has no effect.

        The call returns when the step is durable.  `on_mark` is called before the commit of the step, when
        the partition in memory already has its new record.
        """

    def failed(self, uuid: UUID, trouble: str) -> None:
        """Store why the last migration attempt of a partition ended at this system; "" clears the reason.

        The views of the partition show the reason.
        """


class Named(NamedTuple):
    """A partition that a migration is ordered for."""

    uuid: UUID
    running: bool


class Packed(NamedTuple):
    """The bytes of a partition that travels, and the generation of its store."""

    generation: int
    plaintext: bytes


class OwnSystem(NamedTuple):
    """A system, as its migrations use it.

    `find` raises OperatorError for an unknown name.  `check` raises the error of the broken rule if a
    partition does not fit.  `unpack` reads the bytes of a partition that arrives, and `demand` is `check` for
    such a partition.  `peers` returns None while the system can't reach other systems.  `run_beside` starts a
    task that ends with the system, if not before.
    """

    keeper: Keeper
    system_id: bytes
    entropy: Entropy
    peers: Callable[[], Peers | None]
    run_beside: Callable[[Callable[[], Awaitable[object]]], None]
    find: Callable[[str], Named]
    runs: Callable[[UUID], bool]
    needs: Callable[[UUID, int], ArrivalCheck]
    check: Callable[[ArrivalCheck], None]
    pack: Callable[[UUID], Packed]
    unpack: Callable[[Packed, UUID], Traveller]
    demand: Callable[[Traveller, int], None]
    allowance: Allowance
    """The bound on log lines that peers without a proof can cause."""

    def name_of(self, uuid: UUID) -> str:
        """Return the name of a partition, "" for a partition that was never on this system."""
        found = self.keeper.facts_of(uuid)
        return found.name if found else ""

    def durable(self, uuid: UUID) -> Standing:
        """Return the durable state of a partition on this system."""
        found = self.keeper.facts_of(uuid)
        return Standing(found.custody, found.mode, found.epoch, found.generation) if found else Standing()
