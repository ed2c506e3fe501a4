"""The verbs and the console's rules, sent to the application."""

from __future__ import annotations

import pytest

from hcall_abi.consumers import Consumer
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.faults import NvramFault
from hcall_abi.levels import FW1110
from hcall_abi.rules import service, storage
from hcall_abi.rules.catalogue import RULES
from hcall_server.keystore.access import Credentials
from hcall_server.platform import power
from tests.control_channel.rig import flushed, in_process, make_machine


@pytest.fixture
def machine():
    return make_machine()


@pytest.fixture
async def client(machine):
    async with in_process(machine) as client:
        yield client


async def refused(call, status=409):
    """Return the problem of a refused call; check that it has all fields."""
    answer = await call
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:swpks:problem:")
    assert problem["detail"]
    rule = RULES[problem["rule_id"]]
    assert (problem["rule"], problem["section"], problem.get("code")) == (rule.sentence, rule.page, rule.code)
    assert problem["section"].startswith("spec/control.md#")
    return problem


def set_size(client, name, kbytes):
    """Request another size of a keystore."""
    return client.patch(f"/v1/partitions/{name}/attributes", json={"keystore_kbytes": kbytes})


def put_object(machine, name):
    """Put an object of the operating system in a partition's keystore."""
    machine.system.find(name).keystore.objects.write(
        Credentials(Consumer.OPERATING_SYSTEM, b""), b"label", 0, b"data"
    )


async def test_a_new_partition_has_no_keystore(machine, client) -> None:
    """R-30, R-35: The keystore of a new partition is off, so a guest can reach no object."""
    answer = await client.post("/v1/partitions", json={"name": "lpar1"})
    assert answer.status_code == 201
    assert answer.json() == {
        "number": 1,
        "name": "lpar1",
        "uuid": str(machine.system.find("lpar1").profile.uuid),
        "power": "off",
        "custody": "own",
        "mode": "serving",
        "address": "",
        "ipl_count": 0,
        "restores": 0,
        "generation": 0,
        "auto_start": True,
        "secure_boot": "off",
        "curr_secure_boot": "off",
        "keystore_kbytes": 0,
        "keystore_signed_updates": 0,
        "keystore_signed_updates_without_verification": 0,
        "linux_dynamic_key_secure_boot": 0,
        "simplified_remote_restart_capable": 1,
        "keystore": None,
        "copy": None,
        "refused": None,
        "faults": [],
    }
    assert await flushed(machine) == {1}


async def test_a_view_names_the_consumers_with_a_password(machine, client) -> None:
    """R-84: `passwords` of a keystore names each consumer whose password is set, and has no password."""
    await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8, "auto_start": True})
    assert (await client.get("/v1/partitions/a")).json()["keystore"]["passwords"] == []
    for consumer in (Consumer.OPERATING_SYSTEM, Consumer.BOOT_LOADER):
        machine.system.find("a").keystore.access.passwords.set(consumer, b"secret")
    answer = await client.get("/v1/partitions/a")
    assert set(answer.json()["keystore"]["passwords"]) == {"boot-loader", "os"}
    assert "secret" not in answer.text


async def test_a_keystore_is_enabled_at_creation_or_later(client) -> None:
    """R-30: A keystore that is enabled at creation equals one that is enabled later."""
    first = await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8, "auto_start": False})
    await client.post("/v1/partitions", json={"name": "b"})
    later = await set_size(client, "b", 8)
    assert first.json()["keystore"] == later.json()["keystore"]
    assert later.json()["keystore"]["total_bytes"] == 8192
    assert first.json()["auto_start"] is False


