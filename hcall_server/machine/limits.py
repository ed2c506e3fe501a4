"""The bounds of sessions and connections (spec/protocol.md#sessions, spec/service.md#configuration)."""

from __future__ import annotations

from dataclasses import dataclass

from hcall_abi.bounds import MAX_LIMIT
from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules

GRACE = 5
"""The divisor of `open_seconds` at a crowded listener: a connection has a fifth of it, 2 s by default.

An honest client answers HELLO in milliseconds.  Even on an overloaded host, this time is enough."""


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds and bounds in connections.

    `open_seconds`: from the connection to a good OPEN.  `idle_seconds`: without any byte from the
    client; 0 means no such limit.  `send_seconds`: for the answers to one batch of calls.
    `goodbye_seconds`: for the last frame.  `drain_seconds`: for the flushes when the server stops.
    `max_unopened`: connections of one listener without a session.  `max_sessions`: sessions of one partition.
    `min_sessions`: those of them that no other partition can take.  `max_connections`: sessions of all
    partitions.  OperatorError for a limit out of range.
    """

    open_seconds: float = 10.0
    idle_seconds: float = 3600.0
    send_seconds: float = 10.0
    goodbye_seconds: float = 1.0
    drain_seconds: float = 10.0
    max_unopened: int = 256
    max_sessions: int = 256
    min_sessions: int = 16
    max_connections: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= MAX_LIMIT or (value == 0 and name != "idle_seconds"):
                raise OperatorError(rules.LIMIT_RANGE, f"limits.{name} = {value}")

    @property
    def grace_seconds(self) -> float:
        """How long a connection of a crowded listener keeps its place without an OPEN."""
        return self.open_seconds / GRACE

    @property
    def kept_sessions(self) -> int:
        """How many sessions are kept for each partition that runs."""
        return min(self.min_sessions, self.max_sessions)
