"""Waiting for the ownership of NVRAM on etcd, before a server reads a part or opens a socket."""

# Two servers wait here.  A standby waits as long as the present owner lives, and while etcd does not answer.
# Any other server waits only for the end of the owner's lease: the owner may be its own former process, which
# was killed.  If the owner is still there after that time, it lives, and the start is refused.  An owner key
# without a lease would never end by itself: some operator has put it.
#
# Each attempt blocks, so it runs in a thread.  A stop signal ends the wait at once, and leaves such a thread
# alone.  It may still become the owner.  Then etcd ends its lease some seconds after the process.

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator
from contextlib import closing
from typing import TYPE_CHECKING

import trio

from hcall_abi.bounds import MAX_NVRAM_LEASE_S
from hcall_abi.errors import SwpksError
from hcall_server.machine.logs import Log, explained
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.taking import Taking
from hcall_server.nvram.mark import MemoryMark
from hcall_server.nvram.seam import NvramError, NvramInUseError
from hcall_server.process.signals import stop_signals
from hcall_server.service.notify import notify

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.place import EtcdPlace
    from hcall_server.service.state import State

PAUSE = 0.25
"""Seconds between two attempts."""
GRACE = 1.0
"""Seconds that etcd may take to end a lease after its time."""

_SERVER = "stop it, or wait for its end with --standby"
_COMMAND = "stop it, or if it was killed, repeat this command after the time of its lease"

_log = Log()


def owned_nvram(state: State, place: EtcdPlace, *, standby: bool) -> EtcdNvram | None:
    """Return NVRAM that this server owns; None if a stop signal came first.

    NvramInUseError if another server goes on owning it, NvramError if no member of etcd answers; a `standby`
    waits instead.  OperatorError if the state or a file for https can't be used.
    """
    if place.unprotected:
        _log.warning("nvram.unprotected", endpoints=place.unprotected, advice="use https: docs/cluster.md")
    gc.enable()  # a standby may wait for days; a usual start enables it when it is ready
    mark = state.etcd_mark()
    taking, nvram = Taking(place, mark, _log_loss), None
    try:
        nvram = trio.run(_unless_stopped, taking, None if standby else place.lease + GRACE)
    finally:
        taking.close()
        if nvram is None:
            mark.close()
    if nvram is not None:
        _log.info("nvram.owned", prefix=place.prefix, endpoints=place.endpoints)
        notify(f"STATUS=owner of {place.prefix} in etcd")
    return nvram


def nvram_of_command(place: EtcdPlace) -> EtcdNvram:
    """Return NVRAM that a command on a powered-off system owns, with a mark in memory alone.

    Raises the errors of `owned_nvram`, and KeyboardInterrupt after a stop signal.  If the ownership ends,
    each later commit raises NvramError.
    """
    # The mark is in memory, so that a command that is refused changes nothing in the folder.
    with closing(Taking(place, MemoryMark(), lambda error: None)) as taking:
        nvram = trio.run(_unless_stopped, taking, place.lease + GRACE, _COMMAND)
    if nvram is None:
        raise KeyboardInterrupt
    return nvram


async def _unless_stopped(taking: Taking, patience: float | None, advice: str = _SERVER) -> EtcdNvram | None:
    """Return NVRAM when it is owned; None after a stop signal.  Raises the errors of `_owned`."""
    failure: SwpksError | None = None
    nvram: EtcdNvram | None = None
    stopped = False

    async def stop_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        nonlocal stopped
        number = await anext(aiter(signals))
        _log.info("server.stops_waiting", signal=signal.Signals(number).name)
        stopped = True
        scope.cancel()

    with trio.open_signal_receiver(*stop_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_on_signal, signals, nursery.cancel_scope)
            try:
                nvram = await _owned(taking, patience, advice)
            except SwpksError as error:  # raised below, because the nursery would wrap it into a group
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if stopped and nvram is not None:  # the signal came when the last attempt had just succeeded
        nvram.close()
        return None
    return nvram


async def _owned(taking: Taking, patience: float | None, advice: str) -> EtcdNvram:
    """Try until this server is the owner.

    If `patience` is None, try for ever.  Otherwise try for the time of the owner's lease, or for `patience`
    seconds if that time is not known.
    """
    begun, told = trio.current_time(), ""
    while True:
        reason, nvram = await _attempt(taking, standby=patience is None)
        if nvram is not None:
            return nvram
        if reason != told:
            _log.info("nvram.waits", reason=reason)
            notify(f"STATUS=waiting: {reason}")
            told = reason
        if patience is not None and trio.current_time() > begun + _patience(taking, patience):
            raise NvramInUseError(
                f"{taking.prefix} in etcd, owned by {taking.holder or 'another server'},",
                _no_lease(taking) or advice,
            )
        await trio.sleep(PAUSE)


def _patience(taking: Taking, unknown: float) -> float:
    """Return the seconds to wait for the end of the owner's lease; `unknown` if its time is not known."""
    if taking.holder_seconds is None:
        return unknown
    return min(taking.holder_seconds, MAX_NVRAM_LEASE_S) + GRACE if taking.holder_seconds else -1.0


def _no_lease(taking: Taking) -> str:
    """Return advice about an owner key that no lease ends; an empty text for another one."""
    if taking.holder_seconds != 0:
        return ""
    return f"the key {taking.prefix}/owner hangs on no lease: delete it, if no server owns it"


async def _attempt(taking: Taking, *, standby: bool) -> tuple[str, EtcdNvram | None]:
    """Try once; return the reason for another attempt, or NVRAM."""
    try:
        nvram = await trio.to_thread.run_sync(taking.attempt, abandon_on_cancel=True)
    except NvramError as error:
        if not standby:
            raise
        return error.message, None
    reason = f"the owner is {taking.holder or 'another server'}"
    return "; ".join(filter(None, (reason, _no_lease(taking)))), nvram


def _log_loss(error: NvramError) -> None:
    _log.error("nvram.lease_over", **explained(error))
    notify("STATUS=not the owner any more: stop this server, or start it with --standby")
