"""The measurements: interleaved rounds, so that what else the machine does meets everybody alike.

A round runs every case once, and each case on each target in turn: echo, swpks, echo, swpks, ...
A figure is the median of its rounds; a ratio is the median of the ratios within one round, because
a machine that is slow in one round is slow for both sides of that ratio.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import trio

from bench.cases import Case
from bench.durable import BareCommits
from bench.loadgen import Load, Measured, compile_load, run_load
from bench.processes import Echo, Placement, Server
from bench.programs import OBJECT_SIZE, answers_by_size, echoed, write_workload
from swpks.testing import emulated_partition

Progress = Callable[[str], None]
Rounds = dict[str, list[Measured]]
"""What was measured by target: "swpks", and "echo" and "plain" or "bare"."""


class Effort(NamedTuple):
    """How much is measured: rounds, seconds of load a run, and starts of the server."""

    rounds: int = 7
    seconds: float = 0.4
    starts: int = 9


class Bench:
    """One run of the benchmark in a folder of its own, which holds the servers' state too."""

    def __init__(self, folder: Path, out: Path, effort: Effort, progress: Progress) -> None:
        self.place = Placement()
        self._folder = folder
        self._load = compile_load(out)
        self._effort = effort
        self._progress = progress

    def calls(self, cases: Iterable[Case], server: Server) -> dict[str, Rounds]:
        """Measure cases against the echo server, with Trio's stream and with swpks' own."""
        cases = list(cases)
        programs = [self._program(case) for case in cases]
        answers = answers_by_size([program for case in cases for program in case.workload()])
        with ExitStack() as stack:
            echoes = {
                kind: stack.enter_context(Echo(self._folder, kind, answers)) for kind in ("trio", "plain")
            }
            for process in (server, *echoes.values()):
                process.pin([self.place.server])
            found: dict[str, Rounds] = defaultdict(lambda: defaultdict(list))
            for _ in self._rounds("calls"):
                for case, (own, bare) in zip(cases, programs, strict=True):
                    rounds = found[case.key]
                    for name, kind in (("echo", "trio"), ("plain", "plain")):
                        echo = echoes[kind]
                        rounds[name].append(self._run(case, echo.socket, bare, echo.pid))
                    rounds["swpks"].append(self._run(case, server.socket(), own, server.pid))
        return found

    def confirms(self, cases: Iterable[Case], server: Server) -> dict[str, Rounds]:
        """Measure confirmed writes against bare durable commits."""
        programs = [(case, self._program(case)[0]) for case in cases]
        bare = BareCommits(self._folder)
        found: dict[str, Rounds] = defaultdict(lambda: defaultdict(list))
        server.pin([self.place.server])  # its two threads hand over to each other faster on one core
        for _ in self._rounds("confirmed writes"):
            for case, program in programs:
                found[case.key]["bare"].append(bare.run(self._effort.seconds))
                found[case.key]["swpks"].append(self._run(case, server.socket(), program, server.pid))
        bare.close()
        return found

    def starts(self, state: Path) -> list[tuple[float, float]]:
        """Start a server on an existing state again and again; returns seconds to ready and of CPU."""
        found = []
        for _ in self._rounds("starts", self._effort.starts):
            with Server(state) as server:
                found.append((server.seconds_to_ready, server.cpu_to_ready))
        return found

    def fixtures(self) -> list[float]:
        """Open and close in-process partitions again and again; returns seconds to the session."""
        self._progress("test fixtures")

        async def one() -> float:
            begin = time.perf_counter()
            async with emulated_partition():
                return time.perf_counter() - begin

        return [trio.run(one) for _ in range(3 * self._effort.starts)]

    def many_partitions(self, count: int) -> dict[str, float]:
        """Return MB and seconds of a server with `count` partitions of 64 KiB, all of them filled."""
        self._progress(f"{count} filled partitions")
        names = [f"lpar{n:02}" for n in range(count)]
        state = self._folder / "many"
        objects = [(b"fill-%02d" % n, bytes([n]) * OBJECT_SIZE) for n in range(16)]
        with Server(state, names) as server:
            for name in names:
                server.prepare(name, objects)
            filled = server.resident()
        with Server(state, names) as server:
            time.sleep(0.2)
            return {"filled": filled, "restarted": server.resident(), "seconds": server.seconds_to_ready}

    def _run(self, case: Case, socket: Path, program: Path, pid: int) -> Measured:
        load = Load(case.connections, self.place.load(case.where), case.nap)
        return run_load(self._load, socket, program, load, self._effort.seconds, pid)

    def _program(self, case: Case) -> tuple[Path, Path]:
        """Write a case's program files: for swpks, and for the echo server."""
        workload = case.workload()
        own, bare = self._folder / f"{case.key}.swpks", self._folder / f"{case.key}.echo"
        write_workload(own, workload)
        write_workload(bare, echoed(workload))
        return own, bare

    def _rounds(self, what: str, count: int | None = None) -> Iterator[int]:
        total = count or self._effort.rounds
        for number in range(total):
            self._progress(f"{what}: round {number + 1} of {total}")
            yield number


def median(rounds: list[Measured]) -> Measured:
    """Return the median of each figure."""
    return Measured(*(statistics.median(column) for column in zip(*rounds, strict=True)))


def work_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return the median of the ratios of the CPU that an operation takes, server and client together.

    On one core with nobody else on it this is the ratio of the rates; others on the core don't change it.
    """
    pairs = zip(ours, ceiling, strict=True)
    return statistics.median((b.server_cpu + b.load_cpu) / (a.server_cpu + a.load_cpu) for a, b in pairs)


def paired_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return the median of the ratios of the rates, round by round."""
    return statistics.median(one.rate / other.rate for one, other in zip(ours, ceiling, strict=True))
