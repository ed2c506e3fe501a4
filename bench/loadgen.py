"""The load generator: compiled when it is needed, run once a measurement."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("load.c")
WARM_UP = 0.15
"""Seconds of load before anything is counted."""


class Load(NamedTuple):
    """How a server is loaded; `core` None leaves the generator to the scheduler, `nap` is in microseconds."""

    connections: int = 1
    core: int | None = None
    nap: float = 0.0


class Measured(NamedTuple):
    """What one run measured: operations a second; latencies in microseconds.

    CPU is in microseconds an operation; `polls` is how often CONFIRM said "not yet", per operation.
    """

    rate: float
    p50: float
    p99: float
    server_cpu: float
    load_cpu: float
    polls: float


def compile_load(out: Path) -> Path:
    """Return the load generator's program, compiled anew where its source has changed."""
    program = out / "load"
    if program.exists() and program.stat().st_mtime >= SOURCE.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("no C compiler: `tools/debian-packages bench` installs gcc")
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, SOURCE], check=True)
    return program


def run_load(
    program: Path, socket: Path, workload: Path, load: Load, seconds: float, server: int
) -> Measured:
    """Load the server with process id `server`; RuntimeError when any answer is not a success."""
    command = [program, "--socket", socket, "--programs", workload, "--connections", load.connections]
    command += [
        "--seconds",
        seconds,
        "--warm-up",
        min(WARM_UP, seconds),
        "--nap-us",
        load.nap,
        "--server",
        server,
    ]
    if load.core is not None:
        command += ["--cpu", load.core]
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    units = found["units"]
    if not units:
        raise RuntimeError("the server answered nothing in time")
    micro = 1e6 / units
    return Measured(
        rate=units / found["seconds"],
        p50=found["p50_us"],
        p99=found["p99_us"],
        server_cpu=found["server_cpu"] * micro,
        load_cpu=found["load_cpu"] * micro,
        polls=found["polls"] / units,
    )
