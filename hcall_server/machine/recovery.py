"""The state Recovery: a system whose records were cleared while it has its root key (R-48).

Page: spec/recovery.md.
"""

# Recovery
#
# The root key is there, and no system record: the service processor was replaced, its settings were reset,
# or an operator began the state.  The system does not know which partitions it had.  If it served partitions
# now, a guest would find an empty keystore, and might put new keys in the place of lost ones.  So the system
# waits, and guarantees:
#
#   1. No partition exists until an operator or the console ends the state.  Partitions of the settings are
#      postponed.
#   2. A restored store stays: it is durable before the restore is answered.  A restart is Recovery again,
#      with that store among the restored ones.
#   3. The state ends on purpose only.  If a known store was not restored, the caller has to accept its loss.
#   4. A kill at any time leaves Recovery or Operating, and nothing between them.
#
# No record names the state: a start with a root key and without a system record is in Recovery.  So `begin`
# removes the system record, and the first commit of a new one ends the state.  This gives guarantee 4.  A
# record of the state could contradict the system record.
#
# A store is known if the state folder has a file with its access key.  These files are no part of the
# service processor, so they outlive its replacement.  We dropped a list of partitions on the anchor card: the
# real card has none, and each new partition would have to be written to it.
#
# The order of the end:
#
#   - In memory: the restored stores become partitions, powered off.  Then the two lists of the answer are
#     made.  Then the settings make missing partitions: they must not be in the list of restored ones.
#   - One commit with the system record and the new partitions.
#   - The access keys and passed sockets of the stores that were given up are removed.  If that came before
#     the commit, a kill would lead back to Recovery without these keys.  Then the stores would not be known
#     any more, and the next end would lose them without a question (guarantee 3).  A kill after the commit
#     may leave such a key.  Then a later Recovery lists its store as lost, and an operator can accept that.
#   - Partitions that start by themselves are activated.
#
# If NVRAM does not take the commit in time, memory stays Operating, because a commit that hangs may still
# take effect.  `_unsaved` keeps the answer.  A repeated request waits again and then does the rest.  If
# the request is not repeated, the partitions still start, as soon as their IPL counts are durable.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hcall_abi.counts import counted
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import console
from hcall_abi.standstills import not_operating
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
        """Close the sockets that were passed for a partition that does not exist any more."""


class Recovered(NamedTuple):
    """The result of a recovery: the names of the restored partitions, and of those that were given up."""

    restored: list[str]
    given_up: list[str]


class Recovery:
    """Begins and ends the state Recovery of a system.

    `start` activates the partitions that start by themselves.  `start_later` does the same in a task, once
    NVRAM stores again.  `apply_settings` makes the missing partitions of the settings.
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

        The system record is removed, so a restart is in Recovery as well.  StorageError if NVRAM has not
        removed it in time; the encryptor goes on trying.
        """
        system = self._system
        if system.state is not SystemState.OPERATING or system.partitions:
            raise self._not_here(f", with {counted(len(system.partitions), 'partition')}")
        system.begin_recovery()
        self._encryptor.record_changed(SYSTEM, lambda _: None)
        self._log.info("recovery.began")
        await flushed(self._encryptor, "the state Recovery")

    async def end(self, *, give_up: bool) -> Recovered:
        """Leave the state Recovery; return the names that were restored and given up.

        OperatorError in another state.  If `give_up` is false: OperatorError if a known store was not
        restored, or if no store was restored.  StorageError if NVRAM does not store the system record in
        time.  After this error the encryptor goes on trying, and the caller may repeat the request.
        """
        done = self._unsaved or self._ended(give_up=give_up)
        self._unsaved = done
        try:
            await flushed(self._encryptor, "the end of the recovery")
        except StorageError:
            self._start_later()
            raise
        self._unsaved = None
        # A new partition of the settings may have the name of a lost store.  It owns the key and the
        # sockets of this name, so they are not removed.
        for name in set(done.given_up) - self._system.partitions.keys():
            self._keys.forget_key(name)
            self._keys.close_passed(name)
        self._log.info("recovery.ended", restored=done.restored, given_up=done.given_up)
        await self._start()
        return done

    def _ended(self, *, give_up: bool) -> Recovered:
        """End the state Recovery in memory, and apply the settings that were postponed."""
        system, lost = self._system, self.lost
        if system.state is not SystemState.RECOVERY:
            raise self._not_here()
        if not give_up:
            self._demand_complete(lost)
        system.end_recovery()
        done = Recovered(list(system.partitions), lost)
        self._encryptor.system_changed(system)
        self._apply_settings()
        return done

    def _not_here(self, partitions: str = "") -> OperatorError:
        """Return the refusal of a step that does not go with the state of the system."""
        state = self._system.state
        if state is SystemState.OPERATING:
            message = f"there is nothing to recover: the state is {state.value}{partitions}"
            return OperatorError(console.RECOVERY_STATE, message)
        return OperatorError(console.RECOVERY_STATE, not_operating(state.value), advised=True)

    def _demand_complete(self, lost: list[str]) -> None:
        if lost:
            message = f"not restored: {', '.join(lost)}; restore each of them, or give all up with --give-up"
            raise OperatorError(console.RECOVERY_COMPLETE, message, advised=True)
        if not self._system.restored:
            message = "no store was restored: restore stores, or give all old data up with --give-up"
            raise OperatorError(console.RECOVERY_COMPLETE, message, advised=True)
