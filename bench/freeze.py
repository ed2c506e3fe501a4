"""The freeze of a live migration: the time in which a client that calls without pause has no answer."""

# The meaning of a freeze
#
# Two systems and a console, each a process; a partition of 64 KiB, nearly full, moves there and back. A
# client follows it by the console's where socket. A freeze begins when the client has the last answer of the
# source. It ends with the first answer of the target. A freeze has four durable commits one after the other.
# So its row also has the time of a bare commit, measured before the first move and after the last.

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

from bench import goals
from bench.durable import BareCommits
from bench.measure import Bench
from bench.programs import OBJECTS, OWNER, preparation
from bench.realtime import RealTime
from bench.results import Row, judged
from hcall_client.blocking_following import FollowingBlockingChannel
from hcall_client.calls import read_object
from swpks.hmc.links import make_links
from swpks.testing import ConsoleProcess, ServerProcess

GROUP = "a live migration"
NAME = "bench"
PATIENCE = 60.0
COMMIT_SECONDS = 0.5
"""Seconds of each measurement of bare commits."""
SYSTEMS = ("east", "west")


class Caller:
    """The client: its thread reads an object again and again, and records the seconds of each freeze."""

    def __init__(self, console: ConsoleProcess, real_time: RealTime) -> None:
        self.freezes: list[float] = []
        self.calls = 0
        self.failure: BaseException | None = None
        self._real_time = real_time
        self._locate = console.locate(NAME)
        self._over = threading.Event()
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait(self, moves: int) -> None:
        """Wait until the client has followed the partition `moves` times; raise the client's error."""
        with self._moved:
            if not self._moved.wait_for(lambda: self.failure or len(self.freezes) >= moves, PATIENCE):
                raise TimeoutError(f"{len(self.freezes)} moves were seen, not {moves}")
        if self.failure:
            raise self.failure

    def _run(self) -> None:
        try:
            self._real_time.give_thread()
            with FollowingBlockingChannel(self._locate, name="bench", timeout=PATIENCE) as channel:
                self._read(channel)
        except BaseException as error:
            self.failure = error
            with self._moved:
                self._moved.notify_all()

    def _read(self, channel: FollowingBlockingChannel) -> None:
        asked = read_object(OWNER, OBJECTS[0][0])
        last = time.perf_counter()
        while not self._over.is_set():
            moves = channel.moves
            channel.call(asked)
            now = time.perf_counter()
            self.calls += 1
            if channel.moves != moves:
                with self._moved:
                    self.freezes.append(now - last)
                    self._moved.notify_all()
            last = now


def freezes(folder: Path, moves: int, real_time: RealTime) -> list[float]:
    """Move a partition `moves` times; return the seconds of each freeze."""
    systems = [ServerProcess(folder / name, [f"{NAME}:64"] if name == SYSTEMS[0] else []) for name in SYSTEMS]
    console = ConsoleProcess(folder / "hmc")
    links = folder / "links"
    with ExitStack() as stack:
        for each in systems:
            # The clean-up is added before the start, so that it also ends a process whose start fails
            # half-way.
            stack.callback(each.kill)
            each.start()
        with systems[0].connect_blocking(NAME) as channel:
            for result in channel.pipeline(preparation(OBJECTS)):
                if isinstance(result, Exception):
                    raise result
        console.systems = [f"{each.state.name}={each.control_socket}" for each in systems]
        stack.callback(console.kill)
        console.start().log_lines("system.connected", least=len(systems))
        make_links(links, console.store)
        for process in (*systems, console):
            real_time.give(process.pid or 0)
        caller = stack.enter_context(Caller(console, real_time))
        for number in range(moves):
            source, target = SYSTEMS if number % 2 == 0 else SYSTEMS[::-1]
            line: list[str | Path] = [links / "migrlpar", "-o", "m", "-m", source, "-t", target, "-p", NAME]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
            # The command ends when the console knows that the move is over; the client may still wait for an
            # answer.
            caller.wait(number + 1)
        return caller.freezes


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of the values; `share` is 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def freeze_rows(bench: Bench) -> list[Row]:
    """Return the rows with p50 and p99 of the freezes."""
    folder = bench.folder / "freeze"
    folder.mkdir()
    bench.progress(f"{bench.effort.moves} live migrations")
    commits = [_commit(folder)]
    found = freezes(folder, bench.effort.moves, bench.real_time)
    # Commits are measured before and after the moves, because the speed of a shared disk changes.
    commits.append(_commit(folder))
    commit = sum(commits) / len(commits)
    rounds = {
        "freezes": [{"ms": round(each * 1000, 3)} for each in found],
        "bare commits": [{"ms": round(each, 3)} for each in commits],
    }
    rows = []
    for key, share, details in (("freeze", 0.5, rounds), ("freeze-p99", 0.99, {})):
        value = percentile(found, share) * 1000
        title = f"freeze, p{100 * share:.0f} of {len(found)} moves"
        row = Row(
            key, GROUP, title, value, "ms", ceiling=commit, ceiling_name="a bare commit", rounds=details
        )
        row.ratio = value / commit
        rows.append(judged(row, goals.FREEZE))
    return rows


def _commit(folder: Path) -> float:
    """Return the median milliseconds of a bare durable commit of the same record on the same disk."""
    with closing(BareCommits(folder)) as commits:
        return commits.run(COMMIT_SECONDS).p50 / 1000
