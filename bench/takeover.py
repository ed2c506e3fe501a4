"""The time from the death of an owner of NVRAM on etcd to the ready line of its standby."""

# Each owner is killed, and its standby is the next owner.  A standby is a new folder with the anchor card and
# the TPM of the owner.  Each keep-alive begins the time of the lease anew, at least once a second.  So at
# most a second of the lease is over at the moment of the kill.  etcd ends leases twice a second.

from __future__ import annotations

import os
import shutil
import signal
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench import goals
from bench.back_ends import MISSING
from bench.etcd import EtcdMembers, installed
from bench.measure import Bench
from bench.processes import PATIENCE
from bench.results import Row, judged
from bench.servers import Server

GROUP = "take-over of NVRAM on etcd"
PARTS = ("anchor-card", "tpm")
"""The folders that a standby has from the first server."""


def take_over_rows(bench: Bench) -> list[Row]:
    """Return the row of the median take-over, on three members."""
    effort = bench.effort
    row = Row("take-over", GROUP, f"median of {effort.take_overs}, lease of {effort.lease} s", None, "s")
    if not installed():
        row.note = MISSING
        return [row]
    times = take_overs(bench, effort.take_overs, effort.lease)
    row.value, row.p50 = statistics.median(times), 1e6 * statistics.median(times)
    row.p99 = 1e6 * max(times)
    row.rounds = {"seconds": [{"seconds": each} for each in times]}
    return [judged(row, goals.TAKE_OVER)]


def take_overs(bench: Bench, count: int, lease: int) -> list[float]:
    """Return the seconds of each take-over."""
    folder = bench.folder / "take-over"
    folder.mkdir()
    with ExitStack() as stack:
        cluster = EtcdMembers(folder / "etcd", 3)
        stack.callback(cluster.close)
        pool = stack.enter_context(ThreadPoolExecutor())
        options = ["--nvram", f"etcd:{','.join(cluster.endpoints)}", "--nvram-lease", str(lease)]
        owner = stack.enter_context(Server(folder / "0", options=options))
        owner.prepare()
        times = []
        for number in range(1, count + 1):
            bench.progress(f"take-over {number} of {count}")
            state = folder / str(number)
            started = _waiting(pool, state, options, owner.state)
            began = time.perf_counter()
            os.kill(owner.pid, signal.SIGKILL)
            owner = stack.enter_context(started.result())
            times.append(time.perf_counter() - began)
    return times


def _waiting(pool: ThreadPoolExecutor, state: Path, options: list[str], first: Path) -> Future[Server]:
    """Start a standby with the parts of another server; return its future when it waits."""
    state.mkdir(mode=0o700)
    for part in PARTS:
        shutil.copytree(first / part, state / part)
    log = state.with_suffix(".log")
    started = pool.submit(Server, state, (), [*options, "--standby"])
    until = time.monotonic() + PATIENCE
    while not (log.exists() and "nvram.waits" in log.read_text()):
        if started.done() or time.monotonic() > until:
            raise RuntimeError(f"the standby does not wait: see {log}")
        time.sleep(0.01)
    return started