@pytest.mark.parametrize("kbytes", [1, 3, 65, 128, 0xFFFF])
async def test_sizes_out_of_range_are_refused(client, kbytes) -> None:
    """R-31: 4 to 64 KiB on FW950; any other size is refused with a reason."""
    problem = await refused(client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": kbytes}))
    assert problem["rule_id"] == "size.range"
    assert "0, or 4 to 64 KiB on FW950" in problem["detail"]
    assert problem["fault"] == "operator"
    assert problem["section"] == "spec/control.md#sizes"
    assert (await client.get("/v1/system")).json()["partitions"] == []


@pytest.mark.parametrize("kbytes,status", [(128, 201), (129, 409)])
async def test_power11_has_larger_keystores(kbytes, status) -> None:
    """R-31: On Power11 a keystore may have 128 KiB."""
    async with in_process(make_machine(FW1110)) as client:
        answer = await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": kbytes})
        assert answer.status_code == status


async def test_growing_waits_for_power_off(client) -> None:
    """R-32: a keystore grows only while the partition is powered off."""
    await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8})
    await client.post("/v1/partitions/a/power-on")
    problem = await refused(set_size(client, "a", 16))
    assert "powered off" in problem["rule"]
    await client.post("/v1/partitions/a/power-off")
    answer = await set_size(client, "a", 16)
    assert answer.json()["keystore_kbytes"] == 16


@pytest.mark.parametrize("running", [False, True])
async def test_shrinking_is_refused(client, running) -> None:
    """R-32: a keystore never shrinks."""
    await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8})
    if running:
        await client.post("/v1/partitions/a/power-on")
    problem = await refused(set_size(client, "a", 4))
    assert "never shrinks" in problem["rule"]


@pytest.mark.parametrize("running", [False, True])
async def test_a_keystore_in_use_is_not_disabled(machine, client, running) -> None:
    """R-33: size 0 is refused while any object exists, with the console's own message number."""
    await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8})
    if running:
        await client.post("/v1/partitions/a/power-on")
    put_object(machine, "a")
    problem = await refused(set_size(client, "a", 0))
    assert problem["code"] == "HSCL0DC8"
    assert (await client.get("/v1/partitions/a")).json()["keystore"]["objects"] == 1


async def test_disabling_while_running_and_enabling_again(client) -> None:
    """R-33: an empty keystore can be disabled while running. To enable it again needs power-off."""
    await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8})
    await client.post("/v1/partitions/a/power-on")
    assert (await set_size(client, "a", 0)).json()["keystore"] is None
    await refused(set_size(client, "a", 8))
    await client.post("/v1/partitions/a/power-off")
    assert (await set_size(client, "a", 4)).json()["keystore_kbytes"] == 4


async def test_the_system_total_is_kept() -> None:
    """R-34: the sum of the sizes stays within the system's PKS total, at creation and at growth."""
    async with in_process(make_machine(total_kbytes=20)) as client:
        await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 16})
        problem = await refused(client.post("/v1/partitions", json={"name": "b", "keystore_kbytes": 5}))
        assert "total" in problem["rule"]
        await client.post("/v1/partitions", json={"name": "b", "keystore_kbytes": 4})
        await refused(set_size(client, "b", 5))
        system = (await client.get("/v1/system")).json()
        assert (system["total_kbytes"], system["assigned_kbytes"]) == (20, 20)


async def test_the_total_of_fw950(machine) -> None:
    """R-34: On FW950, all keystores of a system have 1 MiB together. The settings may set another total."""
    async with in_process(machine) as client:
        assert (await client.get("/v1/system")).json()["total_kbytes"] == 1024


async def test_the_same_size_again_changes_nothing(client) -> None:
    """A script may set the present size again, also while the partition runs."""
    await client.post("/v1/partitions", json={"name": "a", "keystore_kbytes": 8})
    await client.post("/v1/partitions/a/power-on")
    assert (await set_size(client, "a", 8)).status_code == 200


async def test_power_and_ipl(client) -> None:
    """Power-on is an IPL, and so is a restart. A verb that does not fit the power state is refused."""
    await client.post("/v1/partitions", json={"name": "a"})
    await refused(client.post("/v1/partitions/a/ipl"))
    await refused(client.post("/v1/partitions/a/power-off"))
    assert (await client.post("/v1/partitions/a/power-on")).json()["ipl_count"] == 1
    problem = await refused(client.post("/v1/partitions/a/power-on"))
    assert problem["section"] == "spec/control.md#power"
    assert (await client.post("/v1/partitions/a/ipl")).json()["ipl_count"] == 2
    assert (await client.post("/v1/partitions/a/power-off")).json()["power"] == "off"


