"""A service whose commits end when the test releases them, in virtual time."""

from __future__ import annotations

from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_server.machine.machine import Machine
from hcall_server.writeback.schedule import GATHERING
from tests.data_channel.support import Peer, Service
from tests.writeback.workers import ParkedWorker


class ParkedService:
    """A service, its disk, and its clock."""

    def __init__(self, service: Service, disk: ParkedWorker, clock: MockClock) -> None:
        self.service = service
        self.disk = disk
        self.clock = clock
        self.machine: Machine = service.machine

    async def session(self, name: str = "alpha") -> Peer:
        """Return an open session; no commit is in progress."""
        peer = await self.service.session(name)
        await self.land()
        return peer

    async def land(self) -> None:
        """Let the running commit end. If it still waits for more changes, let it run and end."""
        await self.pass_time(GATHERING)
        self.disk.let_go()
        await wait_all_tasks_blocked()

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock by so many seconds."""
        await wait_all_tasks_blocked()
        self.clock.jump(seconds)
        await wait_all_tasks_blocked()
