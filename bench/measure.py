"""The measurements: interleaved rounds of all cases on all targets."""

# How a figure is measured, and why only ratios count
#
# Absolute figures depend on the machine: they vary by a factor of two and more. So do figures of commits on a
# shared disk. So nearly all goals are ratios. The benchmark guarantees that both sides of a ratio had the
# same conditions:
#
#   1. Interleaved rounds.  A round measures each case on each target in turn.  The ratio is taken inside
#      of a round, and the figure is the median of these ratios.  A machine that slows down later slows both
#      sides.  The usual way, all rounds of one target and then all of the other, would compare two different
#      times.
#   2. The same load.  One generator in C sends the same frames to swpks and to its ceiling.  Its own work
#      is small. The frames are computed before (programs.py), so no encoding is measured.
#   3. The same place.  Server and ceiling run on the same core, the generator on that core or on another one.
#   4. The same priority. If the user may use it, all of them run under SCHED_FIFO. Without it another process
#      takes the core in the middle of a call, and the caches are cold afterwards. Then a ratio falls by a
#      quarter or more.
#   5. Only successes.  The generator checks each answer.  Any refusal ends the run.
#
# A ceiling is the least work that a server of this kind can do: an echo that only finds frames, or bare
# commits of the same record on the same disk.  The distance to it is the part that swpks itself can change.
#
# Figures of the CPU stand beside those of the clock. They change less on a busy machine. But they show no
# wait, so each goal of a rate also bounds the clock.

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import trio

from bench.cases import Case
from bench.durable import BareCommits
from bench.loadgen import Load, Measured, compiled, run_load
from bench.processes import Child, Placement, seconds_to_import
from bench.programs import OBJECT_SIZE, answers_by_size, echoed, write_workload
from bench.realtime import RealTime
from bench.servers import Echo, Server
from swpks.testing import emulated_partition

Progress = Callable[[str], None]
Rounds = dict[str, list[Measured]]
"""The results by target: "swpks", and "echo" and "plain" or "bare"."""


class Effort(NamedTuple):
    """The extent of a run of the benchmark.

    `rounds` of each case, `seconds` of load in a round, `starts` of a server, and `many` filled partitions of
    one server.  `partitions`, `connections` and `objects` are the sizes for growth.  `floods` are numbers of
    flooding sessions, for `flood_seconds` each.  `moves` is the number of live migrations.  `commits` is the
    least number of commits, or of confirmed writes of a client, in a round over a back end of NVRAM.
    `take_overs` is the number of owners that die, and `lease` that of the seconds of their leases.
    """

    rounds: int = 7
    seconds: float = 0.4
    starts: int = 9
    many: int = 64
    partitions: tuple[int, ...] = (1, 100, 1000)
    connections: tuple[int, ...] = (1, 100, 1000, 5000)
    objects: tuple[int, ...] = (1, 1000, 2000, 3440)
    floods: tuple[int, ...] = (1, 64, 250)
    flood_seconds: float = 2.0
    moves: int = 50
    commits: int = 12
    take_overs: int = 10
    lease: int = 6


class Start(NamedTuple):
    """A start of a server: seconds until it is ready, its CPU seconds, and seconds to import trio."""

    seconds: float
    cpu: float
    importer: float


