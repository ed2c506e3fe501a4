"""Checks each commit to a simulated etcd against the records that the cluster really has."""

# The judge knows more than any client: it sees each revision of the cluster's store at the moment at which it
# is made. So it checks the promise of the NVRAM seam itself, at each step:
#
#   1. When a commit has returned, the store has its records, and the server that commits owns them.
#   2. After a commit has returned, none that began before it takes effect. A load and a read of the commit
#      record settle all earlier commits in the same way.
#   3. A commit takes effect only while its server owns the records.
#   4. A load returns the records that the store has.
#
# A broken promise shows here at once. Without the judge, it shows later: a system refuses its records at a
# start, or a guest misses a write that was confirmed (tests/simulation/test_etcd.py tries both ways).
#
# A commit is recognised by the bytes of its records. Each record is sealed with a nonce of its own, so no two
# commits put the same bytes. The token in the commit key is not used: it is part of the code under test.

from __future__ import annotations

from collections.abc import Callable, Mapping

Records = Mapping[str, bytes | None]


class CommitJudge:
    """The judge of one system's commits.

    `present` returns the owner and the records in the cluster, `fail` reports a broken promise.
    """

    def __init__(
        self, name: str, present: Callable[[], tuple[str, dict[str, bytes]]], fail: Callable[[str], None]
    ) -> None:
        self._name = name
        self._present = present
        self._fail = fail
        self._begun = 0
        self._settled = 0
        self._by_blob: dict[bytes, tuple[int, str]] = {}
        """For each record of a commit: the number of the commit, and its owner."""

    def __repr__(self) -> str:
        return f"CommitJudge({self._name!r}, {self._settled} of {self._begun})"

    def begin(self, owner: str, changes: Records) -> None:
        """Note a commit that begins."""
        self._begun += 1
        for blob in changes.values():
            if blob is not None:
                self._by_blob[blob] = self._begun, owner

    def returned(self, owner: str, changes: Records) -> None:
        """Check a commit that has returned."""
        holder, records = self._present()
        if holder != owner:
            self._fail(f"{self._name}: {owner} has committed, and {holder or 'nobody'} owns the records")
        missing = [name for name, blob in changes.items() if records.get(name) != blob]
        if missing:
            self._fail(f"{self._name}: a commit of {' '.join(missing)} has returned, and is not in etcd")
        self._settled = self._begun

    def loaded(self, found: Mapping[str, bytes]) -> None:
        """Check the records that a load has returned."""
        if found != self._present()[1]:
            self._fail(f"{self._name} has loaded other records than those in etcd")
        self._settled = self._begun

    def settled(self) -> None:
        """Note that no commit that has begun may take effect any more."""
        self._settled = self._begun

    def took_effect(self, changes: Records) -> None:
        """Check a change of the records in the cluster, at its moment."""
        for blob in changes.values():
            if blob is None or blob not in self._by_blob:
                continue
            number, owner = self._by_blob[blob]
            if number <= self._settled:
                self._fail(f"{self._name}: commit {number} takes effect after {self._settled} was settled")
            holder = self._present()[0]
            if owner != holder:
                now = f"{holder or 'nobody'} owns the records"
                self._fail(f"{self._name}: a commit of {owner} takes effect, and {now}")
            return
