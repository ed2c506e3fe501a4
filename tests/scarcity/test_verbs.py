"""Requests of the console during a shortage: each one is done as a whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from hcall_abi.rules.catalogue import RULES
from hcall_server.data_channel.listeners import KeyFiles, Listeners
from hcall_server.machine.machine import Machine
from hcall_server.platform.partition import Partition
from hcall_server.platform.profile import PartitionProfile
from hcall_server.service.access_keys import AccessKeys
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.seams import simulated_seams
from tests.control_channel.rig import in_process
from tests.guest import Chance
from tests.scarcity.nth import failing

NUMBERS = {
    errno.EMFILE: "scarce.descriptors",
    errno.ENFILE: "scarce.descriptors",
    errno.ENOMEM: "scarce.memory",
    errno.ENOSPC: "scarce.space",
    errno.EDQUOT: "scarce.space",
    errno.EROFS: "scarce.space",
    errno.EIO: "scarce.space",
}
VERBS: dict[str, tuple[str, str, Any]] = {
    "create": ("POST", "/v1/partitions", {"name": "new", "keystore_kbytes": 8}),
    "power on": ("POST", "/v1/partitions/off/power-on", None),
    "power off": ("POST", "/v1/partitions/on/power-off", None),
    "ipl": ("POST", "/v1/partitions/on/ipl", None),
    "rotate key": ("POST", "/v1/partitions/off/rotate-key", None),
    "attributes": ("PATCH", "/v1/partitions/off/attributes", {"secure_boot": 2}),
    "faults": ("PUT", "/v1/partitions/on/faults", {"faults": [{"hcall": "READ_OBJECT", "status": "H_BUSY"}]}),
    "nvram": ("PUT", "/v1/nvram/fault", {"trouble": "full"}),
}


class Console:
    """A machine with real private sockets and its console.

    `look` shows everything that a request may change.
    """

    def __init__(self, machine: Machine, folder: Path, client: httpx.AsyncClient) -> None:
        self.machine = machine
        self._folder = folder
        self._client = client

    async def ask(self, verb: str) -> httpx.Response:
        """Send one request; return the answer."""
        method, path, body = VERBS[verb]
        return await self._client.request(method, path, json=body)

    def look(self) -> dict[str, Any]:
        """Return everything that a request may change."""
        machine = self.machine
        assert isinstance(machine.transport, Listeners)
        mask = os.umask(0o077)
        os.umask(mask)
        return {
            "partitions": {
                name: (found.power, found.ipl_count, uncounted(found), self.plan(found))
                for name, found in machine.system.partitions.items()
            },
            "files": sorted(str(each.relative_to(self._folder)) for each in self._folder.rglob("*")),
            "keys": {each.name: each.read_text() for each in (self._folder / "keys").iterdir()},
            "paths": machine.transport.paths,
            "mask": mask,
        }

    def plan(self, partition: Partition) -> list[str]:
        """Return the fault plan of a partition."""
        plan = self.machine.faults.get(partition.number)
        return [str(each.fault) for each in plan.planned] if plan else []


@asynccontextmanager
async def console(folder: Path, keys: KeyFiles | None = None) -> AsyncIterator[Console]:
    """Return a `Console` for a machine with the partitions `on` and `off`."""
    (folder / "keys").mkdir(exist_ok=True)
    listeners = Listeners(folder, keys or AccessKeys(folder / "keys"))
    seams = simulated_seams(transport=listeners, entropy=Chance())
    wishes = tuple(PartitionSettings.of(name, 8) for name in ("on", "off"))
    machine = assemble(seams, Settings(firmware="FW1110", partition=wishes))
    async with trio.open_nursery() as nursery, in_process(machine) as client:
        await nursery.start(listeners.run, machine)
        machine.power_on("on")
        there = Console(machine, folder, client)
        # The first request of some verbs imports modules and needs a reserve for that. These two requests do
        # it before the test.
        assert (await client.post("/v1/partitions", json={"name": "on"})).status_code == 409
        assert (await client.post("/v1/partitions/on/rotate-key")).status_code == 200
        yield there
        listeners.close_all()
        nursery.cancel_scope.cancel()


def demand_problem(answer: httpx.Response, rule: str) -> None:
    """Assert that the answer is a problem about a shortage, with a remedy."""
    problem = answer.json()
    row = RULES[rule]
    assert (answer.status_code, problem["type"]) == (503, "urn:swpks:problem:scarcity")
    assert (problem["rule_id"], problem["rule"], problem["section"]) == (row.id, row.sentence, row.page)
    assert ": " in problem["detail"]


@pytest.mark.parametrize("number", NUMBERS, ids=[errno.errorcode[each] for each in NUMBERS])
@pytest.mark.parametrize("verb", VERBS)
async def test_all_of_a_verb_or_nothing(verb: str, number: int, tmp_path: Path) -> None:
    """If the n-th system call fails, the request has changed nothing, and succeeds when repeated.

    A power-off is never refused: a socket that cannot be removed stays, and the next power-on removes it.
    """
    nth = 1
    while True:
        folder = tmp_path / str(nth)
        folder.mkdir()
        async with console(folder) as there:
            before = there.look()
            with failing(nth, number) as system:
                answer = await there.ask(verb)
            if not system.failed:
                assert answer.status_code in {200, 201}
                break
            if verb == "power off":
                assert answer.status_code == 200
            else:
                demand_problem(answer, NUMBERS[number])
                assert there.look() == before
                assert (await there.ask(verb)).status_code in {200, 201}
        nth += 1
    assert nth > (3 if verb == "power on" else 1 if verb == "power off" else 0)


async def test_a_socket_that_could_not_be_removed_is_no_obstacle(tmp_path: Path) -> None:
    """If the file system is read-only, a power-off succeeds, and so does the next power-on."""
    async with console(tmp_path) as there:
        with failing(1, errno.EROFS, "unlink"):
            assert (await there.ask("power off")).status_code == 200
        assert (tmp_path / "on.sock").is_socket()
        there.machine.power_on("on")
        assert (tmp_path / "on.sock").is_socket()


def uncounted(partition: Partition) -> PartitionProfile:
    """Return the profile without its IPL count, because a number may be skipped."""
    return partition.profile._replace(ipl_count=0)


class BrokenKeys(AccessKeys):
    """Access-key files in a folder that accepts no new file."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder)
        self.broken = True
        self._number = number

    def publish(self, name: str, key: bytes) -> None:
        if name == "new" and self.broken:
            raise OSError(self._number, os.strerror(self._number), "access-keys/new.key")
        super().publish(name, key)


