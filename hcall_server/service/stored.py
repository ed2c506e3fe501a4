"""What is stored of a system: its anchor card and its NVRAM, checked against each other.

    card     NVRAM                        start
    -        empty                        a new system, if the high-water mark was never written
    -        records of partitions        refused: the card is lost
    level 1  empty                        a new system on the same condition: its first start was cut short
    level 1  records of level 1           converted, in one commit
    level 2  a genuine commit record      gone on with, if it is not older than the high-water mark
    level 2  no commit record             refused: records were lost, and this is never a new system

A new system commits first and writes its card last.  So a card of level 2 promises a commit record.  A
start that is cut short before the card is written leaves no partition behind, and is done again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.components.seam import RootKeyComponent
from hcall_server.keystore.store import Entropy
from hcall_server.machine.machine import Transport
from hcall_server.nvram.names import COMMIT, SYSTEM
from hcall_server.nvram.seam import Nvram, NvramError
from hcall_server.platform.identity import SEALED_LEVEL, SystemIdentity
from hcall_server.sealing import CommitAuthority, CommitRecord, Sealer, SystemRecord, seal_system
from hcall_server.sealing.commits import FIRST_SIZE, MARK_SIZE
from hcall_server.sealing.level_1 import OldSealer
from hcall_server.writeback.commits import Commits
from hcall_server.writeback.convert import converted
from hcall_server.writeback.recover import loss_of

Records = Mapping[str, bytes]
_FIRST = {SYSTEM, COMMIT}

UNKNOWN_COMMITS = 1 << 16
"""Stands for the commits that older records lack, where no mark tells how many there were."""


class Stored(NamedTuple):
    """A system as it is stored: who it is, its records, and what will commit the next ones.

    `missing` is how many commits the records lack, if older ones were accepted; each partition has to count
    on by as many IPLs before it is served.
    """

    identity: SystemIdentity
    sealer: Sealer
    records: Records
    commits: Commits
    missing: int = 0

    @property
    def commit(self) -> CommitRecord:
        """The commit record that the records were checked against."""
        return self.commits.last


class Opening:
    """One start on a card and NVRAM; `entropy` makes what is new.

    `accept_older`: go on with NVRAM that is older than its high-water mark, or has none
    (spec/sealed.md#high-water-mark).
    """

    def __init__(
        self,
        card: RootKeyComponent,
        nvram: Nvram,
        entropy: Entropy,
        transport: Transport,
        *,
        accept_older: bool = False,
    ) -> None:
        self._card = card
        self._nvram = nvram
        self._entropy = entropy
        self._transport = transport
        self._accept_older = accept_older

    def open(self, first: SystemRecord) -> Stored:
        """Return what is stored; a new system begins with the system record `first`.

        Raises StorageError, each with its own rule, for all that is lost, damaged or older than it may be.
        """
        records, identity = self._nvram.load(), self._card.read()
        if identity is None:
            if not _of_a_first_start(records):
                raise loss_of(f"the {self._card.name}", records)
            return self._begun(SystemIdentity.make(self._entropy), first, records)
        if COMMIT in records:
            return self._continued(identity, records)
        if identity.sealed_level >= SEALED_LEVEL:
            message = f"the commit record is missing, and NVRAM holds {len(records)} other records"
            raise StorageError(rules.COMMIT_RECORD, message)
        if records:
            return self._converted(identity, records)
        return self._begun(identity, first, records)

    def _begun(self, identity: SystemIdentity, first: SystemRecord, records: Records) -> Stored:
        if not records:
            self._demand_no_mark()
        sealer = Sealer(identity, self._entropy)
        return self._committed(identity, sealer, {SYSTEM: seal_system(sealer, first)})

    def _converted(self, identity: SystemIdentity, records: Records) -> Stored:
        sealer = Sealer(identity, self._entropy)
        known_key = self._transport.known_key
        changes = converted(records, OldSealer(identity), sealer, self._entropy, known_key)
        return self._committed(identity, sealer, changes)

    def _committed(
        self, identity: SystemIdentity, sealer: Sealer, changes: Mapping[str, bytes | None]
    ) -> Stored:
        """Make the first commit of level 2, then its mark, then the card that promises both."""
        authority = CommitAuthority(identity.root_key)
        commits = Commits(self._nvram, authority)
        commit = commits.prepared(changes)
        self._nvram.commit(commit.changes)
        self._nvram.mark.settle(commit.mark, None)
        commits.done(commit)
        self._card.write(identity._replace(sealed_level=SEALED_LEVEL))
        return Stored(identity, sealer, self._nvram.load(), commits)

    def _continued(self, identity: SystemIdentity, records: Records) -> Stored:
        authority = CommitAuthority(identity.root_key)
        commits = Commits(self._nvram, authority, authority.decode(records[COMMIT]))
        missing = self._check_age(identity, authority, commits)
        if identity.sealed_level < SEALED_LEVEL:  # a conversion that was cut short after its commit
            self._card.write(identity._replace(sealed_level=SEALED_LEVEL))
        return Stored(identity, Sealer(identity, self._entropy), records, commits, missing)

    def _check_age(self, identity: SystemIdentity, authority: CommitAuthority, commits: Commits) -> int:
        """Compare the last commit with the high-water mark, and make the mark durable again.

        Returns how many commits are missing, 0 unless older records are accepted.  The mark stays above
        these until the next commit: a start that is cut short before it is refused again.
        """
        slots = enumerate(self._nvram.mark.slots())
        marked = {slot: number for slot, each in slots if (number := authority.marked(each)) is not None}
        newest = max(marked, key=marked.__getitem__, default=None)
        missing = 0
        if newest is None:
            missing = self._unmarked(identity, commits)
        elif marked[newest] > commits.last.number:
            missing = self._older(marked[newest], commits)
        self._nvram.mark.settle(authority.mark(commits.last.number), newest)
        return missing

    def _demand_no_mark(self) -> None:
        """Refuse empty NVRAM whose mark was written: its records were lost, and it is no new system."""
        if any(len(slot) == MARK_SIZE for slot in self._nvram.mark.slots()):
            reason = "it is empty, but its high-water mark says that there were commits"
            message = f"NVRAM: {reason}: put NVRAM and its mark back together"
            raise NvramError("corrupt", message, rules.NVRAM_AGE)

    def _unmarked(self, identity: SystemIdentity, commits: Commits) -> int:
        if identity.sealed_level < SEALED_LEVEL:
            return 0  # a conversion that was cut short before its mark
        if not self._accept_older:
            reason = "it has no high-water mark of this system, so it may be an older copy"
            raise NvramError("corrupt", f"NVRAM: {reason}", rules.NVRAM_MARK)
        commits.last = commits.last._replace(number=commits.last.number + UNKNOWN_COMMITS)
        return UNKNOWN_COMMITS

    def _older(self, noted: int, commits: Commits) -> int:
        """Refuse older records; where they are accepted, count on from the mark."""
        found = commits.last.number
        if not self._accept_older:
            reason = f"its last commit is {found}, but {noted} was confirmed: it is damaged or an older copy"
            raise NvramError("corrupt", f"NVRAM: {reason}", rules.NVRAM_AGE)
        commits.last = commits.last._replace(number=noted)
        return noted - found


def _of_a_first_start(records: Records) -> bool:
    """Whether records can be those of a first start that was cut short: they list no partition."""
    return not records.keys() - _FIRST and len(records.get(COMMIT, b"")) <= FIRST_SIZE
