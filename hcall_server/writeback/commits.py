"""Commits to NVRAM, each with the commit record that lists all records (spec/sealed.md#commit-record)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hcall_abi.rules import storage
from hcall_server.nvram.names import COMMIT, parse_old_name, parse_partition
from hcall_server.nvram.seam import Nvram, NvramError
from hcall_server.sealing import NO_COMMIT, CommitAuthority, CommitRecord
from hcall_server.sealing.commits import ID_SIZE, sized

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

    `changes` are the records without their commit record.  `base` is the commit record before it, and
    `following` the one after it.

    If NVRAM has limits, a large commit runs in parts.  `unsure`: an earlier commit failed, so a part of it
    may have taken effect.  `least` is the number of the last commit that took effect for sure.  NVRAM is
    not older than that.
    """

    def __init__(
        self,
        nvram: Nvram,
        authority: CommitAuthority,
        base: CommitRecord,
        changes: Records,
        *,
        unsure: bool = False,
        least: int = 0,
    ) -> None:
        self._nvram = nvram
        self._authority = authority
        self._unsure = unsure
        self._least = least
        self._parts = _parts(nvram, base, changes)
        # The first record is made here, on the loop.  Usually it is the only one.
        self._base = base
        self._first = self._made(base, self._parts[0])
        self.following = self._first.record
        self.number = base.number + len(self._parts)
        """The number of the last part."""

    def __repr__(self) -> str:
        return f"Commit({self.following})"

    def run(self) -> None:
        """Make the commit, then note its number in the mark; NvramError when either fails."""
        for part in self._run():
            self._nvram.mark.note(part.mark)

    def run_first(self) -> None:
        """Make the first commit of a system, and make its mark durable."""
        for part in self._run():
            self._nvram.mark.make_durable(part.mark, ())

    def _run(self) -> Iterator[_Part]:
        """Make each part, and return it when it is durable."""
        # The records are committed before the mark.  If the mark were ahead of them, the next start would
        # be refused.
        part = self._first
        if self._unsure:
            part = self._made(self._truth(), self._parts[0])
        self._nvram.commit(part.changes)
        yield part
        for changes in self._parts[1:]:
            part = self._made(part.record, changes)
            self._nvram.commit(part.changes)
            yield part
        self.following = part.record

    def _truth(self) -> CommitRecord:
        """Return the list of the records that NVRAM has now, with the number of the base."""
        # Without limits, the changes of a failed commit are all in this one, and the list of `base` is right
        # for the rest.  With limits they may be in several parts.  If the list of the first part lacked a
        # record that the failed commit has replaced, a crash after this part would refuse its partition.
        found = self._nvram.last_commit()
        last = self._authority.decode(found) if found is not None else NO_COMMIT
        if last.number < self._least:
            message = f"NVRAM: its last commit is {last.number}, and {self._least} was confirmed"
            raise NvramError("corrupt", f"{message}: it was put back to an older state", storage.NVRAM_AGE)
        return self._base._replace(entries=last.entries)

    def _made(self, before: CommitRecord, changes: Records) -> _Part:
        """Return a part with its commit record.

        A conversion removes the records of sealed level 1.  These removals are in the commit, but not in the
        list of the commit record.
        """
        listed = {record_id(name): blob for name, blob in changes.items() if not parse_old_name(name)}
        record = before.after(listed)
        blob, mark = self._authority.encode(record), self._authority.mark(record.number)
        return _Part({**changes, COMMIT: blob}, record, mark)


class Commits:
    """The commits of one system, beginning after the last one that took effect.

    The changes of a failed commit belong to the next commit.  The number of a failed commit is not used
    again, because that commit may have taken effect.
    """

    def __init__(self, nvram: Nvram, authority: CommitAuthority, last: CommitRecord = NO_COMMIT) -> None:
        self.last = last
        self._nvram = nvram
        self._authority = authority
        self._unsure = False
        self._confirmed = 0
        """The number of the last commit that this object has made for sure; 0 before the first one."""

    def __repr__(self) -> str:
        return f"Commits({self.last})"

    def prepared(self, changes: Records) -> Commit:
        """Return a commit of these changes and of a commit record that lists the changed records.

        A change to None removes the record.
        """
        # Until `done`, it is unknown whether this commit takes effect.
        unsure, self._unsure = self._unsure, self._nvram.limits is not None
        commit = Commit(
            self._nvram, self._authority, self.last, changes, unsure=unsure, least=self._confirmed
        )
        # The numbers are used up now, even if the commit fails.  `done` sets the entries after a success.
        self.last = self.last._replace(number=commit.number)
        return commit

    def make(self, changes: Records) -> None:
        """Make a commit during a start, and write its mark.

        Blocks; NvramError if either fails.
        """
        # The mark of the first commit must be durable.  If the mark is missing after that, something was
        # lost: the system is not new (spec/sealed.md#high-water-mark).
        first = not self.last.entries
        commit = self.prepared(changes)
        commit.run_first() if first else commit.run()
        self.done(commit)

    def done(self, commit: Commit) -> None:
        """Note that a commit took effect."""
        self.last = commit.following
        self._confirmed = commit.number
        self._unsure = False


class _Part(NamedTuple):
    """One commit to NVRAM: the records with their commit record, that record, and the mark after it."""

    changes: Records
    record: CommitRecord
    mark: bytes


def _parts(nvram: Nvram, base: CommitRecord, changes: Records) -> Sequence[Records]:
    limits = nvram.limits
    if limits is None:
        return (changes,)
    from hcall_server.writeback.parts import split

    listed = set(base.records)
    # Each change may add one entry to the list.
    reserved = sized(len(listed) + len(changes)) + len(COMMIT)
    return split(changes, limits, reserved, lambda name: record_id(name) in listed)
