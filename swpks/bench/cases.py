"""The cases of `swpks bench`, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

LARGE = 4000
"""Bytes of the large object: Linux stores at most a page in an object."""
SMALL = 64
MOST_SESSIONS = 16
"""Sessions of the largest case."""


class BenchCall(Enum):
    """The operation that a session repeats."""

    READ_SMALL = "READ 64 B"
    READ_LARGE = "READ 4000 B"
    CONFIRMED = "confirmed write 64 B"


class Case(NamedTuple):
    """One measurement: `sessions` at once, each with `depth` calls in flight."""

    key: str
    title: str
    call: BenchCall
    sessions: int = 1
    depth: int = 1


CASES = (
    Case("read-small", "READ 64 B, one by one", BenchCall.READ_SMALL),
    Case("read-large", "READ 4000 B, one by one", BenchCall.READ_LARGE),
    Case("read-small-deep", "READ 64 B, 16 in flight", BenchCall.READ_SMALL, 1, 16),
    Case("read-small-sessions", "READ 64 B, 16 sessions", BenchCall.READ_SMALL, 16),
    Case("confirmed-1", "WRITE until durable, 1 session", BenchCall.CONFIRMED),
    Case("confirmed-16", "WRITE until durable, 16 sessions", BenchCall.CONFIRMED, 16),
)
"""The measurements, in their order."""


class Figure(NamedTuple):
    """The result of a case.

    `rate` is in calls or in confirmed writes a second.  `p50` and `p99` are latencies in microseconds.  A
    latency is the time from the send of an operation to its last answer.  `client` is the share of the time
    in which this process used the CPU.
    """

    case: Case
    rate: float
    p50: float
    p99: float
    client: float


def summary(case: Case, took: Sequence[float], seconds: float, worked: float) -> Figure:
    """Return the figure of a case.

    `took` has the seconds of each operation, `seconds` is the time of the whole measurement, and `worked` is
    the CPU time of this process.
    """
    ordered = sorted(took)
    last = len(ordered) - 1
    calls = case.depth * len(ordered)
    p50, p99 = (1e6 * ordered[int(share * last)] for share in (0.5, 0.99))
    return Figure(case, calls / seconds, p50, p99, worked / seconds)