async def test_secure_boot_takes_effect_at_the_next_ipl(client) -> None:
    """The view has both: the mode for the next IPL, and that of the running IPL."""
    await client.post("/v1/partitions", json={"name": "a"})
    await client.post("/v1/partitions/a/power-on")
    shown = (await client.patch("/v1/partitions/a/attributes", json={"secure_boot": 2})).json()
    assert (shown["secure_boot"], shown["curr_secure_boot"]) == ("enforce", "off")
    shown = (await client.post("/v1/partitions/a/ipl")).json()
    assert (shown["secure_boot"], shown["curr_secure_boot"]) == ("enforce", "enforce")


@pytest.mark.parametrize("name", ["", "a/b", "-a", "control", "tcp", "a" * 32, "ä", "a b", "..", "a" * 300])
async def test_names_that_are_none(client, name) -> None:
    """A name that can't be the name of a socket, such as one with a path, is refused."""
    answer = await client.post("/v1/partitions", json={"name": name})
    assert answer.status_code in {400, 409}
    assert answer.json()["rule"]


async def test_a_name_is_given_once(client) -> None:
    """Two partitions never have the same name."""
    await client.post("/v1/partitions", json={"name": "a"})
    problem = await refused(client.post("/v1/partitions", json={"name": "a"}))
    assert problem["section"] == "spec/control.md#names"


async def test_health_of_a_sound_machine(machine, client) -> None:
    """Health of a sound machine is 200 without reasons."""
    await client.post("/v1/partitions", json={"name": "a"})
    await client.post("/v1/partitions/a/power-on")
    await flushed(machine)
    answer = await client.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert (health["ok"], health["reasons"], health["partitions"], health["running"]) == (True, [], 1, 1)
    assert (health["writeback"]["state"], health["writeback"]["commits"]) == ("idle", 1)


async def test_health_tells_what_is_wrong(machine, client) -> None:
    """Health is 503 with a reason for NVRAM and for each partition whose store is refused."""
    machine.set_nvram_fault(NvramFault("full"))
    machine.encryptor.system_changed(machine.system)
    assert not await machine.encryptor.flush()
    partition = machine.system.create("a", 8)
    reason = StorageError(storage.IMAGE_LENGTHS, "its image is damaged")
    machine.system.adopt(partition.profile, state=power.refused(reason))
    answer = await client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == [
        "NVRAM (retrying): NVRAM: full (a planned fault)",
        "partition a: its image is damaged",
    ]
    shown = (await client.get("/v1/partitions/a")).json()
    assert shown["refused"] == {
        "detail": "its image is damaged",
        "rule_id": "image.lengths",
        "rule": storage.IMAGE_LENGTHS.sentence,
        "section": storage.IMAGE_LENGTHS.page,
    }
    assert (await client.post("/v1/partitions/a/power-on")).status_code == 409


async def test_metrics(machine, client) -> None:
    """Each metric has its labels. Unknown h-calls and unknown reasons are counted under the label OTHER."""
    partition = machine.system.create("a", 8)
    machine.power_on("a")
    put_object(machine, "a")
    machine.counters.calls[1][0x41C, 0] += 1
    machine.counters.calls[1][0xDEAD, -2] += 1
    machine.counters.calls[1][0xBEEF, -2] += 1
    machine.counters.opens[0] += 1
    machine.counters.goodbyes[98] += 1
    machine.counters.goodbyes[99] += 1
    await flushed(machine)
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = set(answer.text.splitlines())
    assert len(lines) == len(answer.text.splitlines())
    used = float(partition.keystore.contents.used)
    assert {
        'swpks_hcalls_total{hcall="GET_CONFIG",partition="a",status="H_SUCCESS"} 1.0',
        'swpks_hcalls_total{hcall="OTHER",partition="a",status="H_FUNCTION"} 2.0',
        'swpks_opens_total{status="OPENED"} 1.0',
        'swpks_goodbyes_total{reason="OTHER"} 2.0',
        'swpks_partition_running{partition="a"} 1.0',
        'swpks_partition_ipls{partition="a"} 1.0',
        'swpks_keystore_bytes{partition="a"} 8192.0',
        f'swpks_keystore_used_bytes{{partition="a"}} {used}',
        'swpks_keystore_objects{partition="a"} 1.0',
        "swpks_nvram_ok 1.0",
        "swpks_nvram_commits_total 1.0",
    } <= lines
    assert "label" not in answer.text


SIGNED_UPDATES = {
    "keystore_signed_updates": 1,
    "keystore_signed_updates_without_verification": 1,
    "linux_dynamic_key_secure_boot": 1,
}


