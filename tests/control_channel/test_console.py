"""The console of a system: attach, detach, stored copies, forgotten UUIDs, and questions to the console."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import trio

from hcall_abi.control_views import EventView, HealthView, PartitionView, SystemView
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.faults import NvramFault
from hcall_server.machine.attachment import AGAIN_SECONDS
from hcall_server.machine.events import Watcher
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.names import CONSOLE as RECORD
from hcall_server.platform.system_state import SystemState
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from swpks.cli import hmc_output
from swpks.testing.seams import simulated_seams
from tests.control_channel.rig import in_process
from tests.control_channel.streams import CONSOLE, ID, OTHER, OTHER_ID
from tests.rules.breaking import logged

DATE = 1_795_000_000.5


@pytest.fixture
def machine() -> Machine:
    """A machine with a partition. Each reading of its calendar is a second later."""
    seconds = itertools.count(int(time.time()))
    seams = simulated_seams()._replace(date=lambda: float(next(seconds)))
    machine = assemble(seams, Settings())
    machine.changes.create("a", 8)
    return machine


@pytest.fixture
async def client(machine: Machine) -> Any:
    async with in_process(machine) as client:
        yield client


async def attach(client: httpx.AsyncClient, console: dict[str, str] = CONSOLE) -> httpx.Response:
    return await client.put("/v1/console", json=console)


async def keep(client: httpx.AsyncClient, name: str = "a", **changes: Any) -> httpx.Response:
    """Make a copy and report that the console has it."""
    copy = (await client.get(f"/v1/partitions/{name}/copy")).json()
    facts = {field: copy[field] for field in ("uuid", "restores", "generation", "time")}
    return await client.put(f"/v1/partitions/{name}/copy", json=facts | changes)


class Asked:
    """Shows which questions the system asks its attached console.

    The events come from the watcher of the machine, without HTTP. `look` makes the system check once whether
    it has to ask, and returns the questions.
    """

    def __init__(self, machine: Machine, watcher: Watcher) -> None:
        self.machine = machine
        self.watcher = watcher

    def look(self) -> list[tuple[str, str]]:
        self.machine.attachment.look()
        return [question(event) for event in self.watcher.take() if event.kind not in ("hello", "changed")]


def question(event: EventView) -> tuple[str, str]:
    return event.kind, event.partition or event.uuid


@pytest.fixture
async def asked(machine: Machine) -> Any:
    """The stream of the attached console."""
    await machine.attachment.attach(bytes.fromhex(ID), "hmc1")
    with machine.attachment.stream(ID) as watcher:
        yield Asked(machine, watcher)


def durable_machine() -> tuple[Machine, Callable[[], Machine]]:
    """Return a machine, and a function that makes the machine that starts after a power cut."""
    seams = simulated_seams()._replace(date=lambda: DATE)
    return assemble(seams, Settings()), lambda: assemble(seams, Settings())


async def test_attach_is_durable_and_may_be_repeated() -> None:
    """The id is in NVRAM before the answer. A system without a record has no console."""
    machine, again = durable_machine()
    assert again().attachment.link is None
    async with in_process(machine) as client:
        for _ in range(2):
            answer = await attach(client)
            assert answer.status_code == 200
            assert answer.json()["console"] == {**CONSOLE, "connected": False, "since": int(DATE)}
    link = again().attachment.link
    assert link is not None
    assert (link.id, link.name, link.connected, link.since) == (ID, "hmc1", False, DATE)


async def test_a_console_may_change_its_name(machine, client) -> None:
    """The id identifies the console. A name with control characters is refused."""
    await attach(client)
    await keep(client)
    answer = await attach(client, {"id": ID, "name": "another name"})
    assert answer.json()["console"]["name"] == "another name"
    assert answer.json()["partitions"][0]["copy"] is not None
    refused = await attach(client, {"id": ID, "name": "\x1b[2J"})
    assert (refused.status_code, refused.json()["rule_id"]) == (400, "request.form")


async def test_another_console_takes_over_only_from_one_that_is_away(machine, client) -> None:
    """A lost console is replaced, and all copies are requested again. A connected console is not replaced."""
    await attach(client)
    await keep(client)
    with machine.attachment.stream(ID):
        refused = await attach(client, OTHER)
        assert (refused.status_code, refused.json()["rule_id"]) == (409, "console.attached")
    with logged("console.replaced") as lines:
        answer = await attach(client, OTHER)
    assert answer.json()["console"]["id"] == OTHER_ID
    assert answer.json()["partitions"][0]["copy"] is None
    assert [(line["console"], line["before"]) for line in lines] == [("hmc2", "hmc1")]
    with pytest.raises(OperatorError), machine.attachment.stream(ID):
        pass


async def test_detach(machine, client) -> None:
    """The detach of another console is refused.

    A detach ends the stream, and a second one changes nothing.
    """
    machine, again = durable_machine()
    async with in_process(machine) as client:
        await attach(client)
        refused = await client.post("/v1/console/detach", json=OTHER)
        assert (refused.status_code, refused.json()["rule_id"]) == (409, "console.known")
        with machine.attachment.stream(ID) as watcher:
            for _ in range(2):
                answer = await client.post("/v1/console/detach", json=CONSOLE)
                assert (answer.status_code, answer.json()["console"]) == (200, None)
            assert watcher.ended
        assert machine.attachment.link is None
        memory = machine.nvram.inner
        assert isinstance(memory, MemoryNvram)
        assert RECORD not in memory.records
        assert again().attachment.link is None
        refused = await client.post("/v1/copies/forgotten", json={"uuids": []})
        assert refused.json()["rule_id"] == "console.known"


async def test_events_of_the_log(machine, client) -> None:
    """Attach, connect, disconnect and detach each write a log line with the console's name and id."""
    steps = ("attached", "connected", "left", "detached")
    seen = []
    for step in steps:
        with logged(f"console.{step}") as lines:
            await attach(client)
            with machine.attachment.stream(ID):
                pass
            await client.post("/v1/console/detach", json=CONSOLE)
        seen += [(line["event"], line["console"], line["id"]) for line in lines]
    assert seen == [(f"console.{step}", "hmc1", ID) for step in steps]
    await attach(client)
    with logged("copy.kept") as lines:
        await keep(client)
    assert [(line["partition"], line["generation"]) for line in lines] == [("a", 0)]


