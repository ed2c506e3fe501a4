"""Verbs about whole partitions and about the system, sent to the application."""

from __future__ import annotations

import pytest

from hcall_abi.faults import parse_fault
from hcall_abi.rules.catalogue import RULES
from hcall_server.platform.system_state import SystemState
from tests.control_channel.rig import in_process, make_machine
from tests.control_channel.test_verbs import put_object
from tests.rules.breaking import logged

NEW = {
    "name": "b",
    "keystore_kbytes": 8,
    "auto_start": False,
    "number": 7,
    "attributes": {"secure_boot": 2},
}


@pytest.fixture
def machine():
    machine = make_machine()
    machine.system.create("a", 8)
    return machine


@pytest.fixture
async def client(machine):
    async with in_process(machine) as client:
        yield client


async def refused(call, status=409) -> str:
    """Return the id of the rule for which a call is refused."""
    answer = await call
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["rule"] == RULES[problem["rule_id"]].sentence
    return problem["rule_id"]


def delete(client, name, **body):
    return client.post(f"/v1/partitions/{name}/delete", json=body)


def change(client, name, **body):
    return client.patch(f"/v1/partitions/{name}", json=body)


async def test_creating_with_number_and_attributes(machine, client) -> None:
    """R-30, R-36: The answer has number and attributes of the new partition. A refused one is not created."""
    answer = await client.post("/v1/partitions", json=NEW)
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["number"], shown["secure_boot"], shown["auto_start"]) == (7, "enforce", False)
    assert await refused(client.post("/v1/partitions", json={"name": "c", "number": 7})) == "partition.number"
    wrong = {"name": "c", "attributes": {"keystore_signed_updates": 1}}
    assert await refused(client.post("/v1/partitions", json=wrong)) == "attribute.needs"
    assert list(machine.system.partitions) == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [{"number": 0}, {"number": 65536}, {"number": None}, {"attributes": {"colour": 1}}, {"attributes": None}],
)
async def test_bodies_out_of_form(client, body) -> None:
    """A value that no partition can have is refused with `request.form`."""
    assert await refused(client.post("/v1/partitions", json={"name": "c", **body}), 400) == "request.form"


async def test_a_deleted_partition_is_gone(machine, client) -> None:
    """A deleted partition is not in the answer, and its fault plan is gone.

    Number and name are free, durably.
    """
    machine.set_faults("a", [parse_fault("READ_OBJECT=H_BUSY")])
    machine.counters.calls[1][0x41C, 0] += 1
    answer = await delete(client, "a")
    assert answer.status_code == 200
    assert answer.json()["partitions"] == []
    assert not machine.encryptor.pending
    assert (machine.faults, dict(machine.counters.calls)) == ({}, {})
    assert await refused(client.get("/v1/partitions/a"), 404) == "name.exists"
    again = await client.post("/v1/partitions", json={"name": "a"})
    assert (again.json()["number"], again.json()["faults"]) == (1, [])


async def test_objects_are_destroyed_on_purpose(machine, client) -> None:
    """R-33: a partition with objects is not deleted unless the operator orders their destruction."""
    put_object(machine, "a")
    assert await refused(delete(client, "a")) == "partition.empty"
    assert (await delete(client, "a", destroy=True)).status_code == 200


async def test_a_running_partition_keeps_its_name_and_its_place(client) -> None:
    """A running partition can't be renamed or deleted: the operator must power it off first."""
    await client.post("/v1/partitions/a/power-on")
    assert await refused(delete(client, "a", destroy=True)) == "partition.off"
    assert await refused(change(client, "a", new_name="z")) == "partition.off"
    assert (await change(client, "a", auto_start=False)).json()["auto_start"] is False


