"""Commits to NVRAM, each with the commit record that lists all records (spec/sealed.md#commit-record)."""

from __future__ import annotations

from collections.abc import Mapping

from hcall_server.nvram.names import COMMIT, parse_old_name, parse_partition
from hcall_server.nvram.seam import Nvram
from hcall_server.sealing import NO_COMMIT, CommitAuthority, CommitRecord
from hcall_server.sealing.commits import ID_SIZE

Records = Mapping[str, bytes | None]


def record_id(name: str) -> bytes:
    """Return the 16 bytes that identify a record in the commit record's list.

    They are a partition's UUID.  For any other record they are its name in ASCII, filled up with zeros.  A
    UUID of ours cannot look like a name.  Its byte 8 has the variant, 0x80 to 0xBF: neither ASCII nor zero.
    ValueError for a name that is too long.
    """
    uuid = parse_partition(name)
    if uuid is not None:
        return uuid.bytes
    encoded = name.encode("ascii")
    if len(encoded) > ID_SIZE:
        raise ValueError(f"record name {name!r} has more than {ID_SIZE} characters")
    return encoded.ljust(ID_SIZE, b"\0")


class Commit:
    """One commit that is ready: `run` blocks until it is durable, and may run in any thread.

    `changes` are the records with their commit record.  `mark` is the content of the high-water mark
    after the commit.
    """

    def __init__(self, nvram: Nvram, changes: Records, following: CommitRecord, mark: bytes) -> None:
        self.changes = changes
        self.following = following
        self.mark = mark
        self._nvram = nvram

    def __repr__(self) -> str:
        return f"Commit({self.following})"

    def run(self) -> None:
        """Make the commit, then note its number in the mark; NvramError when either fails."""
        # The records are committed before the mark.  If the mark were ahead of them, the next start would
        # be refused.
        self._nvram.commit(self.changes)
        self._nvram.mark.note(self.mark)


class Commits:
    """The commits of one system, beginning after the last one that took effect.

    The changes of a failed commit belong to the next commit.  The number of a failed commit is not used
    again, because that commit may have taken effect.
    """

    def __init__(self, nvram: Nvram, authority: CommitAuthority, last: CommitRecord = NO_COMMIT) -> None:
        self.last = last
        self._nvram = nvram
        self._authority = authority

    def __repr__(self) -> str:
        return f"Commits({self.last})"

    def prepared(self, changes: Records) -> Commit:
        """Return a commit of these changes and of a commit record that lists the changed records.

        A change to None removes the record.

        A conversion removes the records of sealed level 1.  These removals are in the commit, but not in the
        list of the commit record.
        """
        listed = {record_id(name): blob for name, blob in changes.items() if not parse_old_name(name)}
        following = self.last.after(listed)
        # The number is used up now, even if the commit fails.  `done` sets the entries after a success.
        self.last = self.last._replace(number=following.number)
        record = self._authority.encode(following)
        mark = self._authority.mark(following.number)
        return Commit(self._nvram, {**changes, COMMIT: record}, following, mark)

    def make(self, changes: Records) -> None:
        """Make a commit during a start, and write its mark.

        Blocks; NvramError if either fails.
        """
        # The mark of the first commit must be durable.  If the mark is missing after that, something was
        # lost: the system is not new (spec/sealed.md#high-water-mark).
        first = not self.last.entries
        commit = self.prepared(changes)
        self._nvram.commit(commit.changes)
        if first:
            self._nvram.mark.make_durable(commit.mark, None)
        else:
            self._nvram.mark.note(commit.mark)
        self.done(commit)

    def done(self, commit: Commit) -> None:
        """Note that a commit took effect."""
        self.last = commit.following
