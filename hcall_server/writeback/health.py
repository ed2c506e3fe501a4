"""The health of write-behind, for the log, the metrics and the health page (R-23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from hcall_abi.errors import SwpksError
    from hcall_server.writeback.book import Book

FIRST_RETRY = 0.05
"""Seconds before the first retry of a failed flight; each further pause is twice as long."""
LAST_RETRY = 5.0
"""The longest pause before a retry, in seconds."""
STALL = 2.0
"""Seconds after which a commit that has not returned counts as stalled."""

FlushState = Literal["idle", "waiting", "flushing", "retrying", "stalled"]


class Health(NamedTuple):
    """The state of write-behind at one moment.

    `pending` is the number of partitions with changes that are not durable.  `oldest_pending` is the age of
    the oldest of these changes in seconds.
    """

    state: FlushState
    last_error: str | None
    pending: int
    oldest_pending: float
    commits: int
    failures: int

    @property
    def ok(self) -> bool:
        """Whether NVRAM takes commits: none is stalled, and the last flush, if any, succeeded."""
        return self.state not in ("retrying", "stalled")


class Tally:
    """Counts of landings by outcome.

    Also the last error until a flush succeeds, and the pause before a retry.
    """

    def __init__(self) -> None:
        self.commits = 0
        self.failures = 0
        self.error: SwpksError | None = None
        self.pause = 0.0

    def succeeded(self) -> bool:
        """Count a success; return whether the landing before it had failed."""
        self.commits += 1
        ended, self.error, self.pause = self.error is not None, None, 0.0
        return ended

    def failed(self, error: SwpksError) -> None:
        """Count a failure; the next pause is twice the last one."""
        self.failures += 1
        self.error = error
        self.pause = min(max(2 * self.pause, FIRST_RETRY), LAST_RETRY)

    def health(self, book: Book, flying_since: float | None, now: float) -> Health:
        """Return the health at time `now`; `flying_since` is None while no flight is under way."""
        return Health(
            state=self._state(book, flying_since, now),
            last_error=self.error.message if self.error else None,
            pending=book.pending,
            oldest_pending=now - book.oldest if book.pending else 0.0,
            commits=self.commits,
            failures=self.failures,
        )

    def _state(self, book: Book, flying_since: float | None, now: float) -> FlushState:
        # "retrying" has priority over "flushing".  The error stands until a flight succeeds, even while the
        # next one is under way.  Otherwise each retry would change the state to "flushing" and back.
        if flying_since is not None and now - flying_since > STALL:
            return "stalled"
        if self.error:
            return "retrying"
        if flying_since is not None:
            return "flushing"
        return "idle" if book.clean else "waiting"
