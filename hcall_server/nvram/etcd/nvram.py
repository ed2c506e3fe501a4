"""NVRAM in etcd: records below a prefix, one owner, commits in a chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from hcall_abi.rules import storage as rules
from hcall_server.nvram.etcd import wire
from hcall_server.nvram.etcd.chain import Chain, ChainState, EtcdKeys, Linked
from hcall_server.nvram.etcd.lease import Lease, LeaseKeeper, ended
from hcall_server.nvram.etcd.transport import EtcdCluster
from hcall_server.nvram.etcd.wire import AnswerFormError, KeyValue, RangeAnswer, TxnAnswer
from hcall_server.nvram.seam import CommitLimits, Mark, NvramError, NvramInUseError, PlaceCheck

LIMITS = CommitLimits(1_400_000, 120)
"""Below etcd's stock limits of 1.5 MiB and 128 operations, with room for the chain and the keys."""
COMPACT_EVERY = 300
"""Commits after which the history before the last one is dropped.

64 KiB at 50 commits a second would fill etcd's quota of 2 GiB in 11 minutes.
"""
PAGE = 4
"""Records that one request reads.  Each is at most a few hundred KiB, and a thin link must be in time."""
KEEPER_PATIENCE = 2.0
"""Seconds that the end waits for a keep-alive that is under way."""
COMPACTIONS = 10
"""Most requests that drop the history for an erase.  Each may take as long as one attempt."""
FENCES = 8
"""Most requests that learn the outcome of a commit without an answer; two are usual."""


