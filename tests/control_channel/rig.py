"""A machine to control: assembled from simulated parts, and not running."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import trio

from hcall_abi.levels import FW950, FirmwareLevel
from hcall_server.control_channel.app import make_app
from hcall_server.control_channel.serve import serve_control
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.names import partition_name
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from swpks.testing.seams import simulated_seams
from tests.guest import Chance

BASE = "http://swpks"


def make_machine(level: FirmwareLevel = FW950, *, total_kbytes: int | None = None) -> Machine:
    """Return a machine without partitions."""
    return assemble(
        simulated_seams(entropy=Chance()), Settings(firmware=level.name, system_total_kbytes=total_kbytes)
    )


async def flushed(machine: Machine) -> set[int]:
    """Make everything durable; return the numbers of the changed partitions."""
    memory = machine.nvram.inner
    assert isinstance(memory, MemoryNvram)
    before = memory.records
    assert await machine.encryptor.flush()
    changed = {name for name, blob in memory.records.items() if before.get(name) != blob}
    profiles = [partition.profile for partition in machine.system.partitions.values()]
    return {profile.number for profile in profiles if partition_name(profile.uuid) in changed}


def in_process(machine) -> httpx.AsyncClient:
    """Return a client of the application itself, without HTTP."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(make_app(machine)), base_url=BASE)


def over_socket(path: str) -> httpx.AsyncClient:
    """Return a client of a Unix socket."""
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path), base_url=BASE, timeout=20)


@asynccontextmanager
async def served(machine, path) -> AsyncIterator[str]:
    """The control channel of `machine` on a Unix socket; cancelled at the end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, machine, listener)
            yield str(path)
            nursery.cancel_scope.cancel()
