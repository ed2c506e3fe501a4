"""What write-behind tells of itself, for the log, the metrics and the health page (R-23)."""

from __future__ import annotations

from typing import Literal, NamedTuple

FlushState = Literal["idle", "waiting", "flushing", "retrying", "stalled"]


class Health(NamedTuple):
    """How write-behind is doing.

    `pending` counts partitions with changes that are not durable; `oldest_pending` is how many
    seconds the oldest of those changes has waited.
    """

    state: FlushState
    last_error: str | None
    pending: int
    oldest_pending: float
    commits: int
    failures: int

    @property
    def ok(self) -> bool:
        """Whether NVRAM does what it is asked, as far as anybody knows."""
        return self.state not in ("retrying", "stalled")