async def test_a_changed_partition(machine, client) -> None:
    """R-47: All changes of a request happen at once and durably. The fault plan stays with the number."""
    uuid = str(machine.system.find("a").profile.uuid)
    machine.set_faults("a", [parse_fault("READ_OBJECT=H_BUSY")])
    answer = await change(client, "a", new_name="z", auto_start=False, attributes={"secure_boot": 1})
    shown = answer.json()
    assert answer.status_code == 200
    assert (shown["name"], shown["uuid"], shown["auto_start"]) == ("z", uuid, False)
    assert (shown["secure_boot"], len(shown["faults"])) == ("audit", 1)
    assert not machine.encryptor.pending
    assert await refused(client.get("/v1/partitions/a"), 404) == "name.exists"
    assert (await change(client, "z")).json() == shown


async def test_a_change_is_all_or_nothing(machine, client) -> None:
    """R-36: If any part of a request is refused, nothing is changed."""
    before = machine.system.find("a").profile
    assert await refused(change(client, "a", new_name="tcp", auto_start=False)) == "name.form"
    wrong = change(client, "a", new_name="z", auto_start=False, attributes={"keystore_kbytes": 4})
    assert await refused(wrong) == "size.shrinks"
    assert machine.system.find("a").profile == before


async def test_what_the_log_has(client) -> None:
    """Each change of a partition or system has a log line, with the names before and after."""
    with logged("partition.changed") as changed:
        await change(client, "a", new_name="z", attributes={"secure_boot": 1})
    assert (changed[0]["partition"], changed[0]["before"], changed[0]["secure_boot"]) == ("z", "a", 1)
    with logged("partition.deleted") as deleted:
        await delete(client, "z", destroy=True)
    assert (deleted[0]["partition"], deleted[0]["destroy"]) == ("z", True)


async def test_the_name_of_the_system(machine, client) -> None:
    """The name is durable before the answer."""
    answer = await client.patch("/v1/system", json={"name": "Server of rack 7"})
    assert answer.json()["name"] == "Server of rack 7"
    assert not machine.encryptor.pending
    assert await refused(client.patch("/v1/system", json={"name": "a*b"})) == "system.name-form"
    assert machine.system.name == "Server of rack 7"


async def test_a_name_in_recovery_does_not_end_it(machine, client) -> None:
    """R-48: A new name that is given in Recovery is stored only when Recovery ends.

    The name is in the system record, and a system record in NVRAM would end Recovery.
    """
    machine.system.partitions.clear()
    await machine.recovery.begin()
    assert (await client.patch("/v1/system", json={"name": "old name"})).json()["state"] == "Recovery"
    assert "system" not in machine.nvram.inner.records
    await client.post("/v1/recovery/end", json={"give_up": True})
    assert "system" in machine.nvram.inner.records
    assert machine.system.name == "old name"


@pytest.mark.parametrize("state", SystemState)
async def test_powering_off_works_in_every_state(machine, client, state) -> None:
    """Power-off of the system is answered in every state. Then the server stops (tests/parts)."""
    machine.system.state = state
    assert not machine.stop_asked.is_set()
    answer = await client.post("/v1/system/power-off")
    assert (answer.status_code, answer.json()["state"]) == (200, state.value)
    assert machine.stop_asked.is_set()


async def test_a_restore_counts_itself_and_may_refuse_to_go_back(machine, client) -> None:
    """R-45: Each restore adds one to the count.

    A copy with a smaller count is older, whatever its generation.
    """
    first = (await client.get("/v1/partitions/a/copy")).json()
    assert first["restores"] == 0
    restored = (await client.post("/v1/copies", json={"copy": first["copy"], "older": False})).json()
    assert (restored["restores"], restored["generation"]) == (1, first["generation"] + 1)
    second = (await client.get("/v1/partitions/a/copy")).json()
    assert (second["restores"], second["generation"]) == (1, restored["generation"])
    answer = await client.post("/v1/copies", json={"copy": first["copy"], "older": False})
    assert answer.json()["rule_id"] == "copy.behind"
    for words in ("restore count 0 and generation 0, of ", " UTC; the present store has 1 and 1"):
        assert words in answer.json()["detail"]
    with logged("partition.restored") as lines:
        again = (await client.post("/v1/copies", json={"copy": first["copy"]})).json()
    assert (lines[0]["restores"], lines[0]["generation"]) == (0, 0)
    assert (again["restores"], again["generation"]) == (2, 2)
