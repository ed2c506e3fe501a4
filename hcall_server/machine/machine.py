"""One managed system that runs: its partitions with their sessions, write-behind and fault plans.

The rules are those of `hcall_server.platform.system`; a refused request raises its error and
changes nothing.  This module adds the effects: the transport opens and closes, sessions end with
GOODBYE 2, and changes go to the encryptor.  There is no `await` between the check of a rule and the end of
the sessions.  So no call of an old IPL can run in the new one.

`power_on`, `ipl` and `start` take effect at once.  `counted_power_on`, `counted_ipl` and `counted_start`
first wait until the IPL count is durable (`hcall_server.machine.ipls`): a server uses these.

`hcall_server.service.assembly` makes a machine.  All its functions are called on one event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import trio

from hcall_abi.faults import BusyFault, NvramFault, checked_plan
from hcall_abi.frames import GoodbyeReason
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.faults.plan import Plan
from hcall_server.hcalls.answers import Calls
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.hcalls.refusals import OnRefusal
from hcall_server.keystore.store import Entropy
from hcall_server.machine import logs
from hcall_server.machine.counters import Counters
from hcall_server.machine.guest_calls import Before, calls_behind
from hcall_server.machine.holds import Holds
from hcall_server.machine.limits import Limits
from hcall_server.machine.noise import Noise, PeerLog
from hcall_server.machine.reach import Reach
from hcall_server.machine.reserve import Reserve
from hcall_server.machine.sessions import Link, Sessions
from hcall_server.machine.starts import Starts
from hcall_server.machine.turns import Turns
from hcall_server.machine.updates import log_doubts, log_latch_use
from hcall_server.platform.custody import Custody, Mode
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import PowerEvent
from hcall_server.platform.profile import PartitionProfile
from hcall_server.platform.root_key import NO_ACCESS, AccessAccount
from hcall_server.platform.system import ManagedSystem

if TYPE_CHECKING:
    from hcall_server.machine.attachment import Attachment
    from hcall_server.machine.backups import Backups
    from hcall_server.machine.call_log import CallLog
    from hcall_server.machine.changes import Changes
    from hcall_server.machine.custodian import Custodian, CustodyFacts
    from hcall_server.machine.events import Events
    from hcall_server.machine.mobility import Mobility, Peers
    from hcall_server.machine.recovery import Recovery
    from hcall_server.machine.snapshots import SnapshotSeam
    from hcall_server.machine.tracing import Traces
    from hcall_server.sealing.traveller import Traveller
    from hcall_server.writeback.encryptor import Encryptor
    from hcall_server.writeback.schedule import Clock


class Transport(Reach, Protocol):
    """The transport seam: how partitions are reached.  Sockets in a server, memory streams in simulations."""

    async def run(self, machine: Machine, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve connections of `machine`, and end those past their deadline, until cancelled."""


