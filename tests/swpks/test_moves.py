"""Partitions that move, in a user's test: the fixture `pks_console` has systems `a` and `b` (R-51, R-52)."""

from __future__ import annotations

import pytest
import trio

import swpks
from hcall_client.where import NotLocated
from swpks.testing import EmulatedConsole, JobFailed
from swpks.testing.peers import PeerLine

OS = swpks.Authorization(3)
KEY = bytes(range(32))

pytestmark = pytest.mark.pks_console(partitions={"a": ["lpar1"], "b": []})


async def share_key(console: EmulatedConsole) -> None:
    """Set the same trusted system key on both systems."""
    console.files["key"] = KEY
    assert await console.line("chtskey -m a -o change --newkey key") == (0, "")
    assert await console.line("chtskey -m b -o restore --newkey key") == (0, "")


def refuse(line: PeerLine) -> PeerLine:
    """Refuse each connection that a system opens to another one."""
    raise ConnectionRefusedError(f"no way from {line.source} to {line.target}")


async def states(console: EmulatedConsole, system: str) -> str:
    """Return the partitions of a system, with state and remote restart status."""
    return (await console.line(f"lssyscfg -r lpar -m {system} -F name,state,remote_restart_status")).text


async def test_my_guest_moves(pks_console: EmulatedConsole) -> None:
    """R-51: a test moves its guest in five lines. The channel follows, and the guest sees no error."""
    async with swpks.open_following(pks_console.locate("lpar1")) as channel:
        await channel.call(swpks.write_object(OS, b"label", b"data"))
        await pks_console.migrate("lpar1", "a", "b")
        assert (await channel.call(swpks.read_object(OS, b"label"))).data == b"data"
        assert channel.moves == 1


async def test_each_opening_finds_a_partition_that_moves(pks_console: EmulatedConsole) -> None:
    """R-55: the partition always has an owner, so a client that opens during a move sees no error."""
    opened = 0
    async with trio.open_nursery() as nursery:

        async def open_always() -> None:
            nonlocal opened
            while True:
                async with swpks.open_following(pks_console.locate("lpar1")) as channel:
                    await channel.limits()
                opened += 1

        for _ in range(3):
            nursery.start_soon(open_always)
        for source, target in (("a", "b"), ("b", "a")) * 3:
            await pks_console.migrate("lpar1", source, target)
        nursery.cancel_scope.cancel()
    assert opened > 6


async def test_it_moves_back_and_keeps_its_password(pks_console: EmulatedConsole) -> None:
    """R-51: a partition that moves away and back has no IPL. Each move increases the attempt number."""
    lpar1 = await pks_console.partition("lpar1", "a")
    owner = await lpar1.channel.call(swpks.set_password(3, b"word"))
    await lpar1.channel.call(swpks.write_object(owner, b"label", b"data"))
    await pks_console.migrate("lpar1", "a", "b")
    await pks_console.migrate("lpar1", "b", "a")
    lpar1 = await pks_console.partition("lpar1", "a")
    assert lpar1.channel.ipl_count == 1
    assert (await lpar1.channel.call(swpks.read_object(owner, b"label"))).data == b"data"
    assert await pks_console.line("lslparmigr -r lpar -m a -F name,migration_state,owner_sys_name,epoch") == (
        0,
        "lpar1,Not Moving,a,2",
    )


async def test_a_system_that_is_not_reached(pks_console: EmulatedConsole) -> None:
    """R-51: if the target cannot be reached, the move fails, and the source still serves the partition."""
    network = pks_console.systems["b"].network
    carry, network.carry = network.carry, refuse
    with pytest.raises(JobFailed):
        await pks_console.migrate("lpar1", "a", "b")
    lpar1 = await pks_console.partition("lpar1", "a")
    assert (await lpar1.channel.call(swpks.get_config())).used_space == 0
    network.carry = carry
    await pks_console.migrate("lpar1", "a", "b")
    with pytest.raises(NotLocated, match="no system has it"):
        pks_console.locate("nobody")()


async def test_a_stopped_partition_moves(pks_console: EmulatedConsole) -> None:
    """R-52: a stopped partition moves as a copy, sealed under the key that both systems have."""
    lpar1 = await pks_console.partition("lpar1", "a")
    await lpar1.channel.call(swpks.write_object(OS, b"label", b"data"))
    await lpar1.power_off()
    await share_key(pks_console)
    await pks_console.migrate("lpar1", "a", "b")
    lpar1 = await pks_console.partition("lpar1", "b")
    assert (await lpar1.channel.call(swpks.read_object(OS, b"label"))).data == b"data"


async def test_a_dead_system(pks_console: EmulatedConsole) -> None:
    """R-52, R-54: after a power cut of its system, the partition restarts on the other system.

    When the first system starts again, it does not serve the partition. The operator then removes the
    partition there.
    """
    await share_key(pks_console)
    lpar1 = await pks_console.partition("lpar1", "a")
    await lpar1.channel.call(swpks.write_object(OS, b"label", b"data"))
    await pks_console.backup("a")
    assert await states(pks_console, "a") == "lpar1,Running,Remote Restartable"
    await pks_console.power_cut_system("a")
    await pks_console.restart_remotely("lpar1", "a", "b")
    assert await states(pks_console, "a") == "lpar1,Not Available,Remote Restarted"
    assert await states(pks_console, "b") == "lpar1,Running,Remote Restartable"
    lpar1 = await pks_console.partition("lpar1", "b")
    assert (await lpar1.channel.call(swpks.read_object(OS, b"label"))).data == b"data"
    await pks_console.start_system("a")
    status, text = await pks_console.line("rrstartlpar -o cleanup -m a -p lpar1")
    assert (status, text) == (0, "lpar1 is removed from a: b has it")
    assert await states(pks_console, "a") == "No results were found."
