"""A neighbour under a flood: READ in one partition while sessions with another partition flood the server."""

# The control of a flood
#
# A flood on the neighbour's own server must not delay the neighbour much.  "Much" needs a comparison.  A
# comparison with a quiet server would not be fair: any program that works without pause on the same core
# delays a READ.  So the control is the same flood on a second server, which shares the core.  There the
# neighbour waits only because the operating system divides the core between two servers.  If it waits more
# than twice as long during a flood on its own server, the turns of swpks are the cause.
#
# Neither server has SCHED_FIFO here.  A flooded server never waits, so a control of the same priority would
# never run.  The neighbour's client has it: its READ must not wait for the program of the flood.
#
# A flood leaves calls in the sockets when it ends.  The next measurement begins when both servers are at rest
# (`_await_calm`), because these calls would count for it.

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench import goals
from bench.cases import Case
from bench.figures import median, p99_ratio
from bench.floods import FLOODS, OFFENDER, SETTINGS, TITLES, lock_offender, prepare_offender
from bench.loadgen import Flooded, Load, Measured, NoAnswer, compiled, finish_load, flooding, start_load
from bench.measure import Bench
from bench.processes import PATIENCE
from bench.programs import END, LATER, SMALL, START, Program, Workload, reads, write_workload
from bench.results import Row, judged
from bench.servers import Server
from hcall_client.console import (
    ConsoleRefused,
    ConsoleRequest,
    ConsoleUnreachable,
    power_off,
    power_on,
    show_health,
)

GROUP = "a neighbour under a flood"
PAUSE = 2000.0
"""Microseconds between two READs of the neighbour: so few calls are no load of their own."""
ROUNDS = 3
HEALTHS = 5
FAR_TOO_LONG = 5.0
"""Seconds of a health check after which no other one is made."""
CALM = 0.05
"""Seconds of an observation of the servers: if they work less than a fifth of it, they are at rest."""
NEVER = 10e6
"""Microseconds that stand for a READ without an answer: the generator's patience."""


def paced_reads() -> Workload:
    """Return READ calls of 64 B with a pause before each call."""
    return [
        Program(each.opening, tuple(step._replace(flags=START | END | LATER) for step in each.steps))
        for each in reads(SMALL, 64)
    ]


PROBE = Case("neighbour", "READ 64 B of a neighbour", paced_reads, 1, "split", nap=PAUSE)


T = TypeVar("T")
Key = tuple[str, int]
"""A flood and its number of sessions."""


class Console(NamedTuple):
    """Seconds that the console waited for the slowest of some health checks, and for the power-off."""

    health: float
    power_off: float


class Neighbourhood:
    """Two servers, each with a neighbour and an offender, and the programs of all floods."""

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self._bench = bench
        self._flood = compiled(bench.out, "flood")
        self._load = compiled(bench.out, "load")
        self._probe = bench.program(PROBE)
        self.server, self.other = (
            stack.enter_context(self._start(bench.folder / name)) for name in ("flooded", "control")
        )
        self._programs = {name: self._program(name) for name in FLOODS}

    def _start(self, state: Path) -> Server:
        server = Server(state, ["bench", f"{OFFENDER}:{SETTINGS}"])
        server.pin([self._bench.place.server])
        server.prepare(objects=[(SMALL, bytes(64))])
        with server.connect(OFFENDER) as channel:
            prepare_offender(channel)
        server.console.call(show_health())  # the first request loads the HTTP stack
        return server

    def _program(self, name: str) -> Path:
        path = self._bench.folder / f"{name}.flood"
        write_workload(path, FLOODS[name]())
        return path

    def quiet(self) -> Measured:
        """Return the figures of the neighbour's READ without a flood."""
        with self._neighbour() as probe:
            return _result(probe)

    def read(self, flooded: Server, key: Key) -> Measured:
        """Return the figures of the neighbour's READ while the offender's sessions flood a server."""
        with self._neighbour() as probe, self._flooding(flooded, key) as done:
            found = _result(probe)
        if done[0].ended:
            raise RuntimeError(f"the server ended {done[0].ended} sessions of the flood {key[0]}")
        return found

    def console(self, key: Key) -> Console:
        """Return how long the console waits under a flood; the offender's power-off ends the flood."""
        place = self._bench.place
        self._await_calm()
        with self._flooding(self.server, key), self._bench.real_time.here(place.split):
            health = 0.0
            for _ in range(HEALTHS):
                health = max(health, self._waited(show_health()))
                # A wait above FAR_TOO_LONG misses the goal. Further health checks would only take minutes.
                if health > FAR_TOO_LONG:
                    break
            found = Console(health, self._waited(power_off(OFFENDER)))
        self._revive()
        return found

    def _neighbour(self) -> subprocess.Popen[str]:
        self._await_calm()
        place, seconds = self._bench.place, self._bench.effort.flood_seconds
        load = Load(1, place.load("split"), PAUSE, self._bench.real_time.active)
        return start_load(self._load, self.server.socket(), self._probe, load, seconds, self.server.pid)

    def _await_calm(self) -> None:
        """Wait until both servers have answered the calls that the last flood has left in their sockets."""
        end = time.monotonic() + PATIENCE
        worked = CALM
        while worked > CALM / 5 and time.monotonic() < end:
            before = self.server.cpu_seconds() + self.other.cpu_seconds()
            time.sleep(CALM)
            worked = self.server.cpu_seconds() + self.other.cpu_seconds() - before

    def _flooding(self, server: Server, key: Key) -> AbstractContextManager[list[Flooded]]:
        name, sessions = key
        core = self._bench.place.split
        return flooding(self._flood, server.socket(OFFENDER), self._programs[name], sessions, core)

    def _waited(self, request: ConsoleRequest[T]) -> float:
        """Return the seconds until a request of the console is answered, or fails with a timeout."""
        began = time.perf_counter()
        with suppress(ConsoleUnreachable):
            self.server.console.call(request)
        return time.perf_counter() - began

    def _revive(self) -> None:
        """Activate the offender again, even if the console's power-off request had a timeout."""
        with suppress(ConsoleRefused):
            self.server.console.call(power_off(OFFENDER))
        self.server.console.call(power_on(OFFENDER))
        with self.server.connect(OFFENDER) as channel:
            lock_offender(channel)


