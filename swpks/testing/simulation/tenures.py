"""One owner after the other of a system's records in a simulated etcd: leases in virtual time."""

# A system's records have one owner after the other. An owner (`Tenure`) is an `EtcdNvram` of the product with
# a name of its own, and a task that keeps its lease. All of it runs on the virtual clock:
#
#   requests     are answered at the moment at which they are sent. A time-out costs no time there: the result
#                of the job is late instead (`waited`). No thread and no real time are used.
#   keep-alive   is a task. The product's `LeaseKeeper` has threads, so its loop is repeated here.
#   power cut    ends the task. The owner key stays until the lease is over in the cluster. Requests that are
#                late still arrive, between those of the next owner: a system has one network over all lives.
#   lost lease   is reported to the system, once. From then on the NVRAM refuses all (rule nvram.owner).
#   standby      claims the records again and again until it owns them. It keeps its own lease meanwhile. If
#                that ends, it begins anew with another name: a claim without an answer may have put its key
#                on the old lease.
#
# A standby may be another machine. So its mark may be older than the records, and an outage may concern only
# the former owner.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from hcall_server.nvram.etcd.lease import Lease, ended
from hcall_server.nvram.seam import NvramError
from hcall_server.nvram.wrapper import NvramWrapper

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.nvram import EtcdNvram
    from swpks.testing.simulation.commit_judge import CommitJudge

LEAST = 1e-6
"""A rest of a lease below it is none: real time must not decide about it (`EtcdCluster.ask`)."""


class Tenure:
    """One owner of a system's records, or a standby that wants to be it.

    `on_lost` is called once if its lease is over, `pause` waits as long as the last requests have.
    """

    def __init__(
        self,
        owner: str,
        nvram: EtcdNvram,
        on_lost: Callable[[Tenure, NvramError], None],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self.owner = owner
        self.nvram = nvram
        self.over = False
        """Whether its machine has crashed, or has closed it."""
        self._on_lost = on_lost
        self._pause = pause

    def __repr__(self) -> str:
        return f"Tenure({self.owner!r})"

    async def keep(self) -> None:
        """Keep the lease until the tenure is over; report its loss."""
        lease = self.nvram.lease
        while True:
            await trio.sleep(min(lease.pause, lease.rest))
            if self.over:
                return
            if error := beat(lease):
                lease.end()
                self._on_lost(self, error)
                return
            # The pause is also that of commits.  In the product these have a thread of their own, and the
            # keeper does not wait for them.
            with trio.move_on_after(min(lease.pause, lease.rest)):
                await self._pause()


class JudgedNvram(NvramWrapper):
    """The NVRAM of a tenure; the judge checks each commit and each load."""

    def __init__(self, tenure: Tenure, judge: CommitJudge) -> None:
        super().__init__(tenure.nvram)
        self._owner = tenure.owner
        self._judge = judge

    def load(self) -> dict[str, bytes]:
        """Return every record."""
        found = self.inner.load()
        self._judge.loaded(found)
        return found

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Put or remove records."""
        self._judge.begin(self._owner, changes)
        self.inner.commit(changes)
        self._judge.returned(self._owner, changes)

    def last_commit(self) -> bytes | None:
        """Return the commit record."""
        found = self.inner.last_commit()
        self._judge.settled()
        return found


def beat(lease: Lease) -> NvramError | None:
    """Keep a lease; return the error if it is over.  Without an answer it goes on until its time ends."""
    if lease.rest < LEAST:
        return ended()
    with suppress(NvramError):
        lease.keep()
    return ended() if lease.over else None
