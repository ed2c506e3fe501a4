"""The cases that are compared with the echo server or with bare commits, and their goals.

Goals of growth, of neighbours and of starts are in `bench.goals`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.goals import Goal
from bench.programs import (
    LARGE,
    OBJECT_SIZE,
    SMALL,
    Workload,
    confirmed_writes,
    polled_writes,
    reads,
    writes_and_removes,
)


@dataclass(frozen=True)
class Case:
    """One workload on one placement of server and load generator.

    With `where` "same", server and load generator share a core; with "split", each has its own core.  `nap`
    is the time in microseconds that a client waits before it calls CONFIRM again.  If `confirms` is true, the
    ceiling is bare durable commits, not the echo.  If `waits` is true, the server's CONFIRM waits for the
    flush.
    """

    key: str
    title: str
    workload: Callable[[], Workload]
    connections: int = 1
    where: str = "same"
    goal: Goal | None = None
    nap: float = 0.0
    confirms: bool = False
    waits: bool = False


def _read64(connections: int, goal: Goal | None = None) -> Case:
    return Case(
        f"read64-{connections}",
        f"READ 64 B, {connections} connection{'s' if connections > 1 else ''}",
        lambda: reads(SMALL, 64),
        connections,
        "split",
        goal,
    )


CALLS = (
    Case("read64", "READ 64 B, ping-pong", lambda: reads(SMALL, 64), goal=Goal(0.95)),
    Case("read4000", "READ 4000 B, ping-pong", lambda: reads(LARGE, OBJECT_SIZE), goal=Goal(0.95)),
    Case("write-remove", "WRITE + REMOVE 64 B, ping-pong", writes_and_removes),
    Case("read64-deep", "READ 64 B, 16 in flight", lambda: reads(SMALL, 64, 16)),
    Case(
        "read4000-deep", "READ 4000 B, 16 in flight", lambda: reads(LARGE, OBJECT_SIZE, 16), goal=Goal(0.44)
    ),
    _read64(1),
    _read64(16, Goal(1.0)),
    _read64(64, Goal(1.3)),
    Case(
        "read4000-16",
        "READ 4000 B, 16 connections",
        lambda: reads(LARGE, OBJECT_SIZE),
        16,
        "split",
        Goal(1.0),
    ),
    Case("write-remove-16", "WRITE + REMOVE, 16 connections", lambda: writes_and_removes(16), 16, "split"),
)
"""The cases that are compared with the echo server."""

_NAPS = {1: 200.0, 16: 1000.0, 64: 6000.0}


def _plural(clients: int) -> str:
    return "1 client" if clients == 1 else f"{clients} clients"


def _confirmed(clients: int, goal: Goal) -> Case:
    """Return a case whose CONFIRM waits for the flush, so that no poll is needed."""
    return Case(
        f"confirm-{clients}",
        f"WRITE + CONFIRM that waits, {_plural(clients)}",
        lambda: confirmed_writes(clients),
        clients,
        "split",
        goal,
        _NAPS[clients],
        confirms=True,
        waits=True,
    )


def _polled(clients: int, goal: Goal) -> Case:
    """Return a case whose CONFIRM answers at once, so that the client polls."""
    return Case(
        f"poll-{clients}",
        f"WRITE + CONFIRM by polling, {_plural(clients)}",
        lambda: polled_writes(clients),
        clients,
        "split",
        goal,
        _NAPS[clients],
        confirms=True,
    )


CONFIRMS = (
    _confirmed(1, Goal(0.45)),
    _confirmed(16, Goal(3.5)),
    _confirmed(64, Goal(6.5)),
    # Each goal is a little below the rate of the first encryptor, at half of its CPU time. Its rates were
    # 0.27, 1.23 and 2.12 times the rate of bare commits. One of its operations took 4.1, 1.19 and 0.69 times
    # the CPU time of a bare commit.
    _polled(1, Goal(0.25, cpu=2.0)),
    _polled(16, Goal(1.15, cpu=0.6)),
    _polled(64, Goal(2.0, cpu=0.35)),
)
"""The cases that are compared with bare durable commits of the same NVRAM back end."""