class EtcdNvram:
    """The records below `keys` in a cluster; `own` claims them before the first use.

    `mark` is local: it is a second check beside the chain.  The lease must be granted.  Once it is over or
    another server owns the records, every commit raises NvramError with the rule nvram.owner.
    """

    old_number = 0
    always_newest = True
    limits = LIMITS

    def __init__(self, cluster: EtcdCluster, keys: EtcdKeys, owner: bytes, lease: Lease, mark: Mark) -> None:
        self.mark = mark
        self.lease = lease
        self._cluster = cluster
        self._keys = keys
        self._chain = Chain(keys, owner)
        self._since_compaction = 0
        self._closed = False
        self.keeper: LeaseKeeper | None = None
        """Keeps the lease alive; `release` stops it."""
        self.beside: tuple[PlaceCheck, ...] = ()
        """Checks of files that a later start needs, before and after each commit."""

    def __repr__(self) -> str:
        return f"EtcdNvram({self._keys.prefix!r})"

    def own(self) -> None:
        """Become the owner; NvramInUseError if another server is.  Not again after the ownership was lost."""
        if self._chain.state is ChainState.LOST:
            raise _other_owner(self._keys.prefix)
        answer = self._ask(self._chain.claim(self.lease.id))
        with _form():
            holder = self._chain.claimed(answer)
        if holder is not None:
            shown = wire.printable(holder.decode("utf-8", "replace"))
            raise NvramInUseError(f"{self._keys.prefix} in etcd, owned by {shown},")
        self.lease.hold(self._keys.owner, self._chain.owner_revision)

    def load(self) -> dict[str, bytes]:
        """Return every record.

        An older commit without an answer must not take effect afterwards, so it is settled first.
        """
        # The pages are not of one revision: another system in the cluster may compact it between two pages.
        # After the fence only the owner changes these keys.  So a second fence at the end proves that nothing
        # has changed them.
        self._demand_ownership()
        self._settle()
        records: dict[str, bytes] = {}
        start, more = self._keys.records, True
        while more:
            body = wire.page(start, self._keys.records_end, PAGE)
            answer = self._cluster.ask(wire.RANGE, body, RangeAnswer)
            records |= self._named(answer, start)
            more = answer.more
            if answer.kvs:
                start = answer.kvs[-1].key + b"\0"
            elif more:
                raise _bad_form("an empty page that is not the last one")
        self._demand_ownership()
        self._settle()
        return records

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Put or remove records in one transaction; a majority has it on disk when this returns."""
        self._check_beside()
        self._demand_ownership()
        self._cluster.hasty = True
        if not changes or self._chain.state is ChainState.UNSURE:
            self._settle()
        if not changes:
            return
        self._link(self._chain.link(changes), fence=False)
        self._check_beside()
        self._compact()

    def clear(self) -> None:
        """Remove all records in one transaction; then drop the history, in which etcd still has them.

        NvramError if either fails.  The records are all there or all gone then, and a second call finishes.
        """
        self._demand_ownership()
        if self._chain.state is ChainState.UNSURE:
            self._settle()
        self._link(self._chain.wipe(), fence=False)
        self.drop_history()

    def last_commit(self) -> bytes | None:
        """Return the commit record; all commits without an answer are settled then."""
        self._demand_ownership()
        return self._settle()

    @property
    def ownership(self) -> EtcdNvram:
        """This object: `over` has the answer."""
        return self

    @property
    def over(self) -> bool:
        """Whether another server may be the owner; any thread may read it."""
        return self.lease.over or self._chain.state is ChainState.LOST

    def close(self) -> None:
        """Give the ownership up, and close the connections and the mark; a second close does nothing."""
        self.release()
        self.mark.close()

    def release(self) -> None:
        """Give the ownership up, so that another server need not wait for the end of the lease."""
        if self._closed:
            return
        self._closed = True
        if self.keeper:
            self.keeper.stop(KEEPER_PATIENCE)
        # Also if the lease is over by the local clock: that of etcd may go on for some seconds.
        if self.lease.id:
            with suppress(NvramError):  # without an answer the lease ends by itself
                self.lease.revoke()
        self._chain.lose()
        self.lease.close()
        self._cluster.close()

    def _settle(self) -> bytes | None:
        """Learn the outcome of all earlier commits, and return the commit record."""
        for _ in range(FENCES):
            outcome, record = self._link(self._chain.link({}), fence=True)
            if outcome is Linked.DONE:
                return record
        message = "NVRAM: commits of this server take effect again and again; is its request repeated?"
        raise NvramError("io", message, rules.NVRAM_REACHED)

    def _link(self, body: bytes, *, fence: bool) -> tuple[Linked, bytes | None]:
        """Send one transaction of the chain; return its outcome, for a fence with the commit record.

        A change follows a fence, so its outcome is never BEHIND.
        """
        answer = self._ask(body)
        with _form():
            outcome = self._chain.linked(answer)
            read = answer.found(0) if answer.succeeded and fence else None
        if outcome is Linked.LOST:
            raise _other_owner(self._keys.prefix)
        if outcome is Linked.FOREIGN:
            raise _foreign(self._keys)
        if outcome is Linked.DONE and not answer.succeeded:
            # The request came twice.  The answer to the copy that was carried out is lost, and with it the
            # record that it has read.
            return (Linked.BEHIND, None) if fence else (outcome, None)
        return outcome, read.value if read else None

    def _demand_ownership(self) -> None:
        if self._chain.state is ChainState.LOST:
            raise _other_owner(self._keys.prefix)
        if self.lease.over:
            self._chain.lose()
            raise ended()

    def _check_beside(self) -> None:
        for check in self.beside:
            if moved := check():
                message = f"NVRAM: {moved}; nothing counts as flushed until it is back: put it back"
                raise NvramError("io", message, rules.NVRAM_PLACE)

    def _ask(self, body: bytes) -> TxnAnswer:
        return self._cluster.ask(wire.TXN, body, TxnAnswer)

    def _named(self, answer: RangeAnswer, start: bytes) -> dict[str, bytes]:
        """Return the records of a page; NvramError for keys that are not of this range and in order."""
        found: dict[str, bytes] = {}
        for each in answer.kvs:
            found[self._name(each, start)] = each.value
            start = each.key
        return found

    def _name(self, each: KeyValue, start: bytes) -> str:
        if not start <= each.key < self._keys.records_end:
            raise _bad_form("a key outside of the range")
        try:
            return each.key[len(self._keys.records) :].decode("ascii")
        except UnicodeDecodeError:
            key = wire.printable(each.key.decode("utf-8", "replace"))
            message = f"NVRAM: {key} in etcd is no record: swpks puts only ASCII names there"
            cure = "find the program that has put it, and delete it"
            raise NvramError("corrupt", f"{message}; {cure}", rules.NVRAM_ANSWER) from None

    def _compact(self) -> None:
        """Drop the history now and then; that it fails is no failure of the commit."""
        self._since_compaction += 1
        if self._since_compaction < COMPACT_EVERY:
            return
        self._since_compaction = 0
        self.compact()

    def compact(self, *, physical: bool = False) -> None:
        """Drop the history before the last commit; if `physical`, return when it is gone."""
        with suppress(NvramError):
            self._ask_compaction(physical=physical)

    def drop_history(self) -> None:
        """Drop the history before the last commit, and return when it is gone; NvramError if it may not be.

        For an erase.  Freed pages of the members' files may still have its bytes.
        """
        # A compaction that takes longer than an attempt goes on in etcd, and the same one is refused then.
        # So each try has a later revision: a fence puts the commit key.  etcd does one after the other, so
        # the answer to a later compaction says that the earlier one is done.
        for left in reversed(range(COMPACTIONS)):
            self._demand_ownership()
            self._settle()
            try:
                self._ask_compaction(physical=True)
            except NvramError:
                if not left:
                    raise
            else:
                return

    def _ask_compaction(self, *, physical: bool) -> None:
        body = wire.compaction(self._chain.predecessor, physical=physical)
        self._cluster.ask(wire.COMPACTION, body, wire.AnyAnswer)


@contextmanager
def _form() -> Iterator[None]:
    """Return a block that turns AnswerFormError into NvramError."""
    try:
        yield
    except AnswerFormError as error:
        raise _bad_form(str(error)) from None


def _bad_form(reason: str) -> NvramError:
    message = f"NVRAM: an answer of etcd is malformed: {reason}; is another program at this address?"
    return NvramError("corrupt", message, rules.NVRAM_ANSWER)


def _foreign(keys: EtcdKeys) -> NvramError:
    message = (
        f"NVRAM: {keys.commit.decode()} in etcd is not of the last commit: etcd was put back to an older "
        "state, or another program has put the key; stop this server, and start it again: that compares "
        "the records with its high-water mark"
    )
    return NvramError("io", message, rules.NVRAM_OWNER)


def _other_owner(prefix: str) -> NvramError:
    message = f"NVRAM: this server does not own {prefix} in etcd any more: stop it"
    return NvramError("io", message, rules.NVRAM_OWNER)
