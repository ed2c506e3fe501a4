"""Two systems, a console, and a partition that moves between the systems; all are real processes.

with fleet.load() as load:
    order = fleet.order("migrlpar", "-o", "m", ...)
    fleet.console.died()
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hcall_abi.control_views import CustodyView, PartitionView, SystemView
from hcall_abi.errors import SwpksError
from hcall_client.console import power_off, power_on, set_trusted_key, show_system
from hcall_server.failpoints import VARIABLE
from swpks.hmc.links import make_links
from swpks.hmc.views import JobView, KnownSystemView
from swpks.testing import ConsoleProcess, ServerProcess
from swpks.testing.own_process import OwnProcess
from tests.migration_processes.client import Ledger, Load, Watch, demand_one_owner
from tests.migration_processes.disk_switch import DiskSwitch

NAME = "lpar1"
SECONDS = 45.0
"""Most seconds of each wait; generous, because test machines are busy."""
KEY = bytes(range(32))
"""The trusted system key of both systems."""
OWNING = ("own", "arrived")


class Line:
    """A command line of an operator, which runs."""

    def __init__(self, words: Sequence[str | Path]) -> None:
        self.words = words
        self._said: str | None = None
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @property
    def report(self) -> str:
        """Return the output of the command if it has ended."""
        return "it runs" if self._process.poll() is None else str(self.ended())

    def ended(self) -> tuple[int, str]:
        """Wait until the command ends; return its exit status and output."""
        if self._said is None:
            self._said, _ = self._process.communicate(timeout=SECONDS)
        assert "Traceback" not in self._said, self._said
        return self._process.returncode, self._said

    def kill(self) -> None:
        """Kill the command if it runs."""
        if self._said is None:
            self._process.kill()
            self._process.communicate()


class Fleet:
    """The three processes. `source` is the system that has the partition now, `target` the other one."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        target_options: Sequence[str] = (),
        library: Path | None = None,
    ) -> None:
        self.source = ServerProcess(folder / "east", [f"{NAME}:64"], options)
        self.target = ServerProcess(folder / "west", [], [*options, *target_options])
        self.console = ConsoleProcess(folder / "hmc")
        self.switches = [DiskSwitch(library, each) for each in self.processes] if library else []
        self.links = folder / "links"
        self.ledger = Ledger()
        self.lines: list[Line] = []
        self.is_off = False
        """Whether an operator has powered the partition off; a start of its owner powers it on again."""

    @property
    def systems(self) -> tuple[ServerProcess, ServerProcess]:
        """Return both systems."""
        return self.source, self.target

    @property
    def processes(self) -> tuple[OwnProcess, ...]:
        """Return both systems and the console."""
        return *self.systems, self.console

    def start(self) -> Fleet:
        """Start all processes. Both systems get the same trusted system key, so that copies can move too."""
        for each in self.systems:
            each.start()
            if each.console.call(show_system()).firmware_level != "FW940":
                each.console.call(set_trusted_key("change", key=KEY))
        self.console.systems = [f"{each.state.name}={each.control_socket}" for each in self.systems]
        self.console.start()
        make_links(self.links, self.console.store)
        for each in self.systems:
            self.connected(each)
        return self

    def end(self) -> None:
        """Kill all processes."""
        for line in self.lines:
            line.kill()
        for process in self.processes:
            process.kill()

    # Processes

    def start_again(self, process: OwnProcess, point: str = "") -> None:
        """Stop a process if it runs, and start it.

        With `point`, the new process kills itself at this fail point.
        """
        if process.pid is not None:
            process.stop()
        process.environment.pop(VARIABLE, "")
        if point:
            process.environment[VARIABLE] = point
        process.spawn()
        if isinstance(process, ServerProcess):
            self.connected(process)

    def died(self, process: OwnProcess) -> None:
        """Wait until a process has killed itself at its fail point."""
        self.until(lambda: process.pid is None, f"{process} did not reach its point")

    def connected(self, system: ServerProcess) -> None:
        """Let the console connect to a system, and wait for that.

        Do nothing if the console is dead.
        """
        if self.console.pid is None:
            return
        known = self.known
        with suppress(SwpksError):
            order = self.console.console().order
            order(KnownSystemView, "add-system", where=str(system.control_socket), name=system.state.name)
            self.until(
                lambda: None in (self.console.pid, system.pid) or known(system), f"{system} is not connected"
            )

    def known(self, system: ServerProcess) -> bool:
        """Return whether the console is connected to a system."""
        found = self.console.console().order(list[KnownSystemView], "systems")
        return any(each.name == system.state.name and each.connected for each in found)

    # Lines

    def order(self, *words: str) -> Line:
        """Start a command line; return without a wait."""
        self.lines.append(Line([self.links / words[0], *words[1:]]))
        return self.lines[-1]

    def line(self, *words: str) -> str:
        """Run a command line that must succeed; return its output."""
        status, report = self.order(*words).ended()
        assert status == 0, f"{words}: {report}"
        return report

    def refused(self, *words: str) -> str:
        """Run a command line that must be refused; return its output."""
        status, report = self.order(*words).ended()
        assert status == 1, f"{words}: {report}"
        return report

    def move(self) -> Line:
        """Start the command line that moves the partition."""
        return self.order("migrlpar", "-o", "m", *self.way)

    @property
    def way(self) -> list[str]:
        """Return the options that name source, target and partition."""
        return ["-m", self.source.state.name, "-t", self.target.state.name, "-p", NAME]

    @property
    def here(self) -> list[str]:
        """Return the options that name source and partition."""
        return ["-m", self.source.state.name, "-p", NAME]

    # Power

    def power_off(self) -> None:
        """Power the partition off at its source, as an operator."""
        self.source.console.call(power_off(NAME))
        self.is_off = True

    def power_on(self, system: ServerProcess) -> None:
        """Power the partition on, as an operator, unless its owner has started it already."""
        if self.is_off:
            system.console.call(power_on(NAME))
            self.is_off = False

    # States

    def until(self, true: Callable[[], object], trouble: str) -> None:
        """Repeat a condition until it is true; each try makes a request or waits."""
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, f"{trouble}\n{self.report()}"
            time.sleep(0.004)

    def view(self, system: ServerProcess) -> SystemView:
        """Return the view of a system."""
        return system.console.call(show_system())

    def custody(self, system: ServerProcess) -> CustodyView | None:
        """Return the partition's custody on a system."""
        return next((each for each in self.view(system).custody if each.name == NAME), None)

    def partition(self, system: ServerProcess) -> PartitionView | None:
        """Return the partition on a system, or None if the system has none."""
        return next((each for each in self.view(system).partitions if each.name == NAME), None)

    def custody_of(self, system: ServerProcess) -> str:
        """Return the name of the partition's record on a system, or "" if there is none."""
        found = self.custody(system)
        return found.custody if found else ""

    def serves(self, system: ServerProcess) -> bool:
        """Return whether a system owns the partition, may serve it, and runs it.

        If an operator has powered it off, it need not run. A start powers it on a moment after the system may
        serve.
        """
        found = self.partition(system)
        power = "off" if self.is_off else "running"
        return found is not None and (found.custody in OWNING, found.mode, found.power) == (
            True,
            "serving",
            power,
        )

    def is_gone(self, system: ServerProcess) -> bool:
        """Return whether the system has nothing but the record that the partition left."""
        return self.partition(system) is None

    def jobs(self) -> list[JobView]:
        """Return the running jobs of the console."""
        found = self.console.console().order(list[JobView], "jobs", number=None)
        return [each for each in found if each.state == "running"]

    def settled(self) -> ServerProcess:
        """Wait until one system serves, the other has nothing and no job runs; return the owner."""
        self.until(self.is_settled, "no end")
        return self.source if self.serves(self.source) else self.target

    def is_settled(self) -> bool:
        """Return whether one system serves the partition, the other has nothing, and no job runs."""
        first, second = self.systems
        one = (self.serves(first) and self.is_gone(second)) or (self.serves(second) and self.is_gone(first))
        return one and not self.moves()

    def moves(self) -> list[JobView]:
        """Return the running jobs of migrations and remote restarts."""
        return [each for each in self.jobs() if each.kind in ("migrate", "restart")]

    def report(self) -> str:
        """Return the states of all processes, for the message of a test that fails."""
        lines = []
        for each in self.systems:
            with suppress(SwpksError, OSError):
                shown = self.partition(each)
                power = shown and (shown.power, shown.custody, shown.mode)
                lines.append(f"{each.state.name}: {self.custody(each)} {power}")
        with suppress(SwpksError, OSError):
            lines += [str(each) for each in self.jobs()]
        lines += [each.report for each in self.lines[-2:]]
        return "\n".join(lines)

    # Load

    @contextmanager
    def load(self) -> Iterator[Load]:
        """Run a client, and watch both sockets, during one attempt; then check the result.

        At every moment there was at most one owner. No confirmed write is lost, and the client goes on. The
        system that is not the owner has no socket, even after a restart. Afterwards `source` is the owner.
        """
        with ExitStack() as stack:
            load = stack.enter_context(Load(self.console.locate(NAME), self.ledger))
            load.goes_on()
            watches = [Watch(each.socket(NAME)) for each in self.systems]
            for each in watches:
                stack.enter_context(each)
            yield load
            owner = self.settled()
            load.goes_on()
        self._judge(owner, watches)

    def _judge(self, owner: ServerProcess, watches: list[Watch]) -> None:
        before, after = watches
        if owner is self.source:
            assert after.answers == 0, "the target has served, and the source owns the partition"
        demand_one_owner(before, after)
        other = self.target if owner is self.source else self.source
        self.source, self.target = owner, other
        assert not other.socket(NAME).exists()
        self.demand()

    def demand(self) -> None:
        """Assert that the owner has every object with a confirmed write, and the other system has nothing."""
        with self.source.connect_blocking(NAME) as channel:
            self.ledger.demand(channel)
        self.start_again(self.target)
        assert not self.target.socket(NAME).exists()
        assert self.is_gone(self.target)