async def test_attributes_are_set_together_and_shown() -> None:
    """R-36: Attributes are set by the console's names and numbers, all or none, and become durable."""
    machine = make_machine(FW1110)
    async with in_process(machine) as client:
        await client.post("/v1/partitions", json={"name": "lpar1"})
        await flushed(machine)
        wish = SIGNED_UPDATES | {"keystore_kbytes": 64, "secure_boot": 2}
        shown = (await client.patch("/v1/partitions/lpar1/attributes", json=wish)).json()
        assert {name: shown[name] for name in wish} == wish | {"secure_boot": "enforce"}
        assert await flushed(machine) == {1}
        less = {"linux_dynamic_key_secure_boot": 0}
        shown = (await client.patch("/v1/partitions/lpar1/attributes", json=less)).json()
        assert {name: shown[name] for name in SIGNED_UPDATES} == SIGNED_UPDATES | less
        wrong = {"linux_dynamic_key_secure_boot": 1, "keystore_signed_updates": 0}
        problem = await refused(client.patch("/v1/partitions/lpar1/attributes", json=wrong))
        assert problem["section"] == "spec/control.md#attributes"
        assert (await client.get("/v1/partitions/lpar1")).json() == shown


async def test_attributes_of_a_running_partition_are_refused() -> None:
    """R-36: Attributes of a running partition can't be changed, so the latch can't be armed either."""
    machine = make_machine(FW1110)
    async with in_process(machine) as client:
        await client.post("/v1/partitions", json={"name": "lpar1", "keystore_kbytes": 8})
        await client.post("/v1/partitions/lpar1/power-on")
        problem = await refused(client.patch("/v1/partitions/lpar1/attributes", json=SIGNED_UPDATES))
        assert "powered off" in problem["rule"]
        assert (await client.patch("/v1/partitions/lpar1/attributes", json={})).json()["power"] == "running"


@pytest.mark.parametrize(
    "wrong",
    [
        {"keystore": 1},
        {"secure_boot": 3},
        {"secure_boot": "off"},
        {"keystore_signed_updates": True},
        {"x": 0},
    ],
)
async def test_attributes_have_their_types(client, wrong) -> None:
    """R-36: An attribute is a number as at the console. Another type is refused."""
    await client.post("/v1/partitions", json={"name": "lpar1"})
    await refused(client.patch("/v1/partitions/lpar1/attributes", json=wrong), 400)


async def test_a_power_on_that_fails_is_no_ipl(machine, client) -> None:
    """R-30: if the partition's socket can't be made, the state is unchanged, and no IPL happened."""

    class Shut:
        """A transport that can make no socket."""

        def open(self, partition) -> None:
            raise OperatorError(service.SOCKET_FOLDER, "no room for a socket")

    await client.post("/v1/partitions", json={"name": "lpar1", "keystore_kbytes": 8})
    await client.patch("/v1/partitions/lpar1/attributes", json={"secure_boot": 2})
    before = (await client.get("/v1/partitions/lpar1")).json()
    machine.transport = Shut()
    answer = await client.post("/v1/partitions/lpar1/power-on")
    assert (answer.status_code, answer.json()["section"]) == (409, "spec/service.md#sockets")
    assert (await client.get("/v1/partitions/lpar1")).json() == before


async def test_a_key_is_rotated_durably_or_not_at_all(machine, client) -> None:
    """R-23: the answer comes when the new key is durable. If NVRAM refuses, the old key stays valid."""
    await client.post("/v1/partitions", json={"name": "a"})
    first = machine.system.find("a").access_key
    machine.set_nvram_fault(NvramFault("full"))
    answer = await client.post("/v1/partitions/a/rotate-key")
    assert (answer.status_code, answer.json()["rule_id"]) == (503, "access-key.stored")
    assert machine.system.find("a").access_key == first
    assert await machine.encryptor.flush()
    answer = await client.post("/v1/partitions/a/rotate-key")
    second = machine.system.find("a").access_key
    assert answer.status_code == 200
    assert second != first
    assert second.hex() not in answer.text
    assert not machine.encryptor.pending
    assert (await client.post("/v1/partitions/nobody/rotate-key")).status_code == 404
