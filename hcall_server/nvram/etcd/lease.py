"""The lease on which the owner key hangs: asked for, kept alive, and over by the owner's own clock."""

# An owner serves reads from memory, so it must know by itself when another server may be the owner.  etcd
# starts the lease's time when it handles a request, which is later than the moment before the request was
# sent.  So the owner counts from that earlier moment, on its own clock.  Its lease is over before etcd's,
# however long the request and its answer took.  The clock counts a suspend of the machine too
# (`taking`), so the lease is over at the first look after the wake-up.  The clock of a virtual machine that
# its host has stopped may stand still.  Such a machine finds the end at its next keep-alive.  Until then it
# may serve old reads, but commits nothing: the transactions compare the owner.
#
# The owner key may go before that time: an operator deletes it, or revokes the lease.  A keep-alive says
# nothing about the key.  So each beat also reads it, and compares its revision with that of the claim.  The
# time begins again only if both answers are right.  There is a beat each second at least, so a former owner
# soon knows.
#
# etcd before 3.4.31 and 3.5.13 can end a lease too early by itself.  A former leader, which hung and does not
# know of the new one, lets leases end that are kept alive at the new one (etcd-io/etcd#15247).  The next beat
# finds that too.
#
# The keep-alive has a thread of its own.  The thread of commits may hang at a member, and the event loop may
# be busy; neither may end the lease.
#
# A second thread reports the end.  The keep-alive may still wait for a member then, and must not delay the
# report: until the report, the server serves reads that may be old.  A keep-alive tries all members, each for
# a part of the time that is left, and no longer than that.

from __future__ import annotations

import threading
from collections.abc import Callable

from hcall_abi.rules import storage as rules
from hcall_abi.scarcity import scarcity_of
from hcall_server.nvram.etcd import wire
from hcall_server.nvram.etcd.place import DEFAULT_LEASE
from hcall_server.nvram.etcd.transport import EtcdCluster
from hcall_server.nvram.seam import NvramError

BEATS = 4
"""Keep-alives in the time of a short lease."""
LONGEST_PAUSE = 1.0
"""Seconds between two keep-alives of a long lease."""
LONGEST_REVOCATION = 3.0
"""Seconds that the end of a server waits for the end of its lease."""


class Lease:
    """A lease of `ttl` seconds.  `clock` returns monotonic seconds, which go on in a suspend.

    One thread at a time calls `grant`, `keep` and `revoke`; `over` may be read by any thread.
    """

    def __init__(self, cluster: EtcdCluster, clock: Callable[[], float], ttl: int = DEFAULT_LEASE) -> None:
        self.id = 0
        self.ttl = ttl
        self._cluster = cluster
        self._clock = clock
        self._until = -1.0
        self._ended = False
        self._claim: tuple[bytes, int] | None = None

    @property
    def pause(self) -> float:
        """Seconds between two keep-alives."""
        return min(self.ttl / BEATS, LONGEST_PAUSE)

    @property
    def over(self) -> bool:
        """Whether another server may be the owner."""
        return self._ended or self._clock() >= self._until

    @property
    def rest(self) -> float:
        """Seconds until the lease is over without a further keep-alive; 0 if it is."""
        return 0.0 if self._ended else max(0.0, self._until - self._clock())

    def grant(self) -> int:
        """Ask for the lease, and return its number; NvramError if etcd does not answer."""
        before = self._clock()
        answer = self._cluster.ask(wire.GRANT, wire.grant(self.ttl), wire.LeaseAnswer)
        self.id, self._until = answer.ID, before + min(answer.TTL, self.ttl)
        return self.id

    def hold(self, key: bytes, revision: int) -> None:
        """Let each `keep` demand that this key is still the one that was created at this revision."""
        self._claim = key, revision

    def keep(self) -> None:
        """Begin the time of the lease again.

        NvramError if it is over or its key is gone (rule nvram.owner), or if no member answers; then it may
        be tried again.
        """
        before, rest = self._clock(), self.rest
        if not rest:
            self._ended = True
            raise ended()
        answer = self._cluster.ask(wire.KEEP, wire.of_lease(self.id), wire.KeepAnswer, rest)
        # A lease that is over stays over: its end was reported, and the caller may have acted on the report.
        if self.over or not answer.result.TTL:
            self._ended = True
            raise ended()
        self._check_claim()
        self._until = before + min(answer.result.TTL, self.ttl)

    def _check_claim(self) -> None:
        """Raise NvramError if the owner key is not that of the claim."""
        if self._claim is None:
            return
        key, revision = self._claim
        found = self._cluster.ask(wire.RANGE, wire.one(key), wire.RangeAnswer, self.rest).first
        if self.over or found is None or found.create_revision != revision:
            self._ended = True
            raise ended(f"{key.decode()} in etcd was removed" if found is None else "")

    def end(self) -> None:
        """Note that the lease is over; a later answer does not bring it back."""
        self._ended = True

    def close(self) -> None:
        """Close the cluster object of the lease."""
        self._cluster.close()

    def revoke(self) -> None:
        """End the lease now, so that another server need not wait; NvramError if etcd does not answer."""
        self._ended = True
        self._cluster.ask(wire.REVOKE, wire.of_lease(self.id), wire.AnyAnswer, LONGEST_REVOCATION)


class LeaseKeeper:
    """Keeps a lease alive in a daemon thread.

    `on_lost` is called once when the lease is over, in that thread or in a second one.

    The lease has a cluster object of its own: two threads must not use one.
    """

    def __init__(self, lease: Lease, on_lost: Callable[[NvramError], None]) -> None:
        self._lease = lease
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._reporting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="swpks-lease", daemon=True)
        self._watch = threading.Thread(target=self._await_end, name="swpks-lease-end", daemon=True)

    def start(self) -> None:
        """Start the threads; ScarcityError if the system gives none."""
        try:
            self._watch.start()
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            self._stopped.set()
            raise scarcity_of(error, "the thread that keeps the lease") or error from None

    def stop(self, seconds: float) -> None:
        """End the threads; wait for each at most this long."""
        self._stopped.set()
        for each in (self._watch, self._thread):
            if each.is_alive() and each is not threading.current_thread():
                each.join(seconds)

    def _work(self) -> None:
        while not self._stopped.wait(min(self._lease.pause, self._lease.rest)):
            error = _beat(self._lease)
            if error is not None:
                self._report(error)
                return

    def _await_end(self) -> None:
        while not self._stopped.wait(self._lease.rest):
            if self._lease.over:
                self._report(ended())
                return

    def _report(self, error: NvramError) -> None:
        """Call `on_lost`, and let both threads end; only the first call counts."""
        with self._reporting:
            first = not self._stopped.is_set()
            self._stopped.set()
        self._lease.end()
        if first:
            self._on_lost(error)


def _beat(lease: Lease) -> NvramError | None:
    """Keep the lease; return the error if it is over."""
    if lease.over:
        return ended()
    try:
        lease.keep()
    except NvramError as error:
        # Without an answer the lease goes on until its time ends.
        if not lease.rest:
            return error if error.rule is rules.NVRAM_OWNER else ended(error)
    return None


def ended(reason: object = "") -> NvramError:
    """Return the error of a server that is not the owner any more."""
    why = f" ({reason})" if reason else ""
    message = "NVRAM: the lease of this server in etcd is over, so another server may own the system"
    return NvramError("io", f"{message}{why}: stop this server", rules.NVRAM_OWNER)
