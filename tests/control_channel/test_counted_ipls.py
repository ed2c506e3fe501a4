"""An IPL begins after its count is durable, so each number names at most one IPL (R-04, R-21)."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import httpx
import pytest
import trio
import trio.testing

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.faults import NvramFault
from hcall_abi.rules import service
from hcall_server.components.memory import MemoryCard
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.machine import Machine
from hcall_server.machine.patience import PATIENCE
from hcall_server.machine.sessions import Link
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.partition import Partition
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.worker import Job
from swpks.testing.seams import simulated_seams
from tests.control_channel.rig import in_process
from tests.guest import Chance
from tests.rules.breaking import logged
from tests.writeback.workers import TaskWorker

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8), PartitionSettings.of("b", 8, auto_start=False)))


class HeldWorker(TaskWorker):
    """A worker whose commits wait while `gate` is not set."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()

    async def run(self, job: Job) -> None:
        await self.gate.wait()
        await super().run(job)

    def hold(self) -> None:
        self.gate = trio.Event()


class System:
    """A managed system; only NVRAM and the anchor card outlive a power cut."""

    def __init__(self) -> None:
        self.nvram, self.card = MemoryNvram(), MemoryCard()
        self.worker = HeldWorker()
        self.machine = self.boot()

    def boot(self) -> Machine:
        """Return a new machine over the durable records, as after a power cut; nothing is activated yet."""
        self.worker = HeldWorker()
        seams = simulated_seams(nvram=self.nvram, card=self.card, worker=self.worker, entropy=Chance())
        self.machine = assemble(seams, SETTINGS)
        return self.machine

    def durable(self, name: str = "a") -> int:
        """Return the IPL count after a power cut at this moment."""
        seams = simulated_seams(nvram=deepcopy(self.nvram), card=self.card, entropy=Chance())
        return assemble(seams, Settings()).system.find(name).ipl_count

    def session(self, name: str = "a") -> Link:
        """Open a session of a partition."""
        link = Link(0.0, lambda: None)
        self.machine.open_session(link, self.machine.system.find(name), link.on_refusal)
        return link


@pytest.fixture
async def system() -> System:
    """A system whose partition a runs in its first IPL, and b is off; all is durable."""
    made = System()
    await made.machine.counted_start()
    assert await made.machine.encryptor.flush()
    return made


async def verb(system: System, name: str, action: str) -> httpx.Response:
    """Send a request of the console for a change of power."""
    async with in_process(system.machine) as client:
        return await client.post(f"/v1/partitions/{name}/{action}")


@pytest.mark.parametrize("name,action,number", [("a", "ipl", 2), ("b", "power-on", 1)])
async def test_the_answered_number_is_durable(system: System, name: str, action: str, number: int) -> None:
    """A power cut right after the answer does not lose the number. An IPL needs one commit only."""
    commits = system.nvram.commits
    answer = await verb(system, name, action)
    assert (answer.status_code, answer.json()["ipl_count"], system.durable(name)) == (200, number, number)
    assert not system.machine.encryptor.pending
    assert system.nvram.commits == commits + 1
    assert system.boot().power_on(name).ipl_count == number + 1


async def test_nothing_happens_before_the_number_is_durable(system: System, nursery: trio.Nursery) -> None:
    """The old IPL keeps its sessions and its number until the commit has returned."""
    link = system.session()
    system.worker.hold()
    nursery.start_soon(verb, system, "a", "ipl")
    await trio.testing.wait_all_tasks_blocked()
    partition = system.machine.system.find("a")
    assert (partition.running, partition.ipl_count, link.ending) == (True, 1, None)
    system.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert link.ending is not None
    assert (link.ending.reason, partition.ipl_count, system.durable()) == (2, 2, 2)


@pytest.mark.parametrize("name,action", [("a", "ipl"), ("b", "power-on")])
async def test_nvram_that_refuses(system: System, name: str, action: str) -> None:
    """R-23: If NVRAM refuses, the answer is a problem with the rule and NVRAM's own reason.

    No IPL happens; a number may be skipped.
    """
    link = system.session()
    before = (await verb(system, name, "power-on")).json() if action == "ipl" else None
    shown = system.machine.system.find(name).running, system.machine.system.find(name).ipl_count
    system.machine.set_nvram_fault(NvramFault("full"))
    answer = await verb(system, name, action)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (503, "urn:swpks:problem:storage")
    assert (problem["rule_id"], problem["fault"]) == ("power.counted", "storage")
    assert "NVRAM: full" in problem["detail"]
    assert link.ending is None
    partition = system.machine.system.find(name)
    assert (partition.running, partition.ipl_count) == shown
    assert before is None or before["status"] == 409
    answer = await verb(system, name, action)
    assert answer.json()["ipl_count"] == partition.ipl_count == system.durable(name) > shown[1]


