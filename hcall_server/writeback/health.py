"""The health of write-behind, for the log, the metrics and the health page (R-23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from hcall_abi.errors import SwpksError
    from hcall_server.writeback.book import Book

FIRST_RETRY = 0.05
LAST_RETRY = 5.0
"""Seconds between tries while NVRAM refuses: doubling from the first to the last."""
STALL = 2.0
"""Seconds after which a commit that has not returned counts as stalled."""

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


class Tally:
    """How the landings went: their numbers, the error of the last one, the pause before the next try."""

    def __init__(self) -> None:
        self.commits = 0
        self.failures = 0
        self.error: SwpksError | None = None
        self.pause = 0.0

    def succeeded(self) -> bool:
        """Count a success; return whether it ends a trouble."""
        self.commits += 1
        ended, self.error, self.pause = self.error is not None, None, 0.0
        return ended

    def failed(self, error: SwpksError) -> None:
        """Count a failure; the next pause is twice the last one."""
        self.failures += 1
        self.error = error
        self.pause = min(max(2 * self.pause, FIRST_RETRY), LAST_RETRY)

    def health(self, book: Book, flying_since: float | None, now: float) -> Health:
        """Return how write-behind is doing; `flying_since` is None while no flight is under way."""
        return Health(
            state=self._state(book, flying_since, now),
            last_error=self.error.message if self.error else None,
            pending=book.pending,
            oldest_pending=now - book.oldest if book.pending else 0.0,
            commits=self.commits,
            failures=self.failures,
        )

    def _state(self, book: Book, flying_since: float | None, now: float) -> FlushState:
        if flying_since is not None and now - flying_since > STALL:
            return "stalled"
        if self.error:
            return "retrying"
        if flying_since is not None:
            return "flushing"
        return "idle" if book.clean else "waiting"
