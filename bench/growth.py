"""Growth: the rate of calls and the server's memory for different numbers of partitions or connections.

The servers of all sizes run at the same time, and each round measures all of them.  So a ratio compares
measurements of the same round.
"""

from __future__ import annotations

import os
import resource
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import goals
from bench.cases import Case
from bench.figures import median, p50_ratio
from bench.goals import Goal
from bench.loadgen import Measured
from bench.measure import Bench
from bench.programs import OPEN, SMALL, reads
from bench.results import Row, compared, figure, judged
from bench.servers import Server

GROUP = "growth"
KBYTES = 4
"""Size of the keystore of each partition, of which there are many."""
SPARE_DESCRIPTORS = 200
"""Descriptors that a server and the benchmark need beside those of connections."""
READ = Case("growth-read64", "READ 64 B", lambda: reads(SMALL, 64))


def partition_rows(bench: Bench) -> list[Row]:
    """Return rate, memory and start of servers with more and more partitions; READs are in one partition."""
    with ExitStack() as stack:
        servers = {}
        for count in bench.effort.partitions:
            bench.progress(f"{count} partitions")
            names = [f"lpar{n:04}:{KBYTES}" for n in range(count)]
            state = bench.folder / f"partitions-{count}"
            with Server(state, names) as first:  # this start makes the partitions, so it is not measured
                first.prepare("lpar0000", [(SMALL, bytes(64))])
            with bench.real_time.here(bench.place.server):
                servers[count] = stack.enter_context(Server(state, names))
            servers[count].prepare("lpar0000", [])
        memory = {count: server.resident() for count, server in servers.items()}
        rows = _flat(bench, "partitions", servers, "lpar0000")
        seconds = {count: server.seconds_to_ready for count, server in servers.items()}
    rows += [
        figure(f"start-partitions-{n}", GROUP, f"start to ready, {many(n, 'partition')}", seconds[n], "s")
        for n in seconds
    ]
    return rows + _memory("partition", memory)


def connection_rows(bench: Bench) -> list[Row]:
    """Return rate and memory of servers with more and more open sessions; one session makes calls."""
    limit = _raise_descriptors()
    wanted = bench.effort.connections
    # A size above the limit is reported as not measured, and not as a failure.
    counts = [n for n in wanted if n + SPARE_DESCRIPTORS <= limit]
    most = max(counts) + SPARE_DESCRIPTORS
    # The default bounds are lower than the sizes here, and idle sessions would be closed.
    toml = f"[limits]\nmax_sessions = {most}\nmax_connections = {most}\nidle_seconds = 0\n"
    with ExitStack() as stack:
        servers = {}
        for count in counts:
            bench.progress(f"{count} connections")
            state = bench.folder / f"connections-{count}"
            server = servers[count] = stack.enter_context(Server(state, toml=toml))
            server.prepare(objects=[(SMALL, bytes(64))])
            stack.enter_context(idle_sessions(server.socket(), count - 1))
        memory = {count: server.resident() for count, server in servers.items()}
        rows = _flat(bench, "connections", servers, "bench")
    note = f"not measured: the hard limit of open files is {limit}"
    rows += [
        Row(f"connections-{n}", GROUP, many(n, "connection"), None, "/s", note=note)
        for n in wanted
        if n not in counts
    ]
    return rows + _memory("connection", memory)


def _flat(bench: Bench, what: str, servers: dict[int, Server], name: str) -> list[Row]:
    """Return rows with the rate of each server, compared with the server of the smallest size."""
    program = bench.program(READ)
    found: dict[int, list[Measured]] = defaultdict(list)
    for server in servers.values():
        bench.settle(server)
    for _ in bench.rounds(f"READ, {what}"):
        for count, server in servers.items():
            found[count].append(bench.run(READ, server.socket(name), program, server.pid))
    return flat_rows(what, "READ 64 B", found, goals.FLAT)


def flat_rows(what: str, call: str, found: dict[int, list[Measured]], goal: Goal | None) -> list[Row]:
    """Return a row for each size; every other size is compared with the smallest."""
    least = min(found)
    rows = []
    for count, rounds in found.items():
        title = f"{call}, {many(count, what.removesuffix('s'))}"
        key = (
            f"{what}-{count}"
            if call.startswith("READ")
            else f"{what}-{call.split(maxsplit=1)[0].lower()}-{count}"
        )
        if count == least:
            one = median(rounds)
            rows.append(Row(key, GROUP, title, one.rate, "/s", "same", one.p50, one.p99, one.server_cpu))
            continue
        both = {"swpks": rounds, "least": found[least]}
        row = compared(key, GROUP, title, "same", both, f"with {least}", "least")
        # The ratio of the p50 is used, not that of the rates. Under SCHED_FIFO the kernel takes a twentieth
        # of each second. Such a pause changes the rate of a run, but not its median.
        row.ratio = p50_ratio(rounds, found[least])
        rows.append(judged(row, goal))
    return rows


def many(count: int, what: str) -> str:
    """Return a number with its noun, such as "1,000 partitions"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _memory(what: str, found: dict[int, float]) -> list[Row]:
    """Return rows with the resident memory for each number of things, and for each further thing."""
    least, most = min(found), max(found)
    rows = [figure(f"memory-{what}s-{n}", GROUP, f"memory, {many(n, what)}", found[n], "MB") for n in found]
    if most > least:
        # Both sizes include the memory of the interpreter. Their difference does not.
        each = 1000 * (found[most] - found[least]) / (most - least)
        rows.append(figure(f"memory-per-{what}", GROUP, f"memory of each further {what}", each, "KB"))
    return rows


def _raise_descriptors() -> int:
    """Raise the soft limit of open files, and return it.

    Servers that are started later inherit the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def idle_sessions(path: Path, count: int) -> Iterator[None]:
    """Open sessions that make no calls with a partition, and close them after the block."""
    with ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(os.fspath(path))
            sock.sendall(OPEN)
            _await_opened(sock)
        yield


def _await_opened(sock: socket.socket) -> None:
    """Receive HELLO and OPENED; RuntimeError if the session is refused."""
    for kind in (1, 3):
        header = sock.recv(16, socket.MSG_WAITALL)
        body = sock.recv(int.from_bytes(header[12:16], "big"), socket.MSG_WAITALL)
        if header[5:6] != bytes([kind]) or (kind == 3 and any(body[:4])):
            raise RuntimeError(f"a session of many is refused: {header.hex()} {body.hex()}")
