"""Goals of the figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """The goal of a figure.

    `least` and `most` bound the figure's ratio to the ceiling.  `below` bounds its value.  `cpu` is the
    largest allowed ratio of two CPU times: one operation of the server, and one operation of the ceiling.
    """

    least: float | None = None
    most: float | None = None
    below: float | None = None
    cpu: float | None = None

    def __str__(self) -> str:
        bounds = []
        if self.least is not None:
            bounds.append(f"at least {self.least:g}")
        if self.most is not None:
            bounds.append(f"at most {self.most:g}")
        if self.below is not None:
            bounds.append(f"below {self.below:g}")
        if self.cpu is not None:
            bounds.append(f"CPU at most {self.cpu:g}")
        return ", ".join(bounds)

    def met(self, value: float, ratio: float | None = None, cpu: float | None = None) -> bool:
        """Return whether a figure, its ratio and its CPU ratio reach the goal.

        If the goal bounds a ratio that is missing, the result is False.
        """
        return (
            (self.least is None or (ratio is not None and ratio >= self.least))
            and (self.most is None or (ratio is not None and ratio <= self.most))
            and (self.below is None or value < self.below)
            and (self.cpu is None or (cpu is not None and cpu <= self.cpu))
        )

    @property
    def mark(self) -> float | None:
        """The ratio at which the plot has the line of the goal."""
        return self.least if self.least is not None else self.most


START = Goal(most=1.5)
"""The time from the start of the process to its ready line, of that of a process that only imports trio."""
FIXTURE = Goal(below=0.005)
"""Seconds from nothing to a session with a partition in the process of a test."""
MEMORY = Goal(below=45.0)
"""Resident MB (10^6 bytes) with one partition."""
TAKE_OVER = Goal(below=8.0)
"""Seconds from the death of an owner of NVRAM to its standby: a lease of 6 seconds, and 2 more."""
FLAT = Goal(least=0.9)
"""The rate of a grown server, of that of the same server with one partition or one connection."""
HOLD = Goal(below=0.3)
"""Milliseconds in which the flush of a full store holds the event loop: snapshot and seal."""
NEIGHBOUR = Goal(most=2.0)
"""The p99 of a neighbour's READ under a flood, of that under the same flood of another server."""
CONSOLE = Goal(below=1.0)
"""Longest seconds that the console waits for an answer under a flood."""
FREEZE = Goal(below=20.0)
"""Milliseconds in which a client of a partition that moves has no answer."""
DEMO = Goal(below=30.0)
"""Seconds of the demo."""
