"""Systems of parts in memory, and a console that watches them, all in one process and in virtual time.

async with running(Site("lab")) as rig:
    await rig.write("a", b"one")
    await rig.copied()
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio
import trio.testing

from hcall_abi.requests import ConsoleRequest
from hcall_server.components.memory import MemoryCard, MemoryTpm
from hcall_server.console.console import ConsoleSettings, ManagementConsole
from hcall_server.console.jobs import Job
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import KnownSystem
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.partition import Partition
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.console_link import MachineLink
from swpks.testing.seams import simulated_seams
from tests.guest import Chance, Guest

T = TypeVar("T")
INTERVAL = 5.0
EPOCH = 1_800_000_000.0
LABEL = b"disk-key"
CANARY = b"CANARY-object-of-the-guest-0123456789"


def date() -> float:
    """Return the time of the virtual clock, in seconds since 1970."""
    return EPOCH + trio.current_time()


class KeyFolder(MemoryTransport):
    """A memory transport whose access keys survive a restart of the machine, like files in a folder."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        super().__init__()
        self._keys = keys

    def publish_key(self, partition: Partition) -> None:
        self._keys[partition.name] = partition.access_key

    def known_key(self, name: str) -> bytes | None:
        return self._keys.get(name)

    def known_names(self) -> list[str]:
        return sorted(self._keys)

    def forget_key(self, name: str) -> None:
        self._keys.pop(name, None)


class Site:
    """The parts of a system, and the machine that runs on them."""

    def __init__(self, name: str = "lab", partitions: str = "a b") -> None:
        self.name = name
        self.settings = Settings(
            name=name,
            copy_interval_s=INTERVAL,
            partition=tuple(PartitionSettings.of(each, 16, auto_start=False) for each in partitions.split()),
        )
        self.nvram, self.card, self.tpm = MemoryNvram(), MemoryCard(), MemoryTpm()
        self.keys: dict[str, bytes] = {}
        self.link = MachineLink(None)
        self._scope = trio.CancelScope()

    @property
    def machine(self) -> Machine:
        """Return the machine; AssertionError while the system is off."""
        assert self.link.machine is not None
        return self.link.machine

    async def start(self, nursery: trio.Nursery, settings: Settings | None = None) -> None:
        """Start the system on its parts."""
        parts = {"nvram": self.nvram, "card": self.card, "tpms": [self.tpm]}
        seams = simulated_seams(**parts, transport=KeyFolder(self.keys))  # type: ignore[arg-type]
        machine = assemble(seams._replace(date=date), settings or self.settings)
        await nursery.start(self._run, machine)
        self.link.restart(machine)

    def kill(self) -> None:
        """End the system at once."""
        self.link.restart(None)
        self._scope.cancel()

    async def _run(self, machine: Machine, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as self._scope:
            await machine.run(task_status=task_status)

    def lose_service_processor(self) -> None:
        """Replace NVRAM by empty NVRAM."""
        self.nvram = MemoryNvram()

    def lose_card_and_service_processor(self) -> None:
        """Replace card and NVRAM, the two parts that hold the root key. The next start makes a new system."""
        self.nvram, self.card, self.tpm = MemoryNvram(), MemoryCard(), MemoryTpm()
        self.keys.clear()


class Rig:
    """Sites and a console; all can be started, killed and started again."""

    def __init__(
        self, nursery: trio.Nursery, sites: tuple[Site, ...], path: Path | None, **settings: Any
    ) -> None:
        self.nursery = nursery
        self.sites = {f"/{site.name}": site for site in sites}
        self.site = sites[0]
        self.path = path
        self.settings = ConsoleSettings(**settings)
        self.store = ConsoleStore(path)
        self._scope = trio.CancelScope()

    @property
    def system(self) -> KnownSystem:
        """Return the console's entry of the first site."""
        return self.console.systems[0]

    async def start_console(self) -> None:
        """Start a console on the store, whose file is opened again."""
        await trio.testing.wait_all_tasks_blocked()
        if self.path:
            self.store.close()
            self.store = ConsoleStore(self.path)
        self.console = ManagementConsole(
            self.store,
            lambda where: self.sites[where].link,
            entropy=Chance(b"id"),
            date=date,
            settings=self.settings,
        )
        await self.nursery.start(self._run)

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as self._scope:
            await self.console.run(task_status=task_status)

    def kill_console(self) -> None:
        """End the console at once; its store stays as it is."""
        self._scope.cancel()

    def close(self) -> None:
        """Release the open store."""
        self.store.close()

    async def restart_console(self) -> None:
        """Kill the console and start it again."""
        self.kill_console()
        await self.start_console()

    # Actions of a guest and an operator

    async def ask(self, request: ConsoleRequest[T], site: Site | None = None) -> T:
        """Send a request to the machine, without the console."""
        return await MachineLink((site or self.site).machine).call(request)

    async def write(self, name: str, data: bytes, site: Site | None = None) -> None:
        """Power a partition on, write its object as the guest, and power it off."""
        machine = (site or self.site).machine
        machine.power_on(name)
        found = machine.system.find(name)
        Guest(found).remove(3, LABEL)
        answer = Guest(found).write(3, LABEL, data)
        assert answer.status == 0, answer
        machine.encryptor.changed(found)
        machine.power_off(name)
        await machine.encryptor.flush()

    def data(self, name: str, site: Site | None = None) -> bytes | None:
        """Return the guest's object, None if it does not exist."""
        found = (site or self.site).machine.system.find(name)
        image = found.keystore.contents.snapshot() if found.keystore else None
        objects = image.objects if image else ()
        return next((each.data for each in objects if each.label == LABEL), None)

    async def ended(self, job: Job | None = None) -> Job:
        """Follow a job to its end, by default the running one."""
        job = job or self.console.jobs.all[-1]
        return await self.console.jobs.follow(job, _ignored)

    async def until(self, true: Callable[[], object], seconds: float = 600) -> None:
        """Wait in virtual time until a condition is true."""
        with trio.move_on_after(seconds):
            while not true():  # noqa: ASYNC110 - any change of any part may make it true
                await trio.sleep(0.2)
        assert true()

    async def copied(self) -> None:
        """Wait until the console has the present state of every store."""
        await self.until(lambda: all(map(self._held, self.site.machine.system.partitions.values())))

    def _held(self, partition: Partition) -> bool:
        wanted = str(partition.profile.uuid), (partition.profile.restores, partition.profile.image_generation)
        kept = self.site.machine.attachment.kept(partition.profile.uuid)
        there = any((each.uuid, each.rank) == wanted for each in self.system.copies)
        return there and kept is not None and kept[:2] == wanted[1]

    def uuid(self, name: str, site: Site | None = None) -> str:
        """Return the UUID of a partition."""
        return str((site or self.site).machine.system.find(name).profile.uuid)


@asynccontextmanager
async def running(*sites: Site, path: Path | None = None, **settings: Any) -> AsyncIterator[Rig]:
    """Running sites, and a console that knows them."""
    with ExitStack() as at_end:
        async with trio.open_nursery() as nursery:
            rig = Rig(nursery, sites, path, **settings)
            at_end.callback(rig.close)
            for site in sites:
                await site.start(nursery)
            await rig.start_console()
            for where in rig.sites:
                await rig.console.add_system(where)
            await rig.until(lambda: all(each.connected for each in rig.console.systems))
            yield rig
            nursery.cancel_scope.cancel()


async def _ignored(_: Job) -> None:
    await trio.lowlevel.checkpoint()
