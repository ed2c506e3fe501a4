"""The check that the files of an open NVRAM stay in place (spec/service.md#files-in-place)."""

from __future__ import annotations

from pathlib import Path

from hcall_server.files import InPlace


class NvramFiles:
    """The check that the paths of NVRAM's three files still name the files that are open."""

    def __init__(self, database: Path, log: Path, mark: Path) -> None:
        self._database = InPlace(database, ours=True)
        self._log = InPlace(log, ours=True)
        # The mark is written after each commit, so its time may change between two checks.  So it has no
        # `ours`.
        self._mark = InPlace(mark)

    def trouble(self) -> str | None:
        """Return why one of the files is not as after the last commit, None if all are."""
        return self._database.trouble() or self._log.trouble() or self._mark.trouble()

    def written(self) -> str | None:
        """Store size and time of the files after a commit.

        Return why a path does not name its open file any more, None if all paths do.
        """
        # Both are called, even if the first call has a finding.
        database, log = self._database.written(), self._log.written()
        return database or log or self._mark.trouble()

    @property
    def only_log_lost(self) -> bool:
        """Whether the database is unchanged, and the path of its log names no file or another file."""
        return self._database.trouble() is None and self._log.lost() is not None
