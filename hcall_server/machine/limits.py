"""The bounds of sessions and connections (spec/protocol.md#sessions, spec/service.md#configuration)."""

from __future__ import annotations

from dataclasses import dataclass

from hcall_abi.bounds import MAX_LIMIT
from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds and bounds in connections, of the whole server unless they say else.

    `open_seconds`: from the connection to a good OPEN.  `idle_seconds`: without any byte from the
    client; 0 means no such limit.  `send_seconds`: for the answers to one batch of calls.
    `goodbye_seconds`: how long a last frame may take to leave.  `drain_seconds`: for the last
    flush when the server stops.  `max_unopened`: connections without a session; one more ends the
    oldest.  `max_sessions`: sessions of one partition.  `max_connections`: all connections.
    OperatorError for a limit out of range.
    """

    open_seconds: float = 10.0
    idle_seconds: float = 3600.0
    send_seconds: float = 10.0
    goodbye_seconds: float = 1.0
    drain_seconds: float = 10.0
    max_unopened: int = 64
    max_sessions: int = 256
    max_connections: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= MAX_LIMIT or (value == 0 and name != "idle_seconds"):
                raise OperatorError(rules.LIMIT_RANGE, f"limits.{name} = {value}")
