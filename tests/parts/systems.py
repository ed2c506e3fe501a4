"""Systems whose parts are removed, swapped or damaged between starts of a real server process.

    system = System(tmp_path / "state").filled()
    shutil.rmtree(system.part("tpm"))
    with system.on():
        assert system.decision() == "tpm-replaced"

A filled system has the partition alpha with one confirmed object; `demand_object` reads it as the guest.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple, Self, TypeVar

from hcall_abi.control_views import ComponentsView, SystemView
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization, confirm_object_flushed, read_object, write_object
from hcall_client.console import ConsoleRequest, power_on, show_components, show_system
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.seam import Card
from swpks.testing import ServerProcess
from tests.service.folder import assembled
from tests.service.processes import serve

Answer = TypeVar("Answer")
OS = Authorization(3)
LABEL = b"disk-key"
CANARY = b"CANARY-object-of-the-guest-0123456789"
WISHES = ("alpha:64",)


class Found(NamedTuple):
    """The findings of a start: row, state, each part's finding, and the guest's object or None."""

    row: str
    state: str
    copies: dict[str, str]
    data: bytes | None


class System:
    """A state folder, and a server process for it."""

    def __init__(
        self,
        state: Path,
        options: Sequence[str] = (),
        wishes: Sequence[str] = WISHES,
        data: bytes = CANARY,
    ) -> None:
        self.state = state
        self.data = data
        self.server = ServerProcess(state, wishes, options)

    @contextmanager
    def on(self, options: Sequence[str] | None = None) -> Iterator[ServerProcess]:
        """Run a server during a block, and stop it in good order.

        Without `options`, the server has those of its last run.
        """
        if options is not None:
            self.server.options = list(options)
        self.server.start()
        try:
            yield self.server
            assert self.server.stop() == 0, self.server.log
        finally:
            self.server.kill()

    def filled(self) -> Self:
        """Start the system, write and confirm the object, and stop it."""
        with self.on():
            self.write_object()
        return self

    def copied(self, state: Path) -> System:
        """Return a system on a copy of the folder; the copy has never run."""
        shutil.copytree(self.state, state, ignore=shutil.ignore_patterns("*.sock"))
        return System(state, self.server.options, self.server.partitions)

    def part(self, name: str) -> Path:
        return self.state / name

    def remove(self, name: str) -> None:
        shutil.rmtree(self.part(name))

    def take(self, name: str, other: System) -> None:
        """Replace a part of this system by a copy of the same part of another system."""
        self.remove(name)
        shutil.copytree(other.part(name), self.part(name))

    def card(self) -> Card:
        """Return the content of the card; fail if there is no card."""
        found = AnchorCard(self.part("anchor-card")).read()
        assert found is not None
        return found

    def root_key(self) -> bytes:
        return self.card().identity.root_key

    def damage_card(self) -> None:
        path = self.part("anchor-card") / "anchor-card"
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)

    def sql(self, statement: str, *values: bytes | str) -> list[tuple]:
        """Run an SQL statement on NVRAM of the stopped system."""
        path = self.part("service-processor") / "nvram.sqlite"
        with closing(sqlite3.connect(path)) as nvram, nvram:
            return nvram.execute(statement, values).fetchall()

    def record(self, name: str) -> bytes:
        return self.sql("SELECT blob FROM record WHERE name = ?", name)[0][0]

    # The running system

    def ask(self, request: ConsoleRequest[Answer]) -> Answer:
        return self.server.console.call(request)

    def components(self) -> ComponentsView:
        return self.ask(show_components())

    def view(self) -> SystemView:
        return self.ask(show_system())

    def copies(self) -> dict[str, str]:
        """Return, for each part, what the start found out about its copy of the root key."""
        return {each.name: each.copy for each in self.components().components}

    def write_object(self) -> None:
        with self.server.connect_blocking("alpha") as channel:
            write_confirmed(channel, self.data)

    def read_object(self) -> bytes:
        with self.server.connect_blocking("alpha") as channel:
            return channel.call(read_object(OS, LABEL)).data

    def demand_object(self) -> None:
        """Assert that the guest's object is there; first power the partition on if it is off."""
        if "alpha" not in self.server.ready["running"]:
            self.ask(power_on("alpha"))
        assert self.read_object() == self.data

    # The stopped system

    def found_again(self) -> Found:
        """Start the system in this process; return the findings.

        The state changes as at the start of a server.
        """
        with assembled(self.state) as machine:
            alpha = machine.system.partitions.get("alpha")
            objects = alpha.keystore.contents.snapshot().objects if alpha and alpha.keystore else ()
            data = next((each.data for each in objects if each.label == LABEL), None)
            copies = {part.name: part.copy for part in machine.access.parts}
            return Found(machine.access.row, machine.system.state.value, copies, data)

    def refused(self, *options: str) -> CompletedProcess[str]:
        """Run a start that must be refused; assert that it has changed nothing in the folder.

        If there was no service processor, the start leaves an empty NVRAM: it opens NVRAM before it
        decides.
        """
        before, new = contents(self.state), not self.part("service-processor").exists()
        wishes = [word for each in self.server.partitions for word in ("--partition", each)]
        done = serve("--state", str(self.state), *wishes, *self.server.options, *options)
        after = contents(self.state)
        if new:
            assert not self.sql("SELECT * FROM record")
            after = {name: after[name] for name in after if not name.startswith("service-processor/")}
        assert after == before
        return done


def write_confirmed(channel: BlockingChannel, data: bytes) -> None:
    """Write the object, and wait until a CONFIRM reports it as flushed."""
    channel.call(write_object(OS, LABEL, data))
    while not channel.call(confirm_object_flushed(OS, LABEL)).flushed:
        pass


def contents(state: Path) -> dict[str, bytes]:
    """Return the bytes of all files, except sockets and the lock, which contains a process number."""
    files = (path for path in state.rglob("*") if path.is_file() and path != state / "lock")
    return {str(path.relative_to(state)): path.read_bytes() for path in files}