class Machine:
    """A managed system that runs.

    `nvram` is the NVRAM behind the encryptor, with the faults that the console may ask for.  `entropy`
    makes nonces.  `clock` measures the age of connections and the time of timed faults.  A CONFIRM waits
    `confirm_wait` seconds for its flush; 0: it is answered at once.  `make_backups`, `make_attachment` and
    `make_migrations` make parts that a start does not need.  Every `copy_interval` seconds the machine asks
    a connected console to take copies.  `access` is the account of how this start got the root key.
    """

    peers: Peers | None = None
    """The connections to other systems; None: this system takes part in no live migration."""
    call_log: CallLog | None = None
    """The log of all h-calls; None: they are not logged."""
    traces: Traces | None = None
    """The traces of the data channels; None: the system has no folder for them."""
    snapshots: Callable[[], SnapshotSeam] | None = None
    """Opens the named snapshots, and imports their modules first; None: the system has no folder for them."""
    unconfirmed: tuple[str, ...] = ()
    """Names of partitions that start without the agreement of their console (R-54)."""

    def __init__(
        self,
        system: ManagedSystem,
        encryptor: Encryptor,
        *,
        nvram: FaultyNvram,
        transport: Transport,
        entropy: Entropy,
        clock: Clock,
        limits: Limits,
        confirm_wait: float,
        make_backups: Callable[[], Backups],
        make_attachment: Callable[[], Attachment],
        make_migrations: Callable[[Machine], Mobility],
        copy_interval: float,
        access: AccessAccount = NO_ACCESS,
    ) -> None:
        self.system = system
        self.encryptor = encryptor
        self.nvram = nvram
        self.transport = transport
        self.entropy = entropy
        self.clock = clock
        self.limits = limits
        self.confirm_wait = confirm_wait
        self.turns = Turns(clock)
        encryptor.after_waiters = self.turns.serve
        self.counters = Counters()
        self.noise = Noise(clock)
        self.sessions = Sessions(limits)
        self.holds = Holds(self.sessions, self.turns, self.renew_calls, self.run_beside)
        self.reserve = Reserve()
        self.access = access
        self.apply_settings: Callable[[], None] = lambda: None
        """Makes the partitions of the settings that are missing after a recovery."""
        self.copy_interval = copy_interval
        self._make_backups = make_backups
        self._make_attachment = make_attachment
        self._make_migrations = make_migrations
        self._events: Events | None = None
        self.starts = Starts(system, encryptor, self.power_on, self.run_beside)
        self._nursery: trio.Nursery | None = None
        self.faults: dict[int, Plan[BusyFault]] = {}  # by partition number; only partitions with a plan
        self._log = logs.Log()
        self.stop_asked = trio.Event()
        """Set when the console powers the system off; the server stops in good order then."""

    def __repr__(self) -> str:
        return f"Machine({self.system!r}, {len(self.sessions)} connections)"

    @cached_property
    def backups(self) -> Backups:
        """The trusted system key, and copies of stores for the console."""
        return self._make_backups()

    @cached_property
    def changes(self) -> Changes:
        """The object that creates, deletes and changes partitions, and names the system, durably."""
        from hcall_server.machine import changes

        return changes.Changes(
            self.system,
            self.encryptor,
            self.transport,
            entropy=self.entropy,
            forget=self._deleted,
            gone=lambda partition: self.attachment.deletion_stored(partition.profile.uuid),
            report=self._report,
        )

    @cached_property
    def attachment(self) -> Attachment:
        """The management console that the system is attached to, and the copies that it holds."""
        return self._make_attachment()

    @property
    def events(self) -> Events:
        """The streams of events."""
        if self._events is None:
            from hcall_server.machine import events

            self._events = events.Events()
        return self._events

    def notify_watchers(self, partition: Partition | None = None) -> None:
        """Send `changed`, about a partition or the system itself, to each open stream."""
        if self._events is not None:
            self._events.changed(partition)

    @cached_property
    def custodian(self) -> Custodian:
        """The custody of partitions: who owns them, and how that changes."""
        from hcall_server.machine import custodian

        return custodian.Custodian(self)

    def custody_facts(self) -> list[CustodyFacts]:
        """Return the durable custody of each partition that tried to move, has left, or asks its console."""
        stored = any(each.profile.epoch or each.mode is Mode.ASKING for each in self.system.places.values())
        known = stored or self.system.departed or "custodian" in vars(self)
        return self.custodian.facts() if known else []

    def shown_custody(self, partition: Partition) -> tuple[Custody, Mode]:
        """Return the durable custody of a partition, and its mode."""
        if "custodian" not in vars(self):
            return partition.profile.custody, partition.mode
        return self.custodian.shown(partition)

    @cached_property
    def migrations(self) -> Mobility:
        """The migrations that this system takes part in."""
        return self._make_migrations(self)

    @cached_property
    def recovery(self) -> Recovery:
        """The object that begins and ends the state Recovery."""
        from hcall_server.machine import recovery

        return recovery.Recovery(
            self.system,
            self.encryptor,
            self.transport,
            apply_settings=self.apply_settings,
            start=self.starts.after_recovery,
            start_later=self.starts.later,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve connections and make changes durable, until cancelled; `start` activates partitions."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.encryptor.run)
            await nursery.start(self.transport.run, self)
            self._nursery = nursery
            task_status.started()

    def start(self) -> None:
        """Activate each partition that starts by itself; log refused partitions, which stay off."""
        self.starts.now()

    async def counted_start(self) -> None:
        """Do `start` once the IPL counts are durable.  If it is cancelled, `start_waiting` does the rest."""
        await self.starts.counted()

    @property
    def waiting(self) -> list[Partition]:
        """The partitions that start by themselves and are still off, because their IPL is not counted yet."""
        return self.starts.waiting

    async def start_waiting(self) -> None:
        """Activate each waiting partition once its count is durable; log a failed activation."""
        await self.starts.wait()

    # For the data channel

    def has_room(self, partition: int) -> bool:
        """Whether a partition may have one more session."""
        running = [each.number for each in self.system.partitions.values() if each.running]
        return self.sessions.has_room(partition, running)

    def open_session(self, link: Link, partition: Partition, on_refusal: OnRefusal) -> None:
        """Connect a link with the h-calls of a partition, and count its session."""
        link.on_refusal = on_refusal
        link.calls = self.calls_of(partition, on_refusal)
        self.sessions.open(link, partition)

    def calls_of(self, partition: Partition, on_refusal: OnRefusal) -> Calls:
        """Return the h-calls of a partition, wrapped in its fault plan, its hold, and the log of calls."""
        number = partition.number
        counts, plan, owner = self.counters.calls[number], self.faults.get(number), self.nvram.ownership
        before = Before(HypervisorCalls, counts, plan, self.holds, self.clock, self.call_log, owner)
        return calls_behind(before, partition, on_refusal)

    def renew_calls(self, partition: Partition) -> None:
        """Replace the objects that answer the h-calls of a partition's sessions, from the next call on."""
        for link in self.sessions.of(partition.number):
            link.calls = self.calls_of(partition, link.on_refusal)

    def run_beside(self, work: Callable[[], Awaitable[object]]) -> None:
        """Start a task that the end of the machine cancels.  Before `run` has begun, no task starts."""
        if self._nursery:
            self._nursery.start_soon(work)

    def after_calls(self, partition: Partition, log: logs.Log) -> None:
        """End a batch of calls, before its answers leave: report changes to the encryptor, log updates."""
        keystore = partition.keystore
        if keystore is not None and keystore.contents.dirty:
            self.encryptor.changed(partition)
            if log_latch_use(partition, log):
                self.notify_watchers(partition)
        if keystore is not None and keystore.signed.doubts:
            log_doubts(keystore.signed, PeerLog(self.noise.of(partition.name), log))

    # For the console

    def power_on(self, name: str) -> Partition:
        """Activate a partition and open its socket.  After an error it is off, and has no socket."""
        partition = self.system.find(name)
        partition.next_power(PowerEvent.POWER_ON)
        before = partition.profile
        with ExitStack() as undo:
            self.transport.open(partition)
            undo.callback(self.transport.close, partition)
            self.system.power_on(name)
            undo.pop_all()
        self.starts.ipls.waiting.pop(partition.number, None)
        self._report("partition.activated", partition, before, ipl_count=partition.ipl_count)
        return partition

    def arrive(self, partition: Partition, traveller: Traveller) -> None:
        """Activate a partition in its state of another system.  After an error it is off."""
        before = partition.profile
        with ExitStack() as undo:
            self.transport.open(partition)
            undo.callback(self.transport.close, partition)
            self.transport.publish_key(partition)  # clients can connect during the two syncs of this call
            partition.arrive(traveller.used, traveller.secure_boot)
            undo.pop_all()
        self._report("partition.arrived", partition, before, ipl_count=partition.ipl_count)

    async def counted_power_on(self, name: str) -> Partition:
        """Activate a partition once its IPL count is durable; StorageError if NVRAM does not store that."""
        partition = self.system.find(name)
        await self.starts.ipls.begin(partition, PowerEvent.POWER_ON, self.power_on)
        return partition

    def power_off(self, name: str) -> Partition:
        """Stop a partition, end its sessions, and stop listening for it.  Or cancel its pending start."""
        partition = self.system.find(name)
        if not self.starts.ipls.forget(partition):
            self.system.power_off(name)
        self._end_sessions(partition, "the partition was powered off")
        self.transport.close(partition)
        self._report("partition.stopped", partition)
        return partition

    def ipl(self, name: str) -> Partition:
        """Restart a partition, which ends its sessions: passwords never outlive an IPL (R-04)."""
        partition = self.system.find(name)
        before = partition.profile
        self.system.ipl(name)
        self._end_sessions(partition, "the partition was restarted")
        self._report("partition.restarted", partition, before, ipl_count=partition.ipl_count)
        return partition

    async def counted_ipl(self, name: str) -> Partition:
        """Restart a partition once its IPL count is durable; StorageError if NVRAM does not store it.

        The sessions of the old IPL go on until then.
        """
        partition = self.system.find(name)
        await self.starts.ipls.begin(partition, PowerEvent.IPL, self.ipl)
        return partition

    def set_attributes(self, name: str, changes: Mapping[str, int]) -> Partition:
        """Set console attributes by their names, all of them or none (spec/control.md#attributes)."""
        partition = self.system.set_attributes(name, changes)
        self._report("partition.attributes", partition, **changes)
        return partition

    def set_faults(self, name: str, faults: Iterable[BusyFault]) -> Partition:
        """Give a partition a new fault plan, from its next call on; an empty plan ends the faults (R-75).

        A plan is not stored: it ends with the server.  Times are those of the machine's clock.
        """
        partition = self.system.find(name)
        plan = Plan(checked_plan(faults))
        self.faults.pop(partition.number, None)
        if plan.planned:
            # Import the module now.  A session that opens later may find no free descriptor for the import.
            import hcall_server.faults.busy  # noqa: F401

            self.faults[partition.number] = plan
        self.renew_calls(partition)
        self._log.info("partition.faults", partition=name, faults=[str(each.fault) for each in plan.planned])
        return partition

    def set_nvram_fault(self, fault: NvramFault | None) -> None:
        """Begin a fault of NVRAM, or (None) end it (R-75)."""
        self.nvram.set_faults(*(fault,) if fault else ())
        self._log.info("nvram.fault", trouble=fault.trouble if fault else "none")

    def forget(self, partition: Partition) -> None:
        """Drop all data of a partition's number.  Another partition may get the number."""
        self.faults.pop(partition.number, None)
        self.counters.calls.pop(partition.number, None)
        self.starts.ipls.forget(partition)
        if self.traces:
            self.traces.forget(partition)

    def _deleted(self, partition: Partition) -> None:
        self.forget(partition)
        self.attachment.note_deleted(partition.profile.uuid)
        if partition.profile.epoch:
            self.custodian.deleted(partition)

    def _end_sessions(self, partition: Partition, text: str) -> None:
        self.sessions.end_partition(partition.number, GoodbyeReason.IPL_OR_POWER_OFF, text)

    def _report(
        self, event: str, partition: Partition, before: PartitionProfile | None = None, /, **fields: Any
    ) -> None:
        """Log a change.  Mark the partition dirty if its profile differs from `before`."""
        if partition.profile != before:
            self.encryptor.changed(partition)
        self._log.info(event, partition=partition.name, **fields)
        self.notify_watchers(partition)
