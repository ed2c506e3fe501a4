"""The state Recovery: a system whose records were cleared while its root key lives (R-48).

Page: spec/recovery.md.
"""

# Recovery
#
# The root key is there, and no system record: the service processor was replaced, or its settings were
# reset.  The partitions that the system had are unknown to it.  If it served an empty system now, a guest
# would find an empty keystore, and might put new keys in the place of lost ones.  So it waits, and must
# guarantee:
#
#   1. No partition exists until the operator ends the state.  Settings that would create some are kept back.
#   2. A store that was restored stays: it is durable before the answer, and a restart is Recovery again,
#      with that store in its list.
#   3. The state ends on purpose.  If a store is known that was not restored, its loss has to be accepted.
#   4. A kill at the end leaves the one state or the other.  The commit that writes the system record ends it.
#
# The known stores are those whose access keys lie in the state: the folder of the keys is no part of the
# service processor, so it outlives it.  We dropped a list of partitions on the anchor card: the real card
# has none, and it would have to be written with each new partition.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import console
from hcall_server.machine import logs
from hcall_server.machine.patience import flushed
from hcall_server.nvram.names import SYSTEM
from hcall_server.platform.system import ManagedSystem
from hcall_server.platform.system_state import SystemState

if TYPE_CHECKING:
    from hcall_server.writeback.encryptor import Encryptor


class KnownKeys(Protocol):
    """The part of the transport that knows which partitions had clients."""

    def known_names(self) -> list[str]:
        """Return the names of all partitions whose clients have a key."""

    def forget_key(self, name: str) -> None:
        """Remove the key of a partition that does not exist any more."""

    def close_passed(self, name: str) -> None:
        """Close the sockets that were passed for such a partition."""


class Recovered(NamedTuple):
    """The end of a recovery: names of the partitions that came back, and of those that were given up."""

    restored: list[str]
    given_up: list[str]


class Recovery:
    """Begins and ends the state Recovery of a system.

    `start` activates the partitions that start by themselves, and `start_later` does so when NVRAM stores
    again.  `apply_settings` makes the partitions of the
    settings that are missing then.
    """

    def __init__(
        self,
        system: ManagedSystem,
        encryptor: Encryptor,
        keys: KnownKeys,
        *,
        apply_settings: Callable[[], None],
        start: Callable[[], Awaitable[None]],
        start_later: Callable[[], None],
    ) -> None:
        self._unsaved: Recovered | None = None
        self._start_later = start_later
        self._apply_settings = apply_settings
        self._system = system
        self._encryptor = encryptor
        self._keys = keys
        self._start = start
        self._log = logs.Log()

    def __repr__(self) -> str:
        return f"Recovery({self._system.state.value})"

    @property
    def lost(self) -> list[str]:
        """Names of the stores that are known and not restored, sorted."""
        if self._system.state is not SystemState.RECOVERY:
            return []
        return sorted(set(self._keys.known_names()) - self._system.restored.keys())

    async def begin(self) -> None:
        """Put an empty system into the state Recovery; OperatorError for any other system.

        The system record is removed, so a restart is Recovery as well.  StorageError if NVRAM has not done
        that in time: then it is retried.
        """
        system = self._system
        if system.state is not SystemState.OPERATING or system.partitions:
            message = f"the state is {system.state.value}, with {len(system.partitions)} partitions"
            raise OperatorError(console.RECOVERY_STATE, message)
        system.begin_recovery()
        self._encryptor.record_changed(SYSTEM, lambda _: None)
        self._log.info("recovery.began")
        await flushed(self._encryptor, "the state Recovery")

    async def end(self, *, give_up: bool) -> Recovered:
        """Leave the state Recovery; return what came back, and what was given up.

        OperatorError in another state, and without `give_up` if a known store, or every store, is missing.
        StorageError if NVRAM has not stored the system record in time.  That is retried, and so may the
        request be.
        """
        done = self._unsaved or self._ended(give_up=give_up)
        self._unsaved = done
        try:
            await flushed(self._encryptor, "the end of the recovery")
        except StorageError:
            self._start_later()
            raise
        self._unsaved = None
        for name in set(done.given_up) - self._system.partitions.keys():
            self._keys.forget_key(name)
            self._keys.close_passed(name)
        self._log.info("recovery.ended", restored=done.restored, given_up=done.given_up)
        await self._start()
        return done

    def _ended(self, *, give_up: bool) -> Recovered:
        """Leave the state in memory, and apply the settings that were kept back."""
        system, lost = self._system, self.lost
        if system.state is not SystemState.RECOVERY:
            raise OperatorError(console.RECOVERY_STATE, f"the state is {system.state.value}")
        if not give_up:
            self._demand_complete(lost)
        system.end_recovery()
        done = Recovered(list(system.partitions), lost)
        self._encryptor.system_changed(system)
        self._apply_settings()
        return done

    def _demand_complete(self, lost: list[str]) -> None:
        if lost:
            message = f"not restored: {', '.join(lost)}; restore each of them, or give all up with --give-up"
            raise OperatorError(console.RECOVERY_COMPLETE, message)
        if not self._system.restored:
            message = "no store was restored: restore stores, or give all old data up with --give-up"
            raise OperatorError(console.RECOVERY_COMPLETE, message)
