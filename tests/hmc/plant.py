"""A system and its console, each a real process, for the tests of disasters.

plant = Plant(tmp_path / "sys1", keeper)
plant.begin()
plant.write("alpha", b"old")
plant.back_up()
plant.lose("service-processor")
assert plant.recovered().lines[0].startswith("alpha: from ")
assert plant.read("alpha") == b"old"
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from hcall_abi.control_views import PartitionView, SystemView
from hcall_abi.rules.console import POWER_STOPPED
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization, read_object, remove_object
from hcall_client.console import ConsoleRefused, power_off, power_on, show_partition, show_system
from hcall_client.errors import HcallError
from hcall_server.service.erase import clear_all, reset_settings
from hcall_server.service.layout import replace_part
from swpks.hmc.links import make_links
from swpks.hmc.views import JobView, KnownSystemView, StoredCopyView
from swpks.testing import ConsoleProcess, ServerProcess
from tests.parts.systems import LABEL, write_confirmed

STORES = ("alpha", "beta")
OS = Authorization(3)


class Keeper:
    """A console process, and a folder with a link for each line."""

    def __init__(self, store: Path, options: Sequence[str] = ()) -> None:
        self.console = ConsoleProcess(store, options=options)
        self.links = store.with_name(f"{store.name}-links")

    def start(self) -> Keeper:
        """Start the console. Make the links at the first start."""
        self.console.start()
        if not self.links.exists():
            make_links(self.links, self.console.store)
        return self

    def line(self, *words: str) -> tuple[int, str]:
        """Run a line by its link; return its exit status and its output."""
        done = subprocess.run(
            [self.links / words[0], *words[1:]], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.rstrip("\n")

    def systems(self) -> dict[str, KnownSystemView]:
        """Return the systems that the console knows, by name."""
        return {each.name: each for each in self.console.console().order(list[KnownSystemView], "systems")}

    def jobs(self, system: str) -> list[JobView]:
        """Return the jobs of a system, the oldest first."""
        return [
            each
            for each in self.console.console().order(list[JobView], "jobs", number=None)
            if each.system == system
        ]

    def end(self) -> None:
        """Kill the console."""
        self.console.kill()


class Plant:
    """A system and its console, which may manage other systems as well."""

    def __init__(
        self, state: Path, keeper: Keeper, stores: Sequence[str] = STORES, options: Sequence[str] = ()
    ) -> None:
        self.server = ServerProcess(state, [f"{each}:64" for each in stores], options)
        self.keeper = keeper
        self.name = state.name
        self.stores = tuple(stores)
        self.tap: Path | None = None
        """The address that the console dials; if it is None, the control socket."""

    # The system

    @property
    def where(self) -> str:
        """Return the address at which the console reaches the system."""
        if found := self.server.ready.get("control_tcp"):
            return f"https://{found}"
        return str(self.tap or self.server.control_socket)

    def begin(self) -> Plant:
        """Start the system, add it to the console, and wait until the console has a copy of each store."""
        self.server.start()
        self.wake()
        self.settle()
        return self

    def start(self) -> Plant:
        """Start the system again, and let the console connect at once."""
        self.server.start()
        self.wake()
        self.noticed()
        return self

    def noticed(self) -> None:
        """Wait until the console knows which system answers at the address: until then it refuses verbs."""
        system_id = self.view().system_id
        order = self.keeper.console.console().order
        until(lambda: system_id in {each.system_id for each in order(list[KnownSystemView], "systems")})
        until(self._started)

    def _started(self) -> bool:
        """Return whether all automatic starts are over: the partitions run, or are refused.

        The system asks the console before it starts a partition (R-54).  A system that is not Operating
        starts none.
        """
        view = self.view()
        ran = (each.power == "running" or each.refused or not each.auto_start for each in view.partitions)
        return view.state != "Operating" or all(ran)

    def wake(self) -> None:
        """Add the system again, so that the console connects at once."""
        order = self.keeper.console.console().order
        order(KnownSystemView, "add-system", where=self.where, name=self.name)

    def lose(self, *parts: str, start: bool = True) -> None:
        """Cut the power and replace these parts by new ones, in this order."""
        self.server.kill()
        for part in parts:
            replace_part(self.server.state, part)
        if start:
            self.start()

    def erase(self) -> None:
        """Perform Clear All and reset-settings on the powered-off system."""
        clear_all(self.server.state, os.urandom)
        reset_settings(self.server.state, os.urandom)

    def view(self) -> SystemView:
        """Return the view of the system."""
        return self.server.console.call(show_system())

    def partition(self, name: str) -> PartitionView:
        """Return the view of a partition."""
        return self.server.console.call(show_partition(name))

    def settle(self, held: Callable[[PartitionView], bool] | None = None) -> None:
        """Wait until the console has a copy of each store's present state."""
        wanted = held or (lambda each: each.copy is not None and each.copy.generation == each.generation)
        until(lambda: all(map(wanted, self.view().partitions)))

    # The guests

    def guest(self, name: str) -> BlockingChannel:
        """Return a session of a guest; power its partition on if necessary."""
        if self.partition(name).power == "off":
            try:
                self.server.console.call(power_on(name))
            except ConsoleRefused as error:
                # POWER_STOPPED means that the partition has already started by itself.
                if error.rule is not POWER_STOPPED:
                    raise
        return self.server.connect_blocking(name)

    def write(self, name: str, data: bytes) -> None:
        """Write the guest's object durably; it replaces an older one."""
        with self.guest(name) as channel:
            # The removal fails if there is no older object.
            with suppress(HcallError):
                channel.call(remove_object(OS, LABEL))
            write_confirmed(channel, data)

    def fill(self, text: str) -> None:
        """Write an object with the name of the store into each store."""
        for each in self.stores:
            self.write(each, f"{text} of {each}".encode())

    def read(self, name: str) -> bytes:
        """Return the data of the guest's object."""
        with self.guest(name) as channel:
            return channel.call(read_object(OS, LABEL)).data

    def demand(self, text: str, stores: Collection[str] | None = None) -> None:
        """Assert that each store has the object of `fill`."""
        for each in self.stores if stores is None else stores:
            assert self.read(each) == f"{text} of {each}".encode()

    def power_off(self) -> None:
        """Power all partitions off."""
        for each in self.view().partitions:
            if each.power == "running":
                self.server.console.call(power_off(each.name))

    # The console

    def back_up(self) -> JobView:
        """Let the console take a copy of each store now."""
        order = self.keeper.console.console().follow
        done = order(JobView, "backup", lambda _: None, system=self.name)
        assert done.state == "done", done.lines
        return done

    def copies(self, store: str | None = None) -> list[StoredCopyView]:
        """Return the console's copies of a store, or of all stores, the newest first."""
        found = self.keeper.console.console().order(list[StoredCopyView], "copies", system=self.name)
        return [each for each in found if store in (None, each.partition)]

    def recoveries(self) -> list[JobView]:
        """Return all recoveries of the system so far."""
        return [each for each in self.keeper.jobs(self.name) if each.kind == "recover"]

    def recovered(self, count: int = 1, state: str = "done") -> JobView:
        """Wait for the end of recovery number `count`, and check its state; return its job.

        The console has begun this recovery without an order.
        """
        begun = f'"kind": "recover", "system": "{self.name}", "event": "job.started"'
        self.keeper.console.log_lines(begun, count)
        job = self.recoveries()[count - 1]
        order = self.keeper.console.console().follow
        done = order(JobView, "jobs", lambda _: None, number=job.number)
        assert done.state == state, done.lines
        return done

    def hmc(self, *words: str) -> str:
        """Run `swpks hmc` at the console, with -m after the verb; return its output."""
        return self.keeper.console.hmc(words[0], "-m", self.name, *words[1:])

    def refused(self, *words: str) -> str:
        """Run `swpks hmc` with a verb that must be refused; return its output."""
        done = self.keeper.console.run(words[0], "-m", self.name, *words[1:])
        assert (done.returncode, b"Traceback" in done.stderr) == (1, False)
        return (done.stdout + done.stderr).decode()

    def line(self, *words: str) -> str:
        """Run a line at the console, with -m after the command; return its output."""
        status, reported = self.keeper.line(words[0], "-m", self.name, *words[1:])
        assert status == 0, reported
        return reported

    def refused_line(self, *words: str) -> str:
        """Run a line that must be refused; return its output."""
        status, reported = self.keeper.line(words[0], "-m", self.name, *words[1:])
        assert status == 1, reported
        return reported

    def log(self, event: str, least: int = 1) -> None:
        """Wait until the console's log has this number of these events about the system."""
        self.keeper.console.log_lines(f'"system": "{self.name}", "event": "{event}"', least)

    def end(self) -> None:
        """Remove the system from the console, and kill the system."""
        self.server.kill()
        if self.keeper.console.pid and self.name in self.keeper.systems():
            self.keeper.console.console().order(object, "remove-system", name=self.name)


def until(true: Callable[[], object]) -> None:
    """Call a condition until it is true. Each call makes a request, so no further pause is needed."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "the condition never became true"
