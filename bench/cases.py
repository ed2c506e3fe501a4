"""What is measured: the cases, their goals, and the peers' figures to hold them against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.programs import (
    LARGE,
    OBJECT_SIZE,
    SMALL,
    Workload,
    confirmed_writes,
    reads,
    writes_and_removes,
)


@dataclass(frozen=True)
class Goal:
    """What a figure shall reach: a ratio to its ceiling of at least `least`, or a value below `below`."""

    least: float | None = None
    below: float | None = None

    def __str__(self) -> str:
        return f"{self.least:g} of it" if self.least is not None else f"below {self.below:g}"

    def met(self, value: float, ratio: float | None) -> bool:
        """Say whether a figure and its ratio reach the goal."""
        if self.least is not None:
            return ratio is not None and ratio >= self.least
        return self.below is not None and value < self.below


@dataclass(frozen=True)
class Case:
    """One workload on one placement of server and load generator.

    `where`: "same" core, "split" over two.  `nap` is how many
    microseconds a client waits before it asks CONFIRM again.  `confirms` says that the ceiling is
    bare durable commits and not the echo.
    """

    key: str
    title: str
    workload: Callable[[], Workload]
    connections: int = 1
    where: str = "same"
    goal: Goal | None = None
    peers: str = ""
    nap: float = 0.0
    confirms: bool = False


_READ_PEERS = "swtpm NV read 1 KB 81,000/s; SoftHSM2 19,000/s"
_READ4_PEERS = "Redis 14,600/s; FastAPI 7,300/s; etcd 3,100/s; OpenBao 2,400/s"
_READ16_PEERS = "Redis at 50: 106,000/s; FastAPI 11,000/s; OpenBao 9,900/s; etcd 5,900/s"
_WRITE_PEERS = "swtpm NV write 4,600/s; SoftHSM2 390/s"

CALLS = (
    Case("read64", "READ 64 B, ping-pong", lambda: reads(SMALL, 64), goal=Goal(0.8), peers=_READ_PEERS),
    Case(
        "read4000",
        "READ 4000 B, ping-pong",
        lambda: reads(LARGE, OBJECT_SIZE),
        goal=Goal(0.8),
        peers=_READ4_PEERS,
    ),
    Case("write-remove", "WRITE + REMOVE 64 B, ping-pong", writes_and_removes, peers=_WRITE_PEERS),
    Case("read64-deep", "READ 64 B, 16 in flight", lambda: reads(SMALL, 64, 16)),
    Case("read4000-deep", "READ 4000 B, 16 in flight", lambda: reads(LARGE, OBJECT_SIZE, 16), goal=Goal(0.4)),
    Case("read64-1", "READ 64 B, 1 connection", lambda: reads(SMALL, 64), 1, "split"),
    Case("read64-16", "READ 64 B, 16 connections", lambda: reads(SMALL, 64), 16, "split", Goal(0.8)),
    Case("read64-64", "READ 64 B, 64 connections", lambda: reads(SMALL, 64), 64, "split"),
    Case(
        "read4000-16",
        "READ 4000 B, 16 connections",
        lambda: reads(LARGE, OBJECT_SIZE),
        16,
        "split",
        Goal(0.8),
        _READ16_PEERS,
    ),
    Case("write-remove-16", "WRITE + REMOVE, 16 connections", lambda: writes_and_removes(16), 16, "split"),
)
"""Held against the echo server."""

CONFIRMS = (
    Case(
        "confirm-1",
        "WRITE + CONFIRM, 1 client",
        lambda: confirmed_writes(1),
        1,
        "split",
        Goal(0.8),
        "Redis (always fsync) 3,700/s; etcd 1,500/s; OpenBao 770/s",
        nap=200.0,
        confirms=True,
    ),
    Case(
        "confirm-16",
        "WRITE + CONFIRM, 16 clients",
        lambda: confirmed_writes(16),
        16,
        "split",
        None,
        "Redis (always fsync) 27,000/s; etcd 5,100/s",
        nap=1000.0,
        confirms=True,
    ),
    Case(
        "confirm-64",
        "WRITE + CONFIRM, 64 clients",
        lambda: confirmed_writes(64),
        64,
        "split",
        Goal(8.0),
        "Redis at 50 (always fsync): 44,000/s",
        nap=6000.0,
        confirms=True,
    ),
)
"""Held against bare durable commits of the same NVRAM back end."""

START_GOAL = Goal(below=0.25)
"""Seconds from the start of the process to its ready line."""
START_PEERS = "swtpm 0.005; FastAPI 0.4; etcd 0.9; OpenBao 10"
FIXTURE_GOAL = Goal(below=0.005)
"""Seconds from nothing to a session with a partition in the process of a test."""
MEMORY_GOAL = Goal(below=45.0)
"""Resident MB (10^6 bytes) with one partition."""
MEMORY_PEERS = "swtpm 6.5; Redis 20; SoftHSM2 25; FastAPI 49; OpenBao 110; etcd 650"
