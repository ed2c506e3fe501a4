"""Server processes that are measured: started, pinned to a core, looked at, ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from bench.programs import KBYTES, OBJECTS, preparation, write_answers
from hcall_client.blocking import BlockingChannel

ROOT = Path(__file__).resolve().parent.parent
SWPKS = Path(sys.executable).with_name("swpks")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An installed program finds its modules compiled; a start that compiles them anew is something else."""
PATIENCE = 30.0
"""Seconds that a process may take to start or to end."""


class Placement:
    """Which cores servers and load generator use; on a machine with one core, that one."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.server = cores[0]
        self.same = cores[0]
        self.split = cores[-1]

    def load(self, where: str) -> int:
        """Return the load generator's core: "same" as the server's, or "split"."""
        return {"same": self.same, "split": self.split}[where]


class Process:
    """A server in a process of its own, running from here on; `seconds_to_ready` is how long it took.

    `cpu_to_ready` is how much of that it worked, in seconds.

    `arguments` are its command line; "--ready-fd N" is added to them.
    """

    def __init__(self, arguments: Iterable[str | Path], log: Path) -> None:
        ours, theirs = os.pipe()
        command = [*map(str, arguments), "--ready-fd", str(theirs)]
        with log.open("ab") as out:
            began = time.perf_counter()
            # A session of its own: an interrupt from the terminal is the benchmark's to handle.
            self._child = subprocess.Popen(
                command,
                pass_fds=[theirs],
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        os.close(theirs)
        self._log = log
        try:
            self._await_ready(ours)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(ours)
        self.seconds_to_ready = time.perf_counter() - began
        self.cpu_to_ready = self.cpu_seconds()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.pid

    def _await_ready(self, descriptor: int) -> None:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE)
        if not ready or not os.read(descriptor, 4096):
            raise RuntimeError(
                f"the server did not get ready; {self._log} says:\n{self._log.read_text()[-2000:]}"
            )

    def pin(self, cores: Iterable[int]) -> None:
        """Keep all threads of the process on these cores."""
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far, in seconds."""
        return time.clock_gettime(~self.pid << 3 | 2)  # clock_getcpuclockid(3), as Linux has it

    def resident(self) -> float:
        """Return the resident memory in MB (10^6 bytes)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return kib * 1024 / 1e6

    def stop(self) -> None:
        """End the process with SIGTERM, as an operator would, and wait until it is over."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


class Echo(Process):
    """The echo server for one table of answers (bench/echo.py)."""

    def __init__(self, folder: Path, kind: str, answers: dict[int, bytes]) -> None:
        self.socket = folder / f"echo-{kind}.sock"
        self.socket.unlink(missing_ok=True)
        table = folder / f"echo-{kind}.answers"
        write_answers(table, answers)
        program: list[str | Path] = [
            sys.executable,
            "-m",
            "bench.echo",
            "--socket",
            self.socket,
            "--answers",
            table,
        ]
        super().__init__([*program, "--stream", kind], folder / "echo.log")


class Server(Process):
    """`swpks serve` with some partitions of `KBYTES` on a state folder."""

    def __init__(self, state: Path, partitions: Iterable[str] = ("bench",)) -> None:
        self.state = state
        names = list(partitions)
        asked = [f"--partition={name}:{KBYTES}" for name in names]
        super().__init__([SWPKS, "serve", "--state", state, *asked], state.with_suffix(".log"))
        self.names = names

    def socket(self, name: str = "bench") -> Path:
        """Return the socket of a partition."""
        return self.state / "run" / f"{name}.sock"

    def prepare(self, name: str = "bench", objects: Iterable[tuple[bytes, bytes]] = OBJECTS) -> None:
        """Bring a fresh partition to where every measurement begins."""
        with BlockingChannel.connect(self.socket(name), timeout=PATIENCE) as channel:
            for request in preparation(objects):
                channel.call(request)
