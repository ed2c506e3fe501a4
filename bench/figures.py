"""Figures from rounds: medians, and ratios between two measurements in the same round."""

from __future__ import annotations

import statistics

from bench.loadgen import Measured


def median(rounds: list[Measured]) -> Measured:
    """Return the median of each figure over all rounds."""
    return Measured(*(statistics.median(column) for column in zip(*rounds, strict=True)))


def paired_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return our rate divided by the ceiling's rate: the median of the ratios of all rounds."""
    # A ratio of two medians could pair a slow round of ours with a fast one of the ceiling.
    return statistics.median(one.rate / other.rate for one, other in zip(ours, ceiling, strict=True))


def p50_ratio(ours: list[Measured], other: list[Measured]) -> float:
    """Return the other p50 divided by our p50: the median of the ratios of all rounds.

    It compares the same call at two sizes.  Pauses in which the kernel runs other processes do not change a
    median.
    """
    return statistics.median(b.p50 / a.p50 for a, b in zip(ours, other, strict=True))


def work_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return the ceiling's CPU time of one operation divided by ours: the median of the ratios of all rounds.

    The CPU time is that of server and client together.  On a core without other processes, the result is
    the ratio of the rates.  Unlike that ratio, it does not change if other processes run.
    """
    pairs = zip(ours, ceiling, strict=True)
    return statistics.median((b.server_cpu + b.load_cpu) / (a.server_cpu + a.load_cpu) for a, b in pairs)


def cpu_ratio(ours: list[Measured], ceiling: list[Measured]) -> float:
    """Return our server's CPU time of one operation divided by that of the ceiling.

    The result is the median of the ratios of all rounds.
    """
    return statistics.median(a.server_cpu / b.server_cpu for a, b in zip(ours, ceiling, strict=True))


def p99_ratio(ours: list[Measured], control: list[Measured]) -> float:
    """Return our p99 divided by the control's p99: the median of the ratios of all rounds."""
    return statistics.median(a.p99 / b.p99 for a, b in zip(ours, control, strict=True))
