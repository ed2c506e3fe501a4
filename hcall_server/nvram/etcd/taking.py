"""Becoming the owner of a system's NVRAM in etcd: `Taking`, one try at a time."""

# A try has two steps.  The first one only reads the owner key, so a standby puts no load on the cluster: no
# lease and no transaction.  If there is no owner, the second step asks for a lease and claims the key.  Of
# several servers that claim it, etcd lets one succeed; the others give their leases back.
#
# The name of an owner must be unique: the same name would make two servers one owner (`chain`).  It has a
# random part, so a restarted server is another owner than before.  After a kill it waits for the end of its
# own former lease, like any other server.  That lease may have had another time, so etcd is asked for it
# (`holder_seconds`).  Dropped: a name that a restarted server has again.  It would save
# these seconds, but copies of a folder, or clones of a virtual machine, would then be one owner.

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hcall_server.nvram.etcd import wire
from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.lease import BEATS, Lease, LeaseKeeper
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.place import EtcdPlace
from hcall_server.nvram.etcd.tls import client_context
from hcall_server.nvram.etcd.transport import ATTEMPT, LONG_ATTEMPT, EtcdCluster, connected
from hcall_server.nvram.seam import Mark, NvramError, NvramInUseError

OnLost = Callable[[NvramError], None]
"""Called once when the lease is over, in a thread of the lease."""


class Taking:
    """The way of one server to the ownership of the records at a place.

    `mark` is its local high-water mark.  `on_lost` is called if the ownership ends later.  OperatorError if a
    file for https can't be used.
    """

    def __init__(self, place: EtcdPlace, mark: Mark, on_lost: OnLost) -> None:
        self.holder = ""
        """The present owner, printable, after an `attempt` that has found one."""
        self.holder_seconds: int | None = None
        """The time of its lease; 0 if its key hangs on no lease, None if it is not known."""
        self._holder_lease: int | None = None
        self.prefix = place.prefix
        self._place = place
        self._keys = EtcdKeys(place.prefix)
        self._mark = mark
        self._on_lost = on_lost
        self._context = client_context(place.tls) if place.tls else None
        self._asking = self._cluster(place.endpoints)

    def __repr__(self) -> str:
        return f"Taking({self.prefix!r})"

    def attempt(self) -> EtcdNvram | None:
        """Become the owner, and keep the lease from now on; None if another server is the owner.

        NvramError if etcd does not answer.  Each outcome but the first allows another attempt.
        """
        found = self._asking.ask(wire.RANGE, wire.one(self._keys.owner), wire.RangeAnswer).first
        self.holder = wire.printable(found.value.decode("utf-8", "replace")) if found else ""
        if found is not None:
            self._note_time(found.lease)
            return None
        # Both begin with the member that has just answered: one that hangs would cost them its time-out.
        members = self._asking.endpoints
        cluster, keeping = self._cluster(members), self._cluster(members)
        lease = Lease(keeping, _seconds, self._place.lease)
        nvram = EtcdNvram(cluster, self._keys, _owner(), lease, self._mark)
        try:
            lease.grant()
            nvram.own()
            nvram.keeper = LeaseKeeper(lease, self._on_lost)
            nvram.keeper.start()
        except NvramInUseError:
            nvram.release()
            return None
        except BaseException:
            nvram.release()
            raise
        return nvram

    def close(self) -> None:
        """Close the connections of the search; NVRAM that `attempt` has returned has others."""
        self._asking.close()

    def _note_time(self, lease: int) -> None:
        """Learn the time of the owner's lease, once for each lease."""
        if lease == self._holder_lease and self.holder_seconds is not None:
            return
        self._holder_lease, self.holder_seconds = lease, None if lease else 0
        if lease:
            with suppress(NvramError):
                answer = self._asking.ask(wire.TIME_TO_LIVE, wire.of_lease(lease), wire.LifeAnswer)
                self.holder_seconds = answer.granted or None

    def _cluster(self, members: Sequence[str]) -> EtcdCluster:
        # An attempt at one member must be short beside the lease, so that a keep-alive can try all of them.
        attempt = min(ATTEMPT, self._place.lease / BEATS)
        return EtcdCluster(members, connected(self._context, attempt), LONG_ATTEMPT)


def _seconds() -> float:
    """Return monotonic seconds, with those of a suspend: reads must end after a wake-up (`lease`)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _owner() -> bytes:
    """Return a name that no other server has, and that tells an operator where the server runs."""
    return f"{socket.gethostname()} process {os.getpid()} ({secrets.token_hex(4)})".encode()
