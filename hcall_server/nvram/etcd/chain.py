"""The order of commits in etcd: an owner, and a chain in which each commit names its predecessor."""

# The chain: why a commit that was given up can't undo a newer one
#
# A server commits to etcd by HTTP.  A request may get no answer: its member is stopped, or the connection
# breaks.  Then it is unknown whether it was carried out, is still on its way, or was lost.  This module must
# guarantee:
#
#   1. A commit that is reported as done was carried out, whole, on a majority of the members.
#   2. After a commit has failed, neither it nor any older one takes effect after the next successful one.
#   3. After another server has become the owner, no commit of the former owner takes effect.
#   4. After an unknown outcome, the truth is learned from etcd before the next commit.
#
# The owner key is put by the server that owns the system's NVRAM, and hangs on a lease.  If the owner is
# silent for the lease's time, etcd removes the key, and another server may put it.  Each transaction compares
# the create_revision of the owner key.  Another owner's key has another one.  That is guarantee 3.
#
# The trap: the lease does not protect an owner from its own late requests.  A member was stopped
# with a request in its socket.  The client gave the request up, and committed newer data through
# another member, with an acknowledgement.  Then the stopped member went on, and carried out the old request:
# the owner was the same, so the compare held.  Acknowledged data were gone in 2 to 3 of 12 rounds.
#
# So each transaction also compares the mod_revision of the commit key, and puts that key.  The first of two
# transactions with the same predecessor changes the revision, so the other one fails for ever.  In the same
# 24 rounds nothing was lost.  That is guarantee 2.
#
# The states:
#
#     FREE     Not the owner yet.  `claim` makes the request, `claimed` takes its answer.
#     KNOWN    The owner, and the predecessor is known.
#     UNSURE   A request is under way, or had no answer.  Only the answer to a later request ends this state.
#     LOST     Another owner, or none.  This object never leaves the state: the caller has to stop.
#
# The value of the commit key is a token, which names the transaction that has put it.  A transaction that
# fails reads owner and commit key in the same step.  So its answer shows the last commit:
#
#     owner key is another one              LOST
#     commit key has this token             The same request came twice, and its first copy was carried out.
#     commit key has a token of ours that   An older request of ours took effect.  Its revision is the
#     was sent after the last known commit  predecessor now, and this transaction was not carried out.
#     commit key has any other value        FOREIGN, and LOST: another program has put the key, or etcd has
#                                           gone back to an older state.
#
# The last case must not be taken for the one before it.  etcd may be put back from a backup under a living
# owner: owner key and commit key are older ones of this owner.  An owner that went on from there would list
# the older records as committed.  No later start would find that confirmed ones are gone.
#
# So the same request may be sent again, to any member: at most one copy is carried out.  The transport uses
# that.  A commit goes on at the next member while the first one hangs.
#
# After an unknown outcome the caller sends an empty link (`link({})`), a fence.  It compares the last known
# predecessor.  If it succeeds, the old request was not carried out, and never will be.  If it fails, its
# answer has the truth, and a second fence with that predecessor settles it.  A plain read would not do: the
# old request may arrive after the read.
#
# Why the lease then?  The chain alone would let two servers commit in turns: each would read the other's
# revision and go on.  The owner key makes one of them stop.  And an owner that can't reach etcd must know
# when to stop serving reads: when its lease is over by its own clock (`lease`).
#
# Dropped:
#
#   - A check of the lease before each commit.  Between check and commit the lease may end.  The compare is in
#     the same transaction, and needs no clock.
#   - The number of the commit record as a token.  It is under a MAC inside of a record, which this room does
#     not read.  And records are committed without it at an erase.
#   - A random token.  The owner's create_revision and a counter are unique already, and a simulation can
#     repeat them.

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from hcall_server.nvram.etcd import wire
from hcall_server.nvram.etcd.wire import AnswerFormError, KeyValue, TxnAnswer
from hcall_server.nvram.names import COMMIT

MOST_DIGITS = 19
"""Most digits of a link in a token."""


class ChainState(Enum):
    """The knowledge about the owner and about the last commit."""

    FREE = auto()
    KNOWN = auto()
    UNSURE = auto()
    LOST = auto()


class Linked(Enum):
    """The outcome of a transaction that etcd has answered."""

    DONE = auto()
    BEHIND = auto()
    """It was not carried out: an older one of this owner has taken effect, and is the predecessor now."""
    LOST = auto()
    FOREIGN = auto()
    """The commit key is none that this owner can have put since its last commit."""


class EtcdKeys(NamedTuple):
    """The keys of one system in etcd, below a prefix."""

    prefix: str

    @property
    def owner(self) -> bytes:
        """The key that its owner puts, on a lease."""
        return f"{self.prefix}/owner".encode()

    @property
    def commit(self) -> bytes:
        """The key that each commit puts."""
        return f"{self.prefix}/commit".encode()

    @property
    def records(self) -> bytes:
        """The beginning of the keys of all records."""
        return f"{self.prefix}/record/".encode()

    @property
    def records_end(self) -> bytes:
        """The first key behind those of all records."""
        return f"{self.prefix}/record0".encode()  # "0" follows "/" in ASCII

    def record(self, name: str) -> bytes:
        """Return the key of a record."""
        return self.records + name.encode()


