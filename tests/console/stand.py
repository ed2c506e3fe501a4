"""A console over machines in the same process, and a caller with output and files for the test."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import TypeVar

import trio
import trio.lowlevel
import trio.testing

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server.components.memory import MemoryCard
from hcall_server.console.caller import file_refused
from hcall_server.console.console import ConsoleSettings, ManagementConsole
from hcall_server.console.jobs import Job
from hcall_server.console.lines.run import run_line
from hcall_server.console.store import ConsoleStore
from hcall_server.machine.machine import Machine
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from swpks.testing.console_link import MachineLink
from swpks.testing.seams import simulated_seams
from tests.guest import Chance, Guest

T = TypeVar("T")


class StandCaller:
    """A caller: the lines that it received, and its files."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.files: dict[str, bytes] = {}

    async def read(self, path: str, limit: int) -> bytes:
        """Return a file."""
        await trio.lowlevel.checkpoint()
        if path not in self.files or len(self.files[path]) > limit:
            raise OperatorError(rules.HMC_FILE, f"{path} cannot be read, or is too long")
        return self.files[path]

    async def write(self, path: str, content: bytes, *, replace: bool) -> None:
        """Write a file."""
        await trio.lowlevel.checkpoint()
        if path in self.files and not replace:
            raise file_refused(f"{path}: {os.strerror(errno.EEXIST)}")
        self.files[path] = content

    async def test(self, path: str, *, replace: bool) -> None:
        """Refuse to write a file that exists."""
        await trio.lowlevel.checkpoint()
        if path in self.files and not replace:
            raise file_refused(f"{path}: {os.strerror(errno.EEXIST)}")

    async def say(self, text: str) -> None:
        """Store the lines of output."""
        await trio.lowlevel.checkpoint()
        self.lines.append(text)

    async def progress(self, job: Job) -> None:
        """Store the lines of a job at its end."""
        await trio.lowlevel.checkpoint()
        if job.state != "running":
            self.lines += job.lines


class Stand:
    """A console, its machines by their names, and a caller."""

    def __init__(
        self, console: ManagementConsole, links: dict[str, MachineLink], cards: dict[str, MemoryCard]
    ) -> None:
        self.console = console
        self.links = links
        self.cards = cards
        self.caller = StandCaller()

    async def replace_processor(self, name: str = "S") -> None:
        """Replace the service processor of a system: its NVRAM is empty.

        The test needs a clock that jumps.
        """
        self.links[name].restart(make_machine(name, self.cards[name]))
        await trio.sleep(1)
        assert self.console.find(name).connected

    async def run(self, line: str) -> tuple[int, str]:
        """Run a line, split as a shell splits it; return its exit status and its output."""
        self.caller.lines.clear()
        status = await run_line(self.console, shlex.split(line), self.caller)
        return status, "\n".join(self.caller.lines)

    async def done(self, line: str) -> str:
        """Run a line that must succeed; return its output."""
        status, reported = await self.run(line)
        assert status == 0, reported
        return reported

    async def refused(self, line: str) -> str:
        """Run a line that must be refused; return its output."""
        status, reported = await self.run(line)
        assert status == 1, reported
        return reported

    def machine(self, name: str = "S") -> Machine:
        """Return the machine of a system."""
        machine = self.links[name].machine
        assert machine is not None
        return machine

    def write(self, partition: str, label: bytes = b"label", name: str = "S") -> None:
        """Have the guest of a running partition write an object."""
        machine = self.machine(name)
        found = machine.system.find(partition)
        assert Guest(found).write(3, label, b"data").status == 0
        machine.encryptor.changed(found)


def make_machine(name: str, card: MemoryCard | None = None) -> Machine:
    """Return a machine without records; with a card that has a root key it is in the state Recovery.

    A new machine has the same system id, and so the same serial number, in every run.
    """
    seams = simulated_seams(entropy=Chance(name.encode()), card=card)
    # This machine runs no tasks, so no console can answer it. With `without_console`, a restored partition
    # serves without a question to the console.
    return assemble(seams, Settings(name=name, firmware="FW1110", without_console=True))


@asynccontextmanager
async def standing(*names: str, manual: bool = False) -> AsyncIterator[Stand]:
    """A running console that knows systems with these names.

    With `manual`, a recovery waits for an operator's line.
    """
    cards = {name: MemoryCard() for name in names}
    links = {name: MachineLink(make_machine(name, cards[name])) for name in names}
    with closing(ConsoleStore()) as store:
        console = ManagementConsole(
            store,
            links.__getitem__,
            entropy=Chance(b"console"),
            date=lambda: 1_800_000_000.0,
            settings=ConsoleSettings(manual_recovery=manual),
        )
        async with trio.open_nursery() as nursery:
            for name in names:
                await console.add_system(name)
            await nursery.start(console.run)
            await trio.testing.wait_all_tasks_blocked()
            yield Stand(console, links, cards)
            nursery.cancel_scope.cancel()