def _result(probe: subprocess.Popen[str]) -> Measured:
    """Start the neighbour's load and return its figures: NEVER if the server does not answer."""
    try:
        return finish_load(probe)
    except NoAnswer:
        return Measured(0.0, NEVER, NEVER, 0.0, 0.0, 0.0)


def neighbour_rows(bench: Bench) -> list[Row]:
    """Return the rows of a neighbour under each flood.

    The rows have the p50 and p99 of the neighbour's READ and of the control's READ, and the waits of the
    console.
    """
    keys: list[Key] = [(name, sessions) for name in FLOODS for sessions in bench.effort.floods]
    ours: dict[Key, list[Measured]] = defaultdict(list)
    control: dict[Key, list[Measured]] = defaultdict(list)
    quiet = []
    with ExitStack() as stack:
        hood = Neighbourhood(bench, stack)
        for _ in bench.rounds("neighbours", min(ROUNDS, bench.effort.rounds)):
            quiet.append(hood.quiet())
            for key in keys:
                bench.progress(f"a neighbour beside {_title(key)}")
                control[key].append(hood.read(hood.other, key))
                ours[key].append(hood.read(hood.server, key))
        consoles = {key: hood.console(key) for key in keys}
    rows = [_quiet_row(quiet), *(_row(key, ours[key], control[key]) for key in keys)]
    return rows + [_console_row(key, found) for key, found in consoles.items()]


def _title(key: Key) -> str:
    name, sessions = key
    return f"{sessions} session{'' if sessions == 1 else 's'} of {TITLES[name]}"


def _quiet_row(rounds: list[Measured]) -> Row:
    one = median(rounds)
    return Row("neighbour-quiet", GROUP, "p99 of READ, no flood", one.p99, "us", "split", one.p50, one.p99)


def _row(key: Key, ours: list[Measured], control: list[Measured]) -> Row:
    one, other = median(ours), median(control)
    row = Row(
        f"neighbour-{key[0]}-{key[1]}",
        GROUP,
        f"p99 of READ, {_title(key)}",
        one.p99,
        "us",
        "split",
        one.p50,
        one.p99,
        ceiling=other.p99,
        ceiling_name="second server",
        ratio=p99_ratio(ours, control),
        rounds={"swpks": [each._asdict() for each in ours], "control": [each._asdict() for each in control]},
    )
    return judged(row, goals.NEIGHBOUR)


def _console_row(key: Key, found: Console) -> Row:
    """Return the row of the console's longest wait."""
    row = Row(f"console-{key[0]}-{key[1]}", GROUP, f"console, {_title(key)}", max(found), "s")
    row.rounds = {"console": [found._asdict()]}
    return judged(row, goals.CONSOLE)