@pytest.mark.parametrize("number", NUMBERS, ids=[errno.errorcode[each] for each in NUMBERS])
async def test_a_partition_without_its_key_is_not_made(number: int, tmp_path: Path) -> None:
    """R-30: if the access key can't be written, no partition is made, and its number is free again."""
    (tmp_path / "keys").mkdir()
    keys = BrokenKeys(tmp_path / "keys", number)
    async with console(tmp_path, keys) as there:
        before = there.look()
        demand_problem(await there.ask("create"), NUMBERS[number])
        assert there.look() == before
        keys.broken = False
        assert (await there.ask("create")).json()["number"] == 3


async def test_an_ipl_that_fails_leaves_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an activation fails after its socket was made, the partition is off and the socket is removed."""
    async with console(tmp_path) as there:
        before = there.look()
        with monkeypatch.context() as patched:
            patched.setattr(type(there.machine.system), "power_on", _no_memory)
            demand_problem_of_memory(await there.ask("power on"))
        assert there.look() == before
        assert (await there.ask("power on")).status_code == 200


def _no_memory(*_: object) -> None:
    raise MemoryError


def demand_problem_of_memory(answer: httpx.Response) -> None:
    """Assert that the answer is a problem about memory. It names no place, because a MemoryError has none."""
    assert (answer.status_code, answer.json()["rule_id"]) == (503, "scarce.memory")
