"""The partition of a machine: its session, which is opened again after each end, and its power.

The server may end and start again while the guest runs: the next call reconnects.  If the connection breaks
during a call, the call may or may not have run.  Then the guest gets H_ABORTED, the status for an error
during a request.

The bridge can follow a partition to another system (`hcall_client.following`).  For the guest, a call then
only takes longer.

`wait_powered_off` keeps a session open from the first IPL on, also while the guest makes no call.  The end of
that session reports a power-off, or a server that is away.
"""

# The session of a guest that does not know of sessions
#
# A guest's h-call has no connection that could break.  So this module keeps the session open, and decides
# the effect of a break.  It guarantees three things:
#
#   1. A call is sent once.  If the session breaks during it, the guest gets H_ABORTED.
#   2. A guest waits for a server that is away, `patience` seconds at most, and its user is informed once.
#   3. An end of the session is noticed also while the guest makes no call.
#
# A session ends for five reasons, and each needs another reaction:
#
#   - An IPL by this module, because the guest has rebooted.  The end is expected, so nothing is reported.
#     `_left` marks the session.
#   - An IPL by the console: the guest goes on with a password that is refused.  A message asks the user to
#     reboot it.
#   - A power-off by the console: the machine has to end.  Its GOODBYE has the same reason as that of an IPL.
#     So this module asks the console whether the partition is off.
#   - A time without calls: the server closes idle sessions.  The session is opened again, and nothing is
#     reported.
#   - Anything else: the server is away.  The user is informed, and informed again when a session is open.
#
# The session is opened in a task of its own (`_hold`).  Both the guest's call and `wait_powered_off` may need
# a new session.  But Trio demands that one task enters and leaves a context manager.

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import GoodbyeReason, HReturn, OpenStatus
from hcall_abi.statuses import Status
from hcall_client.channel import Channel, Locate, Target, open_channel, place_of
from hcall_client.errors import CallTooLarge, NotReached, OpenRefused, SessionEnded
from hcall_client.following import FollowingChannel, open_following
from hcall_client.request import Request
from swpks.qemu.claims import Claims
from swpks.qemu.console import PATIENCE, PAUSE, PatientConsole
from swpks.qemu.errors import PartitionUnusable

_MAY_PASS = (OpenStatus.TOO_MANY_SESSIONS, OpenStatus.NOT_ACTIVATED)
"""Refusals that are temporary: the server is starting, or other sessions will end."""
_NOT_OPENED = (OSError, PeerError, OpenRefused, NotReached, LookupError)
IDLE_PAUSE = 1.0
"""Seconds between two tries to open a session that no call waits for."""
NAME = "swpks qemu"
"""The name by which the server's log knows these sessions."""