class Bench:
    """One run of the benchmark; a new folder has its files and the servers' states."""

    def __init__(
        self, folder: Path, out: Path, effort: Effort, progress: Progress, real_time: RealTime
    ) -> None:
        self.place = Placement()
        self.folder = folder
        self.out = out
        self.effort = effort
        self.real_time = real_time
        self.progress = progress
        self._load = compiled(out, "load")

    def calls(self, cases: Iterable[Case], server: Server) -> dict[str, Rounds]:
        """Measure cases on swpks, and on echo servers with Trio's stream and with the stream of swpks."""
        cases = list(cases)
        programs = [(self.program(case), self.echo_program(case)) for case in cases]
        answers = answers_by_size([program for case in cases for program in case.workload()])
        with ExitStack() as stack:
            echoes = {
                kind: stack.enter_context(Echo(self.folder, kind, answers)) for kind in ("trio", "plain")
            }
            for process in (server, *echoes.values()):
                self.settle(process)
            found: dict[str, Rounds] = defaultdict(lambda: defaultdict(list))
            for _ in self.rounds("calls"):
                for case, (own, bare) in zip(cases, programs, strict=True):
                    rounds = found[case.key]
                    for name, kind in (("echo", "trio"), ("plain", "plain")):
                        echo = echoes[kind]
                        rounds[name].append(self.run(case, echo.socket, bare, echo.pid))
                    rounds["swpks"].append(self.run(case, server.socket(), own, server.pid))
        return found

    def confirms(self, cases: Iterable[Case], servers: dict[bool, Server]) -> dict[str, Rounds]:
        """Measure confirmed writes and bare commits; the key of `servers` says whether CONFIRM waits."""
        programs = [(case, self.program(case)) for case in cases]
        bare = BareCommits(self.folder)
        found: dict[str, Rounds] = defaultdict(lambda: defaultdict(list))
        for server in servers.values():
            self.settle(server)  # its two threads switch faster on one core
        for _ in self.rounds("confirmed writes"):
            for case, program in programs:
                server = servers[case.waits]
                with self.real_time.here(self.place.server):
                    found[case.key]["bare"].append(bare.run(self.effort.seconds))
                found[case.key]["swpks"].append(self.run(case, server.socket(), program, server.pid))
        bare.close()
        return found

    def starts(self, state: Path) -> list[Start]:
        """Measure a number of starts of a server on an existing state.

        Before each start, a process that only imports trio is measured.
        """
        found = []
        for _ in self.rounds("starts", self.effort.starts):
            with self.real_time.here(self.place.server):  # child processes inherit core and priority
                importer = seconds_to_import(self.folder)
                server = Server(state)
                server.stop()
            found.append(Start(server.seconds_to_ready, server.cpu_to_ready, importer))
        return found

    def fixtures(self) -> list[float]:
        """Open and close in-process partitions; return the seconds until each had an open session."""
        self.progress("test fixtures")

        async def one() -> float:
            begin = time.perf_counter()
            async with emulated_partition():
                return time.perf_counter() - begin

        return [trio.run(one) for _ in range(3 * self.effort.starts)]

    def many_partitions(self) -> dict[str, float]:
        """Return memory in MB and start in seconds of a server with many filled partitions of 64 KiB."""
        count = self.effort.many
        self.progress(f"{count} filled partitions")
        names = [f"lpar{n:02}" for n in range(count)]
        state = self.folder / "many"
        objects = [(b"fill-%02d" % n, bytes([n]) * OBJECT_SIZE) for n in range(16)]
        with Server(state, names) as server:
            for name in names:
                server.prepare(name, objects)
            filled = server.resident()
        with Server(state, names) as server:
            time.sleep(0.2)
            return {"filled": filled, "restarted": server.resident(), "seconds": server.seconds_to_ready}

    def settle(self, process: Child) -> None:
        """Pin a server to its core, and give it SCHED_FIFO if that is permitted."""
        process.pin([self.place.server])
        self.real_time.give(process.pid)

    def run(self, case: Case, socket: Path, program: Path, pid: int, protocol: str = "hcall") -> Measured:
        """Run a case's load once, and return the figures."""
        core = self.place.load(case.where)
        load = Load(case.connections, core, case.nap, self.real_time.active, protocol)
        return run_load(self._load, socket, program, load, self.effort.seconds, pid)

    def program(self, case: Case) -> Path:
        """Write the load generator's program file for a case, and return its path."""
        path = self.folder / f"{case.key}.swpks"
        write_workload(path, case.workload())
        return path

    def echo_program(self, case: Case) -> Path:
        """Write the load generator's program file for a case on the echo server, and return its path."""
        path = self.folder / f"{case.key}.echo"
        write_workload(path, echoed(case.workload()))
        return path

    def rounds(self, what: str, count: int | None = None) -> Iterator[int]:
        """Yield the number of each round, and show it as progress."""
        total = count or self.effort.rounds
        for number in range(total):
            self.progress(f"{what}: round {number + 1} of {total}")
            yield number