async def test_nvram_that_does_not_answer(system: System, autojump_clock: trio.abc.Clock) -> None:
    """R-23: the verb waits for some seconds, then reports the problem. The number may be skipped."""
    system.worker.hold()
    start = trio.current_time()
    answer = await verb(system, "a", "ipl")
    assert trio.current_time() - start == pytest.approx(PATIENCE)
    assert (answer.status_code, answer.json()["rule_id"]) == (503, "power.counted")
    assert f"within {PATIENCE:g} seconds" in answer.json()["detail"]
    assert system.machine.system.find("a").ipl_count == 1
    system.worker.gate.set()
    assert (await verb(system, "a", "ipl")).json()["ipl_count"] == system.durable() == 2


async def test_two_ipls_at_once_have_two_numbers(system: System, nursery: trio.Nursery) -> None:
    """Each number is durable before its answer; the second IPL waits for the first."""
    answered: list[tuple[int, int]] = []

    async def ipl() -> None:
        partition = await system.machine.counted_ipl("a")
        answered.append((partition.ipl_count, system.durable()))

    system.worker.hold()
    for _ in range(3):
        nursery.start_soon(ipl)
    await trio.testing.wait_all_tasks_blocked()
    system.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert answered == [(2, 2), (3, 3), (4, 4)]


@pytest.mark.parametrize(
    "name,first,meanwhile,rule",
    [("a", "ipl", "power-off", "power.running"), ("b", "power-on", "power-on", "power.stopped")],
)
async def test_power_that_changed_meanwhile(
    system: System, nursery: trio.Nursery, name: str, first: str, meanwhile: str, rule: str
) -> None:
    """If another verb changes the power during the wait, one of the two verbs is refused with its rule."""
    answers: dict[str, list[httpx.Response]] = {"first": [], "meanwhile": []}

    async def ask(key: str, action: str) -> None:
        answers[key].append(await verb(system, name, action))

    system.worker.hold()
    nursery.start_soon(ask, "first", first)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(ask, "meanwhile", meanwhile)
    await trio.testing.wait_all_tasks_blocked()
    system.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    both = [*answers["first"], *answers["meanwhile"]]
    assert sorted(answer.status_code for answer in both) == [200, 409]
    (refused,) = [answer.json() for answer in both if answer.status_code == 409]
    assert refused["rule_id"] == rule


async def test_what_the_power_table_refuses_costs_no_commit(system: System) -> None:
    """A verb that the power table forbids is refused at once, also while NVRAM does not answer."""
    system.worker.hold()
    for name, action in (("a", "power-on"), ("b", "ipl")):
        assert (await verb(system, name, action)).status_code == 409
    assert not system.machine.encryptor.pending


# The start