class ServedPartition:
    """A partition of a running server; `partition_of` makes it.

    `started` becomes true when this object asks for an IPL.  It stays true if the answer is lost.  `target`
    is an address, or a function that returns the present address.  With a function, this object follows the
    partition to other systems, and claims it there.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        target: Target | Locate,
        console: PatientConsole,
        patience: float,
        claims: Claims,
    ) -> None:
        self._nursery = nursery
        self._target = target
        self._console = console
        self._patience = patience
        self._claims = claims
        self._channel: Channel | FollowingChannel | None = None
        self._left: Channel | FollowingChannel | None = None
        self._opens = trio.Lock()
        self._lost = False
        self._begun = trio.Event()
        self.started = False

    async def call(self, request: Request[HReturn]) -> HReturn:
        """Make a guest's h-call; PartitionUnusable if no server comes back in time."""
        channel = await self._session()
        try:
            return await channel.call(request)
        # The call is not repeated: it may have run, and a WRITE that runs twice fails the second time.
        except (PeerError, CallTooLarge):
            return HReturn(0, Status.H_ABORTED, request.registers, ())

    async def ipl(self) -> None:
        """Restart the partition: its passwords are cleared, and the next call opens a new session."""
        # `started` is set before the request.  If the answer is lost, the partition may run, and must be
        # stopped at the end.
        self.started = True
        self._left = self._channel
        await self._console.ipl()
        if self._channel is self._left:
            self._channel = None
        self._begun.set()

    async def secure_boot(self) -> SecureBoot:
        """Return the secure-boot mode of the current IPL."""
        return await self._console.secure_boot()

    async def power_off(self) -> None:
        """Stop the partition."""
        await self._console.power_off()

    async def wait_powered_off(self) -> None:
        """Return when the console has powered the partition off, at the earliest after the first `ipl`.

        An end of the session for another reason is reported to the user.  An end by `ipl` and an end of an
        idle session are not reported.
        """
        await self._begun.wait()
        while True:
            channel = await self._kept_open()
            reason = await channel.wait_ended()
            stopped = _is(reason, GoodbyeReason.IPL_OR_POWER_OFF)
            # `ipl` ends the session with the same reason as a power-off.  `_left` marks the session that
            # `ipl` ends, so the console is asked only about other ends.
            if stopped and channel is not self._left and await self._console.is_off():
                return
            if channel is not self._left:
                self._report_end(reason, by_console=stopped)

    def _report_end(self, reason: SwpksError | None, *, by_console: bool) -> None:
        if by_console:
            advice = "the password of the guest is refused until it reboots"
            self._console.notify(f"the console has restarted {self._console.name}; {advice}")
        elif not _is(reason, GoodbyeReason.IDLE_TOO_LONG):
            self._lost = True
            advice = f"an h-call of the guest will wait up to {self._patience:g} s for a server"
            self._console.notify(f"the session with {self._console.name} is lost: {_brief(reason)}; {advice}")

    async def _kept_open(self) -> Channel | FollowingChannel:
        """Return an open session; retry without a limit, because no call waits for the session."""
        while True:
            try:
                return await self._opened()
            except _NOT_OPENED:
                await trio.sleep(IDLE_PAUSE)

    async def _session(self) -> Channel | FollowingChannel:
        """Return an open session for a call; wait for a server if none answers."""
        deadline = trio.current_time() + self._patience
        announced = False
        while True:
            try:
                return await self._opened()
            except _NOT_OPENED as error:
                # If the server is away, it may come back, so the next try makes sense.  A refusal that is not
                # in `_MAY_PASS` would only be repeated.
                refused = isinstance(error, OpenRefused) and error.status not in _MAY_PASS
                if refused or trio.current_time() >= deadline:
                    raise PartitionUnusable(f"no session with the partition: {error}") from None
                if not announced:
                    self._report_wait(error)
                    announced = True
                await trio.sleep(PAUSE)

    def _report_wait(self, error: Exception) -> None:
        self._lost = True
        name, patience = self._console.name, f"{self._patience:g} s"
        self._console.notify(f"the guest waits up to {patience} for the keystore of {name}: {_brief(error)}")

    async def _opened(self) -> Channel | FollowingChannel:
        """Return the open session, or open one; raise one of `_NOT_OPENED` if that fails."""
        # The guest's call and `wait_powered_off` may both find that the session has ended.  With the lock,
        # only one of them opens a new one.
        async with self._opens:
            if self._channel is None or self._channel.ended:
                self._channel = await self._nursery.start(self._hold)
                if self._lost:
                    self._lost = False
                    self._console.notify(f"the session with {self._console.name} is open again")
            return self._channel

    async def _hold(self, *, task_status: trio.TaskStatus[Channel | FollowingChannel]) -> None:
        """Keep a session open until it ends; runs as its own task."""
        async with self._opening() as channel:
            task_status.started(channel)
            await channel.wait_ended()

    def _opening(self) -> AbstractAsyncContextManager[Channel | FollowingChannel]:
        target = self._target
        if isinstance(target, str | os.PathLike | tuple | trio.abc.Stream):
            return open_channel(target, name=NAME)
        return open_following(partial(self._place, target), name=NAME, move_patience=self._patience)

    async def _place(self, locate: Locate) -> Target:
        """Return the present address of the partition.

        The partition is claimed at that system.  From now on, this object uses that system's console.
        """
        place = await place_of(locate)
        if isinstance(place, str | os.PathLike):
            self._claims.take(Path(place))
            self._console.follow(Path(place))
        return place


def _is(reason: SwpksError | None, goodbye: GoodbyeReason) -> bool:
    return isinstance(reason, SessionEnded) and reason.reason == goodbye


def _brief(error: Exception | None) -> str:
    """Return the message of an error without its rule, because the user has broken none."""
    return error.message if isinstance(error, SwpksError) else str(error)


@asynccontextmanager
async def partition_of(
    target: Target | Locate, console: PatientConsole, patience: float = PATIENCE
) -> AsyncIterator[ServedPartition]:
    """Yield the partition of a machine; it stays claimed for the length of the block.

    PartitionUnusable if another process has claimed it for a machine.
    """
    failure: BaseException | None = None
    claims = Claims()
    try:
        if isinstance(target, str | os.PathLike):
            claims.take(Path(target))
        async with trio.open_nursery() as nursery:
            try:
                yield ServedPartition(nursery, target, console, patience, claims)
            except BaseException as error:  # raised below, because a nursery would put it into a group
                failure = error
            # A session of `_hold` would keep the nursery open for ever.
            nursery.cancel_scope.cancel()
    finally:
        claims.release()
    if failure is not None:
        raise failure
