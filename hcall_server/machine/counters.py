"""The counters of the server: plain integers, read by the metrics of the control channel."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Totals since the start of the server.

    `calls` is by partition number, then by opcode and status.  `opens` is by the status of OPENED, `goodbyes`
    by the reason of the server's GOODBYEs.  Sizes are in bytes.
    """

    connections: int = 0
    calls: defaultdict[int, Counter[tuple[int, int]]] = field(default_factory=lambda: defaultdict(Counter))
    opens: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    goodbyes: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    batches: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    lost: int = 0
    """Connections that ended without a GOODBYE from either end."""
    crashed: int = 0
    """Connections that a bug in the server ended."""
