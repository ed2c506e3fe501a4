"""Growth of one store: the same calls and a flush, with different numbers of objects in the partition."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from functools import partial

from bench import goals
from bench.cases import Case
from bench.growth import GROUP, flat_rows, many
from bench.loadgen import Measured
from bench.measure import Bench
from bench.programs import (
    END,
    END_IF,
    LATER,
    OWNER,
    POLL,
    SESSION,
    START,
    Program,
    Workload,
    filled_partition,
    step_of,
)
from bench.results import Row, figure
from bench.servers import WAITING, Server
from hcall_client.calls import (
    confirm_object_flushed,
    get_object_labels,
    read_object,
    remove_object,
    write_object,
)
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import PartitionRecord, Sealer, seal_partition

KBYTES = 128
LABEL = b"bench-object"
HOLDS = 30
"""Flushes of which the median is taken."""


def objects(count: int) -> list[tuple[bytes, bytes]]:
    """Return labels of two bytes and data of one byte for so many objects."""
    return [(n.to_bytes(2, "big"), b"x") for n in range(count)]


def calls(count: int) -> HypervisorCalls:
    """Return the object that executes the h-calls of a partition with `count` objects.

    The partition is in this process.
    """
    return HypervisorCalls(filled_partition(objects(count), KBYTES))


def _read(count: int) -> Workload:
    last = objects(count)[-1][0]
    return [Program(SESSION, (step_of(calls(count), [read_object(OWNER, last, 64)]),))]


def _write(count: int) -> Workload:
    engine = calls(count)
    write = step_of(engine, [write_object(OWNER, LABEL, b"x")])
    return [Program(SESSION, (write, step_of(engine, [remove_object(OWNER, LABEL)])))]


def _labels(count: int) -> Workload:
    return [Program(SESSION, (step_of(calls(count), [get_object_labels(OWNER)]),))]


def _confirm(count: int) -> Workload:
    engine = calls(count)
    write, remove = write_object(OWNER, LABEL, b"x"), remove_object(OWNER, LABEL)
    confirm = confirm_object_flushed(OWNER, LABEL)
    first = step_of(engine, [write], 0)
    again = step_of(engine, [remove, write, confirm], START | END_IF)._replace(units=1)
    flushed = step_of(engine, [confirm], POLL | END | LATER)._replace(units=1)
    return [Program((*SESSION, first), (again, flushed), (step_of(engine, [remove], 0),))]


WORKLOADS = {
    "READ 1 B": _read,
    "LABELS (first page)": _labels,
    "WRITE + REMOVE 1 B": _write,
    "CONFIRMED 1 B": _confirm,
}


def object_rows(bench: Bench) -> list[Row]:
    """Return rows for more and more objects: the rate of calls, and the time of a flush."""
    counts = bench.effort.objects
    names = {count: f"objects{count}" for count in counts}
    found: dict[str, dict[int, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    cases = {
        (call, count): Case(
            f"{call.split()[0].lower()}-{count}", call, partial(make, count), 1, "same", nap=200.0
        )
        for call, make in WORKLOADS.items()
        for count in counts
    }
    programs = {key: bench.program(case) for key, case in cases.items()}
    state = bench.folder / "objects"
    # One server has the partitions of all sizes: they differ only in the number of objects.
    with Server(state, [f"{name}:{KBYTES}" for name in names.values()], WAITING) as server:
        for count, name in names.items():
            bench.progress(f"{count} objects")
            server.prepare(name, objects(count))
        bench.settle(server)
        for _ in bench.rounds("many objects"):
            for (call, count), case in cases.items():
                socket = server.socket(names[count])
                found[call][count].append(bench.run(case, socket, programs[call, count], server.pid))
    rows = []
    for call, each in found.items():
        rows += flat_rows("objects", call, each, goals.FLAT if call.startswith("READ") else None)
    return rows + hold_rows(bench)


def hold_rows(bench: Bench) -> list[Row]:
    """Return rows with the time to snapshot and seal a store: the event loop waits during this time."""
    rows = []
    for count in bench.effort.objects:
        with bench.real_time.here(bench.place.server):
            held = 1e3 * statistics.median(holds(count))
        goal = goals.HOLD if count == max(bench.effort.objects) else None
        title = f"a flush holds the loop, {many(count, 'object')}"
        rows.append(figure(f"hold-{count}", GROUP, title, held, "ms", goal))
    return rows


def holds(count: int) -> list[float]:
    """Return the seconds of several snapshots and seals.

    A change of the store precedes each of them.
    """
    partition = filled_partition(objects(count), KBYTES)
    engine, keystore = HypervisorCalls(partition), partition.keystore
    if keystore is None:
        raise RuntimeError("the benchmark's partition has a keystore")
    sealer = Sealer(SystemIdentity(bytes(16), bytes(32)), os.urandom)
    took = []
    for _ in range(HOLDS):
        # A change precedes each seal, because a server has a change before each flush.
        step_of(engine, [write_object(OWNER, LABEL, b"x"), remove_object(OWNER, LABEL)])
        began = time.perf_counter()
        # The time is measured in this process. From outside of a server, it would include the wait for the
        # event loop.
        seal_partition(sealer, PartitionRecord(partition.profile, keystore.contents.snapshot()))
        took.append(time.perf_counter() - began)
    return took
