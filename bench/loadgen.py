"""Compiles the load generator and the flood if their sources have changed, and runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
WARM_UP = 0.15
"""Seconds of load before anything is counted."""
LONGEST_FLOOD = 120.0
"""Seconds after which a flood ends by itself, if the benchmark has died."""


class Load(NamedTuple):
    """The settings of the load generator.

    With `core` None the scheduler chooses its core.  `nap` is in microseconds.  `protocol` is that of the
    answers: hcall, redis or tpm.  With `fifo`, the generator runs under SCHED_FIFO.
    """

    connections: int = 1
    core: int | None = None
    nap: float = 0.0
    fifo: bool = False
    protocol: str = "hcall"


class Measured(NamedTuple):
    """The result of one run: operations a second; latencies in microseconds.

    CPU is in microseconds an operation; `polls` is the number of "not yet" answers of CONFIRM, per operation.
    """

    rate: float
    p50: float
    p99: float
    server_cpu: float
    load_cpu: float
    polls: float


class Flooded(NamedTuple):
    """The result of a flood: answers a second, bytes sent a second, and the number of sessions that ended."""

    answers: float
    sent: float
    ended: int


def compiled(out: Path, name: str) -> Path:
    """Return the program for the C source `name` in this folder; compile it if the source is newer."""
    program, source = out / name, HERE / f"{name}.c"
    # The header is shared, so a change of it compiles both programs.
    newest = max(path.stat().st_mtime for path in (source, HERE / "load.h"))
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("no C compiler: `tools/debian-packages bench` installs gcc")
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program


class NoAnswer(RuntimeError):
    """The server did not answer in time."""


def run_load(
    program: Path, socket: Path, workload: Path, load: Load, seconds: float, server: int
) -> Measured:
    """Load the server with process id `server`; RuntimeError when any answer is not a success."""
    command = _command(program, socket, workload, load, seconds, server)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 90, check=False)
    return _measured(done.returncode, done.stdout, done.stderr)


def start_load(
    program: Path, socket: Path, workload: Path, load: Load, seconds: float, server: int
) -> subprocess.Popen[str]:
    """Start a load generator, and return when its sessions are open; its load begins with `finish_load`."""
    command = [*_command(program, socket, workload, load, seconds, server), "--on-demand"]
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    if child.stdout is None or child.stdout.readline() != "open\n":
        raise RuntimeError(f"the load generator failed: {child.communicate()[1].strip()}")
    return child


def finish_load(child: subprocess.Popen[str]) -> Measured:
    """Start the load of a waiting generator, and return its result."""
    output, complaint = child.communicate("\n")
    return _measured(child.returncode, output, complaint)


def _measured(status: int, output: str, complaint: str) -> Measured:
    # If the server does not answer in time, that is a result: a flood may cause it. Any other failure is a
    # failure of the benchmark.
    if "the last answers did not come" in complaint:
        raise NoAnswer(complaint.strip())
    if status:
        raise RuntimeError(f"the load generator failed ({status}): {complaint.strip()}")
    found = json.loads(output)
    units = found["units"]
    if not units:
        raise NoAnswer("the server answered nothing in time")
    micro = 1e6 / units
    return Measured(
        rate=units / found["seconds"],
        p50=found["p50_us"],
        p99=found["p99_us"],
        server_cpu=found["server_cpu"] * micro,
        load_cpu=found["load_cpu"] * micro,
        polls=found["polls"] / units,
    )


def _command(
    program: Path, socket: Path, workload: Path, load: Load, seconds: float, server: int
) -> list[str]:
    words = {
        "--socket": socket,
        "--programs": workload,
        "--connections": load.connections,
        "--seconds": seconds,
        "--warm-up": min(WARM_UP, seconds),
        "--nap-us": load.nap,
        "--server": server,
        "--protocol": load.protocol,
    }
    if load.core is not None:
        words["--cpu"] = load.core
    command = [str(program), *(str(word) for pair in words.items() for word in pair)]
    return [*command, "--fifo"] if load.fifo else command


@contextmanager
def flooding(
    program: Path, socket: Path, workload: Path, sessions: int, core: int
) -> Iterator[list[Flooded]]:
    """Flood a server during the block; the yielded list has the result after the block."""
    command = [program, "--socket", socket, "--programs", workload]
    command += ["--sessions", sessions, "--seconds", LONGEST_FLOOD, "--cpu", core]
    done: list[Flooded] = []
    with subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C must reach only the benchmark, which then ends the flood and reads its figures.
        start_new_session=True,
    ) as child:
        try:
            if child.stdout is None or child.stdout.readline() != "flooding\n":
                raise RuntimeError(f"the flood failed: {child.communicate()[1].strip()}")
            yield done
        finally:
            child.terminate()
            output, complaint = child.communicate()
        if child.returncode:
            raise RuntimeError(f"the flood failed ({child.returncode}): {complaint.strip()}")
    found = json.loads(output)
    took = found["seconds"] or 1.0
    done.append(Flooded(found["answers"] / took, found["bytes"] / took, found["ended"]))