async def test_a_kept_copy_is_shown_on_every_surface(machine, client) -> None:
    """The views of system, partition and health, the metrics and the command show the console's copy."""
    await attach(client)
    kept = (await keep(client)).json()["copy"]
    assert kept == {"restores": 0, "generation": 0, "time": kept["time"]}
    lines = (await client.get("/metrics")).text.splitlines()
    assert "swpks_console_connected 0.0" in lines
    assert any(line.startswith('swpks_partition_copy_age_seconds{partition="a"} ') for line in lines)
    system = msgspec.json.decode((await client.get("/v1/system")).content, type=SystemView)
    text = hmc_output.system(system)
    assert f"console hmc1 ({ID}), away since 20" in text
    head, row = text.splitlines()[-2:]
    assert head.endswith("  COPY")
    assert row.endswith(" s")
    health = msgspec.json.decode((await client.get("/health")).content, type=HealthView)
    assert health.ok
    assert f"console hmc1 ({ID}), away since 20" in hmc_output.health(health)
    partition = msgspec.json.decode((await client.get("/v1/partitions/a")).content, type=PartitionView)
    assert "copy on the console: generation 0, " in hmc_output.partition(partition)


@pytest.mark.parametrize(
    "seconds,text",
    [(-5, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"),
     (172_799, "47 h"), (172_800, "2 d"), (1e8, "1157 d")],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    """An age is shown in its largest whole unit."""
    assert hmc_output.age(seconds) == text


async def test_no_console_is_shown_where_there_is_none(machine, client) -> None:
    """Without an attached console, the output of the command is the same as in earlier releases."""
    lines = (await client.get("/metrics")).text
    assert "swpks_console_connected " not in [line.split(" ")[0] for line in lines.splitlines()]
    system = msgspec.json.decode((await client.get("/v1/system")).content, type=SystemView)
    assert "console" not in hmc_output.system(system)
    assert "COPY" not in hmc_output.system(system)


async def test_a_copy_that_is_none_of_this_store_is_refused(machine, client) -> None:
    """A report about a copy is refused if this system never had a store in that state."""
    await attach(client)
    for changes in {"uuid": str(UUID(int=1))}, {"generation": 1}, {"restores": 1}:
        refused = await keep(client, **changes)
        assert (refused.status_code, refused.json()["rule_id"]) == (409, "console.copy")
    for changes in {"time": 1 << 63}, {"generation": -1}, {"uuid": "x"}:
        assert (await keep(client, **changes)).status_code == 400
    assert machine.attachment.kept(machine.system.find("a").profile.uuid) is None


async def test_an_older_copy_never_takes_the_place_of_a_newer_one(machine, client) -> None:
    """A late report about an older copy changes nothing and is no error."""
    await attach(client)
    machine.system.find("a").keystore.contents.touch()
    newer = (await keep(client)).json()["copy"]
    answer = await keep(client, generation=0)
    assert (answer.status_code, answer.json()["copy"]) == (200, newer)


async def test_a_look_asks_for_what_the_console_does_not_hold(machine, client, asked) -> None:
    """The system first asks for all copies, later for those whose contents, attributes or name changed.

    An IPL makes no copy old.
    """
    machine.changes.create("off")
    assert asked.look() == [("take-copy", "a"), ("take-copy", "off")]
    await keep(client)
    await keep(client, "off")
    assert asked.look() == []
    machine.power_on("a")
    machine.ipl("a")
    assert asked.look() == []
    machine.system.find("a").keystore.contents.touch()
    machine.set_attributes("off", {"secure_boot": 1})
    assert asked.look() == [("take-copy", "a"), ("take-copy", "off")]
    await keep(client)
    await keep(client, "off")
    assert asked.look() == []


@pytest.mark.parametrize("operation", ["change", "restore"])
async def test_another_trusted_system_key_makes_copies_old(machine, client, asked, operation) -> None:
    """R-44, R-53: If the key is changed or restored, the system requests all copies at once.

    The new key opens no earlier copy. If the operator sets the same key again, the system requests no copy.
    """
    await keep(client)
    key = {"operation": operation, "key": base64.b64encode(bytes(range(32))).decode()}
    # The second request sets the same key again and changes nothing.
    for questions in ([("take-copy", "a")], []):
        await client.put("/v1/trusted-key", json=key)
        events = [question(event) for event in asked.watcher.take() if event.kind == "take-copy"]
        assert (events, asked.look()) == (questions, [])
        await keep(client)


async def test_a_question_is_asked_again_after_a_while(machine, asked, autojump_clock) -> None:
    """The system repeats a question only after AGAIN_SECONDS, so a busy console is not asked all the time."""
    assert asked.look() == [("take-copy", "a")]
    assert asked.look() == []
    await trio.sleep(AGAIN_SECONDS)
    assert asked.look() == [("take-copy", "a")]
    assert asked.look() == []


async def test_two_copies_of_one_second_are_not_mixed_up(machine, client, asked) -> None:
    """If a store changed twice in one second, the system can't know which copy exists, so it asks."""
    first = (await client.get("/v1/partitions/a/copy")).json()
    facts = {field: first[field] for field in ("uuid", "restores", "generation", "time")}
    machine.set_attributes("a", {"secure_boot": 1})
    machine.attachment.made(machine.system.find("a").profile, first["time"])
    await client.put("/v1/partitions/a/copy", json=facts)
    assert asked.look() == [("take-copy", "a")]


async def test_no_copy_is_asked_for_that_can_not_be_made(machine, asked) -> None:
    """The system asks for no copy of a partition without a keystore."""
    machine.set_attributes("a", {"keystore_kbytes": 0})
    assert asked.look() == []


async def test_a_deleted_partition_is_forgotten_once(machine, client, asked) -> None:
    """After a durable deletion the system asks the console to forget the copies.

    It repeats this until an answer.
    """
    await keep(client)
    uuid = machine.system.find("a").profile.uuid
    await machine.changes.delete("a")
    asks = [question(event) for event in asked.watcher.take() if event.kind == "forget-copies"]
    assert asks == [("forget-copies", str(uuid))]
    with machine.attachment.stream(ID) as newer:
        assert Asked(machine, newer).look() == [("forget-copies", str(uuid))]
        answer = await client.post("/v1/copies/forgotten", json={"uuids": [str(uuid)]})
        assert answer.status_code == 200
    with machine.attachment.stream(ID) as newest:
        assert Asked(machine, newest).look() == []


async def test_no_copies_are_forgotten_before_the_deletion_is_durable(machine, client, asked) -> None:
    """Copies are forgotten only after the deletion is durable: a power cut could bring the partition back."""
    await keep(client)
    machine.set_nvram_fault(NvramFault("full"))
    with pytest.raises(StorageError):
        await machine.changes.delete("a")
    assert asked.look() == []
    machine.set_nvram_fault(None)
    assert await machine.encryptor.flush()
    assert [kind for kind, _ in asked.look()] == ["forget-copies"]


async def test_in_reset_pending_no_console_attaches(machine, client) -> None:
    """In the state Reset pending no console can attach."""
    machine.system.state = SystemState.RESET_PENDING
    refused = await attach(client)
    assert (refused.status_code, refused.json()["rule_id"]) == (409, "system.operating")


async def test_numbers_grow_and_a_newer_event_takes_the_place_of_an_older(machine) -> None:
    """For a reader that does not read, only the newest event of each kind and partition is stored.

    The numbers of events always grow.
    """
    with machine.events.opened(is_console=False) as watcher:
        for _ in range(100):
            machine.set_attributes("a", {"secure_boot": 1})
            machine.notify_watchers()
        events = watcher.take()
    assert [(each.kind, each.partition) for each in events] == [
        ("hello", ""),
        ("changed", "a"),
        ("changed", ""),
    ]
    numbers = [each.number for each in events]
    assert numbers == sorted(numbers)
    assert numbers[-1] > 200


def test_what_the_attachment_shows_of_itself(machine) -> None:
    """The text of a reader, of all readers and of the attachment shows only names and counts."""
    with machine.events.opened(is_console=False) as watcher:
        assert repr(watcher) == "Watcher(spectator, 1 events wait)"
        assert "1 events wait" in repr(machine.events)
    assert repr(machine.attachment) == "Attachment(None)"