async def test_a_start_waits_for_its_numbers(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    """R-23: While NVRAM refuses, the partition stays off, and health has the reason.

    Later it starts by itself.
    """
    system = System()
    machine = system.machine
    machine.set_nvram_fault(NvramFault("io", times=3))
    await nursery.start(machine.encryptor.run)
    nursery.start_soon(machine.counted_start)
    await trio.testing.wait_all_tasks_blocked()
    partition = machine.system.find("a")
    async with in_process(machine) as client:
        health = (await client.get("/health")).json()
    assert (health["running"], partition.running, machine.waiting) == (0, False, [partition])
    assert "partition a: it starts as soon as NVRAM has stored its IPL count" in health["reasons"]
    await trio.sleep(10)
    assert (partition.running, partition.ipl_count, system.durable(), machine.waiting) == (True, 1, 1, [])
    assert not machine.system.find("b").running


async def test_a_start_that_was_given_up_goes_on_later(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    """If NVRAM does not answer for a second, the server is ready without the partition. It starts later."""
    system = System()
    machine = system.machine
    await nursery.start(machine.encryptor.run)
    system.worker.hold()
    with trio.move_on_after(1):
        await machine.counted_start()
    nursery.start_soon(machine.start_waiting)
    await trio.sleep(10)
    partition = machine.system.find("a")
    assert not partition.running
    system.worker.gate.set()
    await trio.sleep(1)
    assert (partition.running, partition.ipl_count, system.durable()) == (True, 1, 1)


@pytest.mark.parametrize("console_first", [False, True])
async def test_the_console_starts_a_partition_that_waits(nursery: trio.Nursery, console_first: bool) -> None:
    """If a waiting start and the console start a partition, one IPL happens. After power-off it stays off."""
    system = System()
    machine = system.machine
    answers: list[httpx.Response] = []

    async def power_on() -> None:
        answers.append(await verb(system, "a", "power-on"))

    system.worker.hold()
    for task in (power_on, machine.counted_start) if console_first else (machine.counted_start, power_on):
        nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
    system.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    partition = machine.system.find("a")
    assert (partition.running, partition.ipl_count, machine.waiting) == (True, 1, [])
    assert [answer.status_code for answer in answers] == [200]
    machine.power_off("a")
    await machine.start_waiting()
    assert not partition.running


async def test_a_power_off_cancels_a_start_that_waits(system: System, nursery: trio.Nursery) -> None:
    """A power-off cancels a start that waits for NVRAM, so the partition stays off when NVRAM answers."""
    machine = system.boot()
    system.worker.hold()
    nursery.start_soon(machine.counted_start)
    await trio.testing.wait_all_tasks_blocked()
    answer = await verb(system, "a", "power-off")
    assert (answer.status_code, answer.json()["power"], machine.waiting) == (200, "off", [])
    system.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not machine.system.find("a").running
    assert (await verb(system, "a", "power-off")).status_code == 409


class Unreachable(MemoryTransport):
    """A transport that can't make a socket for any partition."""

    def open(self, partition: Partition) -> None:
        raise OperatorError(service.SOCKET_PATH, f"{partition.name} has no socket")


@pytest.mark.parametrize("late", [False, True])
async def test_a_partition_that_cannot_be_reached(nursery: trio.Nursery, late: bool) -> None:
    """At the start, a partition without a socket is an error.

    A server that already serves logs the rule instead.
    """
    machine = assemble(simulated_seams(transport=Unreachable(), entropy=Chance()), SETTINGS)
    await nursery.start(machine.encryptor.run)
    if not late:
        with pytest.raises(OperatorError, match="a has no socket"):
            await machine.counted_start()
        return
    machine.set_nvram_fault(NvramFault("io"))
    with trio.CancelScope() as given_up:
        machine.encryptor.on_trouble = lambda error: given_up.cancel()
        await machine.counted_start()
    with logged("partition.not_activated") as lines:
        await machine.start_waiting()
    assert [(line["partition"], line["rule_id"]) for line in lines] == [("a", "socket.path")]
    assert (machine.waiting, machine.system.find("a").running) == ([], False)


# Any history


@pytest.mark.parametrize("seed", range(8))
async def test_no_number_names_two_ipls(
    seed: int, nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    """R-04, R-21: No number ever names two IPLs.

    Verbs run at the same time, NVRAM fails, and power cuts come between any two steps.
    """
    chance = Random(seed)
    system = System()
    begun: list[int] = []
    reasons: set[str] = set()

    async def ask(machine: Machine, action: str) -> None:
        try:
            if action == "power_off":
                machine.power_off("a")
            else:
                begun.append((await getattr(machine, f"counted_{action}")("a")).ipl_count)
        except SwpksError as error:
            reasons.add(error.rule.id)

    for _ in range(12):
        machine = system.boot()
        async with trio.open_nursery() as life:
            life.start_soon(machine.encryptor.run)
            await machine.counted_start()
            begun.append(machine.system.find("a").ipl_count)
            for _ in range(chance.randint(0, 6)):
                if chance.random() < 0.3:
                    machine.set_nvram_fault(NvramFault("io", times=chance.randint(1, 2)))
                life.start_soon(ask, machine, chance.choice(("ipl", "ipl", "power_on", "power_off")))
                for _ in range(chance.randint(0, 40)):
                    await trio.lowlevel.checkpoint()
            life.cancel_scope.cancel()
    assert len(begun) == len(set(begun)) > 12
    assert reasons <= {"power.counted", "power.running", "power.stopped"}
