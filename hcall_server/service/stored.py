"""A stored system: anchor card and NVRAM, checked against each other.

    card     NVRAM                        start
    -        empty                        a new system, if the high-water mark was never written
    -        records of partitions        refused: the card is lost
    level 1  empty                        a new system on the same condition: its first start was cut short
    level 1  records of level 1           converted, in one commit, if they are not older than the mark
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
from hcall_server.nvram.seam import Nvram
from hcall_server.platform.identity import SEALED_LEVEL, SystemIdentity
from hcall_server.sealing import CommitAuthority, CommitRecord, Sealer, SystemRecord, seal_system
from hcall_server.sealing.commits import FIRST_SIZE
from hcall_server.sealing.level_1 import OldSealer
from hcall_server.service.age import AgeCheck
from hcall_server.writeback.commits import Commits
from hcall_server.writeback.convert import converted
from hcall_server.writeback.recover import loss_of

Records = Mapping[str, bytes]
_FIRST = {SYSTEM, COMMIT}


class Stored(NamedTuple):
    """A stored system: identity, records, and the writer of commits.

    `missing` is the number of commits that accepted older records lack.  Each partition has to count on by
    as many IPLs before it is served.
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
    """One start on a card and NVRAM; `entropy` makes new ids and keys.

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
        self._age = AgeCheck(nvram, accept_older=accept_older)

    def open(self, first: SystemRecord) -> Stored:
        """Return the stored system; a new one begins with the system record `first`.

        Raises StorageError, with a rule for each reason, if records are lost, damaged or older than the mark.
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
            self._age.demand_new()
        sealer = Sealer(identity, self._entropy)
        return self._committed(identity, sealer, {SYSTEM: seal_system(sealer, first)})

    def _converted(self, identity: SystemIdentity, records: Records) -> Stored:
        """Convert records of level 1; the IPL counts that older ones lack are skipped in the same commit."""
        sealer = Sealer(identity, self._entropy)
        old, known_key = OldSealer(identity), self._transport.known_key
        changes = converted(records, old, sealer, self._entropy, known_key, self._age.of_level_1())
        stored = self._committed(identity, sealer, changes)
        # The other slot may hold a mark of level 2, beside which these records were accepted.
        self._nvram.mark.note(CommitAuthority(identity.root_key).mark(stored.commit.number))
        return stored

    def _committed(
        self, identity: SystemIdentity, sealer: Sealer, changes: Mapping[str, bytes | None]
    ) -> Stored:
        """Make the first commit of level 2, then its mark, then the card that promises both."""
        authority = CommitAuthority(identity.root_key)
        commits = Commits(self._nvram, authority)
        commit = commits.prepared(changes)
        self._nvram.commit(commit.changes)
        self._nvram.mark.make_durable(commit.mark, None)
        commits.done(commit)
        self._card.write(identity._replace(sealed_level=SEALED_LEVEL))
        return Stored(identity, sealer, self._nvram.load(), commits)

    def _continued(self, identity: SystemIdentity, records: Records) -> Stored:
        """Go on with records of level 2, and make their mark durable again.

        If older records are accepted, commits count on from the mark.  It stays above the records until
        the next commit: a start that is cut short before it is refused again.
        """
        authority = CommitAuthority(identity.root_key)
        last = authority.decode(records[COMMIT])
        promised = identity.sealed_level >= SEALED_LEVEL
        missing, newest = self._age.of_level_2(authority, last, promised=promised)
        last = last._replace(number=last.number + missing)
        self._nvram.mark.make_durable(authority.mark(last.number), newest)
        if not promised:  # a conversion that was cut short after its commit
            self._card.write(identity._replace(sealed_level=SEALED_LEVEL))
        commits = Commits(self._nvram, authority, last)
        return Stored(identity, Sealer(identity, self._entropy), records, commits, missing)


def _of_a_first_start(records: Records) -> bool:
    """Whether records can be those of a first start that was cut short: they list no partition."""
    return not records.keys() - _FIRST and len(records.get(COMMIT, b"")) <= FIRST_SIZE
