"""The partition behind a machine: its session, opened again whenever it is over, and its console.

The server may end and start again while the guest runs: the next call reconnects.  A call that was in flight
when the connection broke may or may not have run.  It returns H_ABORTED to the guest, the status for an error
during a request.

A partition can be followed to another system (`hcall_client.following`).  The guest sees a call that takes
longer then.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import PeerError
from hcall_abi.frames import HReturn, OpenStatus
from hcall_abi.statuses import Status
from hcall_client.channel import Channel, Locate, Target, open_channel, place_of
from hcall_client.errors import CallTooLarge, NotReached, OpenRefused
from hcall_client.following import FollowingChannel, open_following
from hcall_client.request import Request
from swpks.qemu.console import PATIENCE, PAUSE, PatientConsole
from swpks.qemu.errors import PartitionUnusable

_MAY_PASS = (OpenStatus.TOO_MANY_SESSIONS, OpenStatus.NOT_ACTIVATED)
"""Refusals that are temporary: the server is starting, or other sessions will end."""
NAME = "swpks qemu"
"""The name by which the server's log knows these sessions."""


class ServedPartition:
    """A partition of a running server; made by `partition_of`.

    `started` says whether it has had an IPL from here, or may have had it.  `target` is an address, or tells
    where the partition is now: then it is followed.
    """

    def __init__(
        self, nursery: trio.Nursery, target: Target | Locate, console: PatientConsole, patience: float
    ) -> None:
        self._nursery = nursery
        self._target = target
        self._console = console
        self._patience = patience
        self._channel: Channel | FollowingChannel | None = None
        self.started = False

    async def call(self, request: Request[HReturn]) -> HReturn:
        """Make a guest's h-call; PartitionUnusable when no server came back in time."""
        channel = await self._session()
        try:
            return await channel.call(request)
        except (PeerError, CallTooLarge):
            return HReturn(0, Status.H_ABORTED, request.registers, ())

    async def ipl(self) -> None:
        """Restart the partition: passwords are forgotten, and the session is a new one."""
        self.started = True
        await self._console.ipl()
        self._channel = None

    async def secure_boot(self) -> SecureBoot:
        """Return the secure-boot mode of the current IPL."""
        return await self._console.secure_boot()

    async def power_off(self) -> None:
        """Stop the partition."""
        await self._console.power_off()

    async def _session(self) -> Channel | FollowingChannel:
        """Return an open session, waiting for a server if need be."""
        deadline = trio.current_time() + self._patience
        while self._channel is None or self._channel.ended:
            try:
                self._channel = await self._nursery.start(self._hold)
            except (OSError, PeerError, OpenRefused, NotReached, LookupError) as error:
                refused = isinstance(error, OpenRefused) and error.status not in _MAY_PASS
                if refused or trio.current_time() >= deadline:
                    raise PartitionUnusable(f"no session with the partition: {error}") from None
                await trio.sleep(PAUSE)
        return self._channel

    async def _hold(self, *, task_status: trio.TaskStatus[Channel | FollowingChannel]) -> None:
        """Keep a session open, in a task of its own, for as long as it lasts."""
        async with self._opening() as channel:
            task_status.started(channel)
            await channel.wait_ended()

    def _opening(self) -> AbstractAsyncContextManager[Channel | FollowingChannel]:
        target = self._target
        if isinstance(target, str | os.PathLike | tuple | trio.abc.Stream):
            return open_channel(target, name=NAME)
        return open_following(partial(self._place, target), name=NAME, move_patience=self._patience)

    async def _place(self, locate: Locate) -> Target:
        """Return where the partition is now; the console of the system there has its power."""
        place = await place_of(locate)
        if isinstance(place, str | os.PathLike):
            self._console.follow(Path(place))
        return place


@asynccontextmanager
async def partition_of(
    target: Target | Locate, console: PatientConsole, patience: float = PATIENCE
) -> AsyncIterator[ServedPartition]:
    """Be a partition's machine for the length of a block."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield ServedPartition(nursery, target, console, patience)
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
