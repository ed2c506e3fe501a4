"""NVRAM around another NVRAM: a subclass changes some operations, and the inner one does all others."""

from __future__ import annotations

from collections.abc import Mapping

from hcall_server.nvram.seam import CommitLimits, Mark, Nvram, Ownership


class NvramWrapper:
    """NVRAM around `inner`, for fault plans, simulations and judges."""

    def __init__(self, inner: Nvram) -> None:
        self.inner = inner

    @property
    def mark(self) -> Mark:
        """The mark of the inner NVRAM."""
        return self.inner.mark

    @property
    def old_number(self) -> int:
        """The inner NVRAM's number of the last commit at sealed level 1."""
        return self.inner.old_number

    @property
    def always_newest(self) -> bool:
        """Whether the inner NVRAM always has the newest records."""
        return self.inner.always_newest

    @property
    def ownership(self) -> Ownership | None:
        """The ownership of the inner NVRAM."""
        return self.inner.ownership

    @property
    def limits(self) -> CommitLimits | None:
        """The largest commit of the inner NVRAM."""
        return self.inner.limits

    def load(self) -> dict[str, bytes]:
        """Return the inner NVRAM's records."""
        return self.inner.load()

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Commit to the inner NVRAM."""
        self.inner.commit(changes)

    def last_commit(self) -> bytes | None:
        """Return the inner NVRAM's commit record."""
        return self.inner.last_commit()

    def close(self) -> None:
        """Close the inner NVRAM."""
        self.inner.close()
