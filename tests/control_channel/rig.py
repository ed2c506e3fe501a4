"""A machine to control: the real rules and sessions, without sockets of partitions and without NVRAM."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import trio

from hcall_abi.levels import FW950, FirmwareLevel
from hcall_server.control_channel.app import make_app
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import ManagedSystem
from hcall_server.writeback.health import Health

BASE = "http://swpks"
HEALTHY = Health(state="idle", last_error=None, pending=0, oldest_pending=0.0, commits=3, failures=0)


class StillEncryptor:
    """Takes notes of changes and writes nothing."""

    def __init__(self) -> None:
        self.health = HEALTHY
        self.noted: list[str] = []

    def changed(self, partition: Partition) -> None:
        """Note a changed keystore."""
        self.noted.append(partition.name)

    def profile_changed(self, partition: Partition) -> None:
        """Note a changed profile."""
        self.noted.append(partition.name)


def counting_entropy():
    """Entropy that is the same in every run."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(8, "big") * (size // 8) + bytes(size % 8)


def make_machine(level: FirmwareLevel = FW950, *, total_kbytes: int | None = None) -> Machine:
    """Return a machine without partitions."""
    entropy = counting_entropy()
    system = ManagedSystem(level, bytes(range(16)), entropy, total_kbytes=total_kbytes)
    return Machine(system, StillEncryptor(), entropy=entropy, nvram=FaultyNvram(MemoryNvram()))


def in_process(machine) -> httpx.AsyncClient:
    """Return a client of the application itself, without HTTP."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(make_app(machine)), base_url=BASE)


def over_socket(path: str) -> httpx.AsyncClient:
    """Return a client of a Unix socket."""
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path), base_url=BASE, timeout=20)


@asynccontextmanager
async def served(machine, path) -> AsyncIterator[str]:
    """The control channel of `machine` on a Unix socket; cancelled at the end."""
    import socket

    from hcall_server.control_channel.serve import serve_control

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, machine, listener)
            yield str(path)
            nursery.cancel_scope.cancel()
