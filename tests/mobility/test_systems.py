"""Two whole systems in one process: a partition moves between real machines."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import trio
from trio.testing import MockClock

from hcall_abi import requests
from hcall_abi.consumers import Consumer
from hcall_abi.control_bodies import MigrationOrder
from hcall_server.platform.custody import Custody, Mode
from hcall_server.service.settings import PartitionSettings, Settings
from swpks import Authorization, HcallError, read_object, set_password, write_object
from swpks.testing.peers import MemoryNetwork
from swpks.testing.system import EmulatedSystem

TOKEN = bytes(range(7, 39))
LINUX = Authorization(Consumer.OPERATING_SYSTEM)

Two = tuple[EmulatedSystem, EmulatedSystem]


@asynccontextmanager
async def two_systems(
    *others: PartitionSettings, kbytes: int = 64
) -> AsyncIterator[tuple[EmulatedSystem, EmulatedSystem]]:
    """Run the system "a" with the partition lpar1, and the system "b" with other partitions."""
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        systems = [
            EmulatedSystem(name, Settings(name=name, flush_delay_ms=0, partition=wishes), date=lambda: 0.0,
                           nursery=nursery, network=network)
            for name, wishes in (("a", (PartitionSettings.of("lpar1", kbytes),)), ("b", others))
        ]  # fmt: skip
        for each in systems:
            await each.start()
        yield systems[0], systems[1]
        nursery.cancel_scope.cancel()


async def ordered(a: EmulatedSystem, b: EmulatedSystem, epoch: int = 1) -> UUID:
    """Order a migration as the console does; return the UUID of the partition."""
    uuid = a.machine.system.find("lpar1").profile.uuid
    ids = [each.machine.system.system_id.hex() for each in (a, b)]
    expected = await b.link.call(requests.expect_partition(str(uuid), epoch, ids[0], TOKEN))
    order = MigrationOrder(
        uuid=str(uuid), epoch=epoch, target_id=ids[1], address=expected.address, token=TOKEN
    )
    await a.link.call(requests.begin_migration("lpar1", order))
    return uuid


async def until(system: EmulatedSystem, uuid: UUID, custody: Custody) -> Any:
    """Wait until a system shows this state of custody."""
    keeper = system.machine.custodian
    while not ((facts := keeper.facts_of(uuid)) and facts.custody is custody):
        await keeper.changed(uuid)
    return facts


async def test_a_running_partition_moves(autojump_clock: MockClock) -> None:
    """R-51: objects and passwords arrive without an IPL, and nothing stays at the source."""
    async with two_systems() as (a, b):
        lpar1 = await a.partition("lpar1")
        await lpar1.channel.call(write_object(LINUX, b"label", b"data"))
        before = a.machine.system.find("lpar1")
        uuid = await ordered(a, b)
        with trio.fail_after(60):
            await until(b, uuid, Custody.ARRIVED)
            await until(a, uuid, Custody.GONE)
        after = b.machine.system.find("lpar1")
        assert after.running
        assert after.ipl_count == before.ipl_count
        moved = await b.partition("lpar1")
        found = await moved.channel.call(read_object(LINUX, b"label", 100))
        assert b"data" in bytes(found.data)
        assert "lpar1" not in a.machine.system.partitions


async def test_a_full_store_moves(autojump_clock: MockClock) -> None:
    """R-51: a store of 128 KiB and the longest password fit in a FINAL of less than 256 KiB."""
    async with two_systems(kbytes=128) as (a, b):
        lpar1 = await a.partition("lpar1")
        password = b"p" * 32
        await lpar1.channel.call(set_password(Consumer.OPERATING_SYSTEM, password))
        who, written = Authorization(Consumer.OPERATING_SYSTEM, password), {}
        # The loop ends when a full store refuses the WRITE.
        with suppress(HcallError):
            for number in range(1000):
                label, data = b"object %d" % number, bytes([number % 251]) * 4000
                await lpar1.channel.call(write_object(who, label, data))
                written[label] = data
        assert 25 < len(written) < 40
        uuid = await ordered(a, b)
        with trio.fail_after(60):
            await until(a, uuid, Custody.GONE)
        moved = await b.partition("lpar1")
        for label, data in written.items():
            assert (await moved.channel.call(read_object(who, label))).data == data


async def test_a_name_that_is_taken_is_refused_by_the_target(autojump_clock: MockClock) -> None:
    """R-51: if the target uses the name, it refuses in the copy phase.

    The source shows this and still serves.
    """
    async with two_systems(PartitionSettings.of("lpar1", 4)) as (a, b):
        uuid = await ordered(a, b)
        keeper = a.machine.custodian
        while not (facts := keeper.facts_of(uuid)) or not facts.trouble or facts.mode is not Mode.SERVING:
            await keeper.changed(uuid)
        assert (facts.tried, facts.custody) == (1, Custody.OWN)
        assert facts.trouble == "arrival.name: the name lpar1 is taken here"
        await a.partition("lpar1")
        view = await a.link.call(requests.show_system())
        assert view.partitions[0].mode == "serving"


async def test_a_target_that_restarts_before_it_serves_needs_the_courier(autojump_clock: MockClock) -> None:
    """R-51: a target that restarts has lost its token.

    The console carries the messages, and an IPL begins.
    """
    async with two_systems() as (a, b):
        count = a.machine.system.find("lpar1").ipl_count
        uuid = await ordered(a, b)
        await until(b, uuid, Custody.PREPARED)
        await b.power_cut()
        with trio.move_on_after(30):
            await until(a, uuid, Custody.RELEASED)
        await b.start()
        facts = b.machine.custodian.facts_of(uuid)
        assert facts is not None
        if facts.custody is Custody.PREPARED:
            await a.link.call(requests.tell_custody(str(uuid), 1, "prepared", generation=facts.generation))
            await b.link.call(requests.tell_custody(str(uuid), 1, "activate"))
        await a.link.call(requests.tell_custody(str(uuid), 1, "active"))
        await until(a, uuid, Custody.GONE)
        arrived = b.machine.system.find("lpar1")
        assert arrived.running
        assert arrived.ipl_count == count + 1
