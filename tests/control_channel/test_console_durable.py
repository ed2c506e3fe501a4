"""The console record after power cuts, after a recovery, and with damage."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.names import CONSOLE as RECORD
from hcall_server.platform.system_state import SystemState
from hcall_server.sealing import SYSTEM_OWNER, SealedKind
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from swpks.testing.seams import simulated_seams
from tests.control_channel.rig import in_process
from tests.control_channel.streams import ID
from tests.control_channel.test_console import Asked, attach, durable_machine, keep
from tests.rules.breaking import logged


async def test_what_is_held_survives_a_power_cut() -> None:
    """After a power cut the system knows the stored copies with their profiles, and the forgotten UUIDs."""
    machine, again = durable_machine()
    for name in "ab":
        machine.changes.create(name, 8)
    gone = machine.system.find("b").profile.uuid
    async with in_process(machine) as client:
        await attach(client)
        await keep(client)
        await machine.changes.delete("b")
    machine = again()
    with machine.attachment.stream(ID) as watcher:
        assert Asked(machine, watcher).look() == [("forget-copies", str(gone)), ("ask-custody", "a")]
    machine.set_attributes("a", {"secure_boot": 2})
    with machine.attachment.stream(ID) as watcher:
        assert ("take-copy", "a") in Asked(machine, watcher).look()


async def test_a_store_that_came_back_is_not_forgotten() -> None:
    """If an operator restores an old copy of a deleted partition, its UUID is no longer forgotten.

    The system asks for its custody before it serves the partition (R-54).
    """
    machine, _ = durable_machine()
    machine.changes.create("a", 8)
    async with in_process(machine) as client:
        await attach(client)
        copy = (await client.get("/v1/partitions/a/copy")).json()["copy"]
        await client.post("/v1/partitions/a/delete", json={})
        assert (await client.post("/v1/copies", json={"copy": copy})).status_code == 200
    with machine.attachment.stream(ID) as watcher:
        assert Asked(machine, watcher).look() == [("ask-custody", "a"), ("take-copy", "a")]


async def test_in_recovery_nothing_is_asked() -> None:
    """In Recovery a console can attach, but the system asks it nothing. The state stays Recovery."""
    machine, again = durable_machine()
    async with in_process(machine) as client:
        await client.post("/v1/recovery/begin")
        answer = await attach(client)
        assert (answer.status_code, answer.json()["state"]) == (200, "Recovery")
        with machine.attachment.stream(ID) as watcher:
            assert Asked(machine, watcher).look() == []
    found = again()
    assert found.system.state is SystemState.RECOVERY
    assert found.attachment.link is not None


@pytest.fixture
def stored() -> tuple[MemoryNvram, Any]:
    """NVRAM of a system with an attached console, and the seams of a machine over this NVRAM."""
    nvram = MemoryNvram()
    seams = simulated_seams(nvram=nvram)

    async def attached() -> None:
        await assemble(seams, Settings()).attachment.attach(bytes.fromhex(ID), "hmc1")

    trio.run(attached)
    return nvram, seams


def test_a_record_that_is_not_the_committed_one_refuses_the_start(stored) -> None:
    """If the console record is damaged or missing, the start is refused."""
    nvram, seams = stored
    blob = nvram.load()[RECORD]
    for wrong, words in ((blob[:-1] + bytes([blob[-1] ^ 1]), "the console record is"), (None, "is missing")):
        nvram.commit({RECORD: wrong})
        with pytest.raises(StorageError, match=words) as caught:
            assemble(seams, Settings())
        assert caught.value.rule is storage.RECORDS_COMMITTED
    nvram.commit({RECORD: blob})
    assert assemble(seams, Settings()).attachment.link is not None


def test_a_record_of_a_newer_release_is_no_console(stored) -> None:
    """A console record of a later release is logged and counts as none. A console can attach again."""
    _, seams = stored

    async def newer() -> None:
        machine = assemble(seams, Settings())
        machine.encryptor.record_changed(
            RECORD, lambda sealer: sealer.seal(SealedKind.CONSOLE, SYSTEM_OWNER, 0, b"\0\2newer")
        )
        assert await machine.encryptor.flush()
        machine = assemble(seams, Settings())
        with logged("console.refused") as lines:
            async with in_process(machine) as client:
                assert (await client.get("/v1/system")).json()["console"] is None
                assert (await attach(client)).status_code == 200
        assert [line["rule_id"] for line in lines] == ["state.level"]

    trio.run(newer)
