"""Figures from rounds: medians, and ratios of measurements of the same round."""

from __future__ import annotations

import statistics

from bench.loadgen import Measured


def median(rounds: list[Measured]) -> Measured:
    """Return the median of each figure."""
    return Measured(*(statistics.median(column) for column in zip(*rounds, strict=True)))


def paired_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return the median of the ratios of the rates, round by round."""
    # A ratio of two medians could pair a slow round of ours with a fast one of the ceiling.
    return statistics.median(one.rate / other.rate for one, other in zip(ours, ceiling, strict=True))


def p50_ratio(ours: list[Measured], other: list[Measured]) -> float:
    """Return the median of the ratios of p50, the other's to ours, round by round.

    For the same call at another size.  Pauses in which the kernel runs other processes do not change a
    median.
    """
    return statistics.median(b.p50 / a.p50 for a, b in zip(ours, other, strict=True))


def work_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return the median of the ratios of the CPU time of an operation, server and client together.

    On a core without other processes this is the ratio of the rates.  Other processes don't change it.
    """
    pairs = zip(ours, ceiling, strict=True)
    return statistics.median((b.server_cpu + b.load_cpu) / (a.server_cpu + a.load_cpu) for a, b in pairs)


def cpu_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return the median of the ratios of the server's CPU an operation."""
    return statistics.median(a.server_cpu / b.server_cpu for a, b in zip(ours, ceiling, strict=True))


def p99_ratio(ours: list[Measured], control: list[Measured]) -> float:
    """Return the median of the ratios of p99, round by round."""
    return statistics.median(a.p99 / b.p99 for a, b in zip(ours, control, strict=True))