class Chain:
    """The chain of one owner's commits, without input and output.

    `owner` is the value of the owner key: it names this server for an operator, and must be unique.
    """

    def __init__(self, keys: EtcdKeys, owner: bytes) -> None:
        self.state = ChainState.FREE
        self.predecessor = 0
        """The revision of the last commit; 0 if there is none."""
        self._keys = keys
        self._owner = owner
        self.owner_revision = 0
        """The revision at which this server has put the owner key; 0 before the claim."""
        self._links = 0
        self._done = 0
        """The number of the last link that is known to be carried out."""
        self._token = b""

    def __repr__(self) -> str:
        return f"Chain({self._keys.prefix!r}, {self.state.name}, {self.predecessor})"

    def claim(self, lease: int) -> bytes:
        """Return the request that makes this server the owner, if there is no other one."""
        self._demand_not_lost()
        keys = self._keys
        return wire.txn(
            [wire.created_at(keys.owner, 0)],
            [wire.put(keys.owner, self._owner, lease), wire.get(keys.commit)],
            [wire.get(keys.owner), wire.get(keys.commit)],
        )

    def claimed(self, answer: TxnAnswer) -> bytes | None:
        """Take the answer to a claim; return the value of another owner's key, None if this one owns it."""
        self._demand_not_lost()
        if answer.succeeded:
            self.owner_revision = answer.header.revision
        else:
            present = answer.found(0)
            if present is None:
                raise AnswerFormError("a claim failed, and there is no owner")
            # The same claim may have been sent twice, and its first answer lost.
            if present.value != self._owner:
                return present.value
            self.owner_revision = present.create_revision
        self.predecessor = _revision(answer.found(1))
        self.state = ChainState.KNOWN
        return None

    def link(self, changes: Mapping[str, bytes | None]) -> bytes:
        """Return the request of a commit.  Until its answer is known, the outcome is unknown.

        An empty link is a fence: after its success, no older request takes effect.  Its answer has the commit
        record.
        """
        keys = self._keys
        return self._linking(
            [
                wire.remove(keys.record(name)) if blob is None else wire.put(keys.record(name), blob)
                for name, blob in changes.items()
            ]
        )

    def wipe(self) -> bytes:
        """Return the request that removes all records: a link, in one step whatever their number."""
        return self._linking([wire.remove(self._keys.records, self._keys.records_end)])

    def _linking(self, operations: list[wire.Operation]) -> bytes:
        if self.state not in (ChainState.KNOWN, ChainState.UNSURE):
            raise RuntimeError(f"a commit in the state {self.state.name}")
        keys, self.state = self._keys, ChainState.UNSURE
        self._links += 1
        self._token = b"%d.%d" % (self.owner_revision, self._links)
        return wire.txn(
            [
                wire.created_at(keys.owner, self.owner_revision),
                wire.changed_at(keys.commit, self.predecessor),
            ],
            [wire.get(keys.record(COMMIT)), wire.put(keys.commit, self._token), *operations],
            [wire.get(keys.owner), wire.get(keys.commit)],
        )

    def linked(self, answer: TxnAnswer) -> Linked:
        """Take the answer to the last link."""
        if answer.succeeded:
            return self._known(answer.header.revision)
        owner, commit = answer.found(0), answer.found(1)
        if owner is None or owner.create_revision != self.owner_revision:
            self.state = ChainState.LOST
            return Linked.LOST
        if commit is not None and commit.value == self._token:
            return self._known(commit.mod_revision)
        if not self._is_later_own(commit):
            self.state = ChainState.LOST
            return Linked.FOREIGN
        # The state stays UNSURE.  A still older request may be on its way, with the same predecessor as this
        # one; it has failed for ever.  But the caller's view of the records is not that of etcd.
        self.predecessor = _revision(commit)
        return Linked.BEHIND

    def lose(self) -> None:
        """Note that the lease is over: nothing is committed any more."""
        self.state = ChainState.LOST

    def _demand_not_lost(self) -> None:
        if self.state is ChainState.LOST:
            raise RuntimeError("a claim in the state LOST")

    def _is_later_own(self, commit: KeyValue | None) -> bool:
        """Whether a commit key is that of a link which this owner has sent since its last commit."""
        revision, _, link = (commit.value if commit else b"").partition(b".")
        if revision != b"%d" % self.owner_revision or not link.isdigit() or len(link) > MOST_DIGITS:
            return False
        return self._done < int(link) < self._links

    def _known(self, revision: int) -> Linked:
        self.predecessor, self.state = revision, ChainState.KNOWN
        self._done = self._links
        return Linked.DONE


def _revision(found: KeyValue | None) -> int:
    return found.mod_revision if found else 0
