"""Measured processes: started, pinned to a core, observed, ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from bench.realtime import each_thread

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of servers.  They may write compiled modules: an installed program has them, too."""
PATIENCE = 60.0
"""Seconds that a process may take to start or to end."""
Word = str | Path
"""A word of a command line."""


class Placement:
    """The cores of servers and load generator; both have the same core on a machine with one core."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.server = cores[0]
        self.same = cores[0]
        self.split = cores[-1]

    def load(self, where: str) -> int:
        """Return the core of the load generator: for "same" the server's core, for "split" another core."""
        return {"same": self.same, "split": self.split}[where]


class Child:
    """A process that the benchmark starts and ends.

    `program` is the file to run, if its name differs from the first of `arguments`.
    """

    def __init__(
        self,
        arguments: Iterable[Word],
        log: Path,
        *,
        program: str | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._log = log
        with log.open("ab") as out:
            # The child gets a new session of the terminal: Ctrl-C must reach only the benchmark.
            self._child = subprocess.Popen(
                [*map(str, arguments)],
                executable=program,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env=ENVIRONMENT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.pid

    @property
    def runs(self) -> bool:
        """Whether the process still runs."""
        return self._child.poll() is None

    def failed(self) -> RuntimeError:
        """Return the error for a process that failed or did not become ready.

        Its message contains the end of the process's log.
        """
        return RuntimeError(
            f"the process failed or did not get ready; {self._log} says:\n{self._log.read_text()[-2000:]}"
        )

    def pin(self, cores: Iterable[int]) -> None:
        """Keep all threads of the process on these cores."""
        each_thread(self.pid, lambda thread: os.sched_setaffinity(thread, cores))

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far, in seconds."""
        # The number is the clock id that clock_getcpuclockid(3) returns on Linux.
        return time.clock_gettime(~self.pid << 3 | 2)

    def resident(self) -> float:
        """Return the resident memory in MB (10^6 bytes)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return kib * 1024 / 1e6

    def wait(self) -> None:
        """Wait until the process has ended by itself; RuntimeError if it failed."""
        if self._child.wait():  # with a timeout, Python would look only each 50 ms
            raise self.failed()

    def stop(self) -> None:
        """End the process with SIGTERM, as an operator would, and wait for its end."""
        if self.runs:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


class Process(Child):
    """A process that reports when it is ready; `seconds_to_ready` is the time until then.

    `cpu_to_ready` is its CPU time until then, in seconds.  "--ready-fd N" is added to `arguments`.
    """

    def __init__(self, arguments: Iterable[Word], log: Path) -> None:
        ours, theirs = os.pipe()
        began = time.perf_counter()
        super().__init__([*arguments, "--ready-fd", str(theirs)], log, descriptors=[theirs])
        # This end of the pipe is closed here. Otherwise the read would never end if the process ended before
        # its ready line.
        os.close(theirs)
        try:
            self._await_ready(ours)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(ours)
        self.seconds_to_ready = time.perf_counter() - began
        self.cpu_to_ready = self.cpu_seconds()

    def _await_ready(self, descriptor: int) -> None:
        """Read to the end of the ready line: with a thousand partitions it comes in pieces."""
        line, poll = b"", select.poll()  # select() knows no descriptor above 1023
        poll.register(descriptor, select.POLLIN)
        while not line.endswith(b"\n"):
            piece = os.read(descriptor, 1 << 16) if poll.poll(1000 * PATIENCE) else b""
            if not piece:
                raise self.failed()
            line += piece


def seconds_to_import(folder: Path) -> float:
    """Return the seconds of a process that only imports trio, from its start to its end."""
    began = time.perf_counter()
    child = Child([sys.executable, "-c", "import trio"], folder / "import.log")
    child.wait()
    return time.perf_counter() - began
