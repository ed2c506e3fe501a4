"""The health of write-behind, for the log, the metrics and the health page (R-23)."""

from __future__ import annotations

from typing import Literal, NamedTuple

FlushState = Literal["idle", "waiting", "flushing", "retrying", "stalled"]


class Health(NamedTuple):
    """The state of write-behind at one moment.

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
        """Whether the last flush did not fail, and no commit is stalled."""
        return self.state not in ("retrying", "stalled")
