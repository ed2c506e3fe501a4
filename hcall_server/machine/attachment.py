"""The management console that a system is attached to, and the copies that the console holds.

Page: spec/control.md#the-console-of-a-system.  A start does not load this module.
"""

# The console of a system
#
# The console dials; the system never does.  A system asks questions on the stream that its console keeps
# open ("take my copy", "forget copies"), and a verb answers each of them.  This must hold:
#
#   1. A system has one console.  Its id is durable before attachConsole is answered.  Another console takes
#      over only while no stream of the first is open: then the first is lost, or away.
#   2. If the console does not hold the present contents of a store, it is asked for a copy again and again
#      while it is connected.  A copy counts as held once keepCopy was answered.
#   3. The console is asked at least once to put the copies of a deleted partition aside.  The system asks
#      only when the deletion is durable.  Before that, a power cut could bring the partition back.
#   4. A console that is away, slow or full of errors delays nothing else.  No h-call, no verb and no flush
#      waits for it.  While it is away, no task runs for it.
#
# So there is no queue of questions.  `look` finds the open questions in the present state: in the copies of
# the console record, and in the present partitions.  The task that writes the console's stream calls `look`
# when the console connects, and then every `copy interval`.  `_asked` has the time of each question: no
# question is repeated at once.  A new stream of the console clears `_asked`.
#
# The console's copy is current if three facts agree with the store: the count of restores, the generation,
# and a fingerprint.  The generation counts changes of the contents only.  The fingerprint covers the rest of
# the profile, such as a name or an attribute, and the trusted system key.  It omits the counters: they never
# go back, so an IPL does not make a copy old.  Another key makes each copy old, because the new key does not
# open it.
#
# keepCopy names a copy by restores, generation and time.  These facts have no fingerprint.  `_made` has the
# fingerprint for the last copy of each store.  After a restart of the server it is missing.  Then the copy
# is recorded with an unknown profile, and the system asks the console for one more copy.
#
# We dropped a hook at every change of a store: it would cost time in each h-call, and `look` finds the same.

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import trio

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import console as rules
from hcall_server.machine import logs
from hcall_server.machine.events import Events, Watcher
from hcall_server.machine.patience import flushed
from hcall_server.nvram.names import CONSOLE
from hcall_server.platform.custody import Mode
from hcall_server.platform.system_state import SystemState
from hcall_server.sealing import PartitionRecord, SealingError, encode_partition
from hcall_server.sealing.console_formats import FINGERPRINT_SIZE
from hcall_server.sealing.console_record import ConsoleRecord, Kept, open_console, seal_console

if TYPE_CHECKING:
    from hcall_abi.control_views import EventKind
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.profile import PartitionProfile
    from hcall_server.platform.system import ManagedSystem
    from hcall_server.sealing import Sealer
    from hcall_server.writeback.encryptor import Encryptor

AGAIN_SECONDS = 10.0
"""A question that was not answered is asked again after this time, at the next look."""
UNKNOWN = bytes(FINGERPRINT_SIZE)
"""The fingerprint of a profile that is not known."""


class ConsoleLink(NamedTuple):
    """The attached console; `since` is when it connected, or went away (seconds since 1970)."""

    id: str
    name: str
    connected: bool
    since: float


class Attachment:
    """The console of a system.

    `stored` is the sealed console record.  `since` is the time of the start.  `date` returns seconds since
    1970.  `key_id` returns the id of the trusted system key, b"" if there is no key.

    If there is no key, the first request for a copy makes one.  That needs a partition with a keystore.
    """

    def __init__(
        self,
        system: ManagedSystem,
        encryptor: Encryptor,
        events: Events,
        *,
        sealer: Sealer,
        date: Callable[[], float],
        key_id: Callable[[], bytes],
        stored: bytes | None,
        since: float,
    ) -> None:
        self._system = system
        self._encryptor = encryptor
        self._events = events
        self._date = date
        self._key_id = key_id
        self._log = logs.Log()
        self._record = self._opened(sealer, stored)
        self._since = since
        self._asked: dict[tuple[EventKind, UUID], float] = {}
        self._made: dict[UUID, Kept] = {}
        self._fresh: set[UUID] = set()
        """Forgotten UUIDs whose deletion may not be durable yet."""
        self._prints: dict[UUID, tuple[PartitionProfile, bytes, bytes]] = {}

    def __repr__(self) -> str:
        return f"Attachment({self.link})"

    def _opened(self, sealer: Sealer, stored: bytes | None) -> ConsoleRecord | None:
        """Return the console record, None if it does not open.

        A record that does not open is logged.  The next console replaces it.
        """
        try:
            return None if stored is None else open_console(sealer, stored)
        except SealingError as error:
            self._log.error("console.refused", **logs.explained(error))
            return None

    # Facts for views

    @property
    def link(self) -> ConsoleLink | None:
        """The attached console, None if there is none."""
        record = self._record
        return record and ConsoleLink(record.id.hex(), record.name, self.connected, self._since)

    @property
    def connected(self) -> bool:
        """Whether the stream of the attached console is open."""
        return self._events.console is not None

    def kept(self, uuid: UUID) -> Kept | None:
        """Return the facts about the last copy of a store at the console, None if it holds none."""
        return self._record.kept.get(uuid) if self._record else None

    def knows(self, profile: PartitionProfile) -> bool:
        """Whether the console's last copy of a store has the present attributes of the partition."""
        held = self.kept(profile.uuid)
        try:
            return held is not None and held.profile == self._fingerprint(profile)
        except SwpksError:  # the trusted system key does not open
            return False

    def ago(self, time: float) -> float:
        """Return how many seconds ago a time was."""
        return max(self._date() - time, 0.0)

    # The console comes and goes

    async def attach(self, console_id: bytes, name: str) -> None:
        """Attach a console durably.

        Raises OperatorError while another console is connected, and in the state Reset pending.
        """
        self._system.demand_not_pending()
        before = self._record
        if before is None or before.id != console_id:
            if before and self.connected:
                message = f"the console {before.name} ({before.id.hex()}) is connected"
                raise OperatorError(rules.CONSOLE_ATTACHED, message)
            self._begin(ConsoleRecord(console_id, name, {}))
            other = {"before": before.name, "before_id": before.id.hex()} if before else {}
            self._report("console.replaced" if before else "console.attached", self._record, **other)
        elif before.name != name:
            self._change(before._replace(name=name))
            self._events.changed()
        await self._stored("the attached console")

    async def detach(self, console_id: bytes) -> None:
        """Detach the console, durably; nothing to do if none is attached.  OperatorError for another id."""
        before = self._record
        if before is not None:
            self.demand(console_id.hex())
            self._events.end_console()
            self._begin(None)
            self._report("console.detached", before)
        await self._stored("the end of the attachment")

    @contextmanager
    def stream(self, console_id: str) -> Iterator[Watcher]:
        """Open the stream of the attached console for the block; OperatorError for another console."""
        self.demand(console_id)
        self._since = self._date()
        self._asked.clear()
        self._report("console.connected", self._record)
        try:
            with self._events.opened(is_console=True) as watcher:
                yield watcher
        finally:
            record = self._record
            if record and record.id.hex() == console_id and not self.connected:
                self._since = self._date()
                self._report("console.left", record)

    def demand(self, console_id: str) -> None:
        """OperatorError if this is not the attached console."""
        record = self._attached()
        if record.id.hex() != console_id:
            message = f"the attached console is {record.name} ({record.id.hex()})"
            raise OperatorError(rules.CONSOLE_KNOWN, message)

    # Its copies

    def look(self) -> None:
        """Send all open questions to the connected console.

        If a partition may be served only after the console's answer, the system asks who owns the
        partition.  It asks the console to take each copy that the console does not hold.  It asks the
        console to put copies of deleted partitions aside.
        """
        if self._system.state is not SystemState.OPERATING or self._record is None:
            return
        # No change is pending, so every deletion is durable.  A caller that has stopped waiting never calls
        # `deletion_stored`, so its deletion is cleared here.
        if not self._encryptor.pending:
            self._fresh.clear()
        present = {each.profile.uuid for each in self._system.partitions.values()}
        if back := present.intersection(self._record.forgotten):
            self._forget(back)
        for uuid in self._record.forgotten:
            if uuid not in self._fresh:
                self._ask("forget-copies", uuid)
        for partition in self._system.partitions.values():
            if partition.mode in (Mode.ASKING, Mode.IN_DOUBT):
                self._ask("ask-custody", partition.profile.uuid, partition.name)
        if self._can_copy():
            self._ask_for_copies()

    def _ask_for_copies(self) -> None:
        for partition in self._system.partitions.values():
            owned = partition.owned and not partition.refused
            if owned and self._is_old(partition.profile):
                self._ask("take-copy", partition.profile.uuid, partition.name)

    def made(self, profile: PartitionProfile, time: int) -> None:
        """Remember the facts of a copy that was made now.  The console may confirm the copy later."""
        facts = self._facts(profile, time)
        before = self._made.get(profile.uuid)
        if before is not None and before[:3] == facts[:3] and before.profile != facts.profile:
            # Two copies have the same restores, generation and time.  keepCopy names only these, so it
            # cannot say which of the two copies the console holds.
            facts = facts._replace(profile=UNKNOWN)
        self._made[profile.uuid] = facts

    async def keep(
        self, partition: Partition, uuid: UUID, *, restores: int, generation: int, time: int
    ) -> None:
        """Record durably that the console holds a copy.

        If the console holds a newer copy, nothing changes.
        """
        record = self._attached()
        profile = partition.profile
        present = self._facts(profile, 0)
        if uuid != profile.uuid:
            raise OperatorError(rules.CONSOLE_COPY, f"{partition.name} has the UUID {profile.uuid}")
        if restores > present.restores or generation > present.generation:
            message = f"{partition.name} has restores {present.restores}, generation {present.generation}"
            raise OperatorError(rules.CONSOLE_COPY, message)
        self._asked.pop(("take-copy", uuid), None)
        made = self._made.get(uuid)
        known = made is not None and made[:3] == (restores, generation, time)
        held = Kept(restores, generation, time, made.profile if made and known else UNKNOWN)
        before = record.kept.get(uuid)
        if before is None or before[:3] <= held[:3]:
            self._change(record._replace(kept={**record.kept, uuid: held}))
            self._log.info("copy.kept", partition=partition.name, generation=generation, restores=restores)
            self._events.changed(partition)
        await self._stored(f"which copy of {partition.name} the console holds")

    def note_deleted(self, uuid: UUID) -> None:
        """Record that a partition was deleted: the console is to put its copies aside.

        The record becomes durable in the commit of the deletion.
        """
        self._made.pop(uuid, None)
        self._prints.pop(uuid, None)
        if record := self._record:
            kept = {each: held for each, held in record.kept.items() if each != uuid}
            self._fresh.add(uuid)
            self._change(record._replace(kept=kept, forgotten=(*record.forgotten, uuid)))

    def note_departed(self, uuid: UUID) -> None:
        """Forget the copies of a partition that has left this system.  The console still has them."""
        self._made.pop(uuid, None)
        self._prints.pop(uuid, None)
        if (record := self._record) and uuid in record.kept:
            kept = {each: held for each, held in record.kept.items() if each != uuid}
            self._change(record._replace(kept=kept))

    def deletion_stored(self, uuid: UUID) -> None:
        """Ask the console to put the copies of a deleted partition aside.  The deletion must be durable."""
        self._fresh.discard(uuid)
        self.look()

    async def forget(self, uuids: Iterable[UUID]) -> None:
        """Record durably that the console has put copies of deleted partitions aside."""
        self._attached()
        self._forget(set(uuids))
        await self._stored("which copies the console has put aside")

    # Inside

    def _forget(self, uuids: set[UUID]) -> None:
        record = self._attached()
        rest = tuple(each for each in record.forgotten if each not in uuids)
        if rest != record.forgotten:
            self._change(record._replace(forgotten=rest))

    def _attached(self) -> ConsoleRecord:
        if self._record is None:
            raise OperatorError(rules.CONSOLE_KNOWN, "no console is attached")
        return self._record

    def _begin(self, record: ConsoleRecord | None) -> None:
        """Replace the console record, None for no console.  Also clear `_asked` and `_fresh`."""
        self._asked.clear()
        self._fresh.clear()
        self._since = self._date()
        self._change(record)

    def _change(self, record: ConsoleRecord | None) -> None:
        self._record = record
        self._encryptor.record_changed(CONSOLE, self._sealed)

    def _sealed(self, sealer: Sealer) -> bytes | None:
        return None if self._record is None else seal_console(sealer, self._record)

    async def _stored(self, what: str) -> None:
        await flushed(self._encryptor, what, rules.CONSOLE_STORED)

    def _report(self, event: str, record: ConsoleRecord | None, **fields: str) -> None:
        """Report an event of a console to the log, and to the readers of events."""
        if record is not None:
            self._log.info(event, console=record.name, id=record.id.hex(), **fields)
        self._events.changed()

    def _ask(self, kind: EventKind, uuid: UUID, partition: str = "") -> None:
        now = trio.current_time()
        if now >= self._asked.get((kind, uuid), -AGAIN_SECONDS) + AGAIN_SECONDS:
            self._asked[kind, uuid] = now
            self._events.ask(kind, partition=partition, uuid=str(uuid))

    def _can_copy(self) -> bool:
        try:
            return bool(self._key_id()) or self._system.assigned_kbytes > 0
        except SwpksError:  # the key does not open; a request for a copy will fail, and report the reason
            return False

    def _is_old(self, profile: PartitionProfile) -> bool:
        """Whether the console lacks a copy of the present state of a store."""
        held = self.kept(profile.uuid)
        return held is None or held._replace(time=0) != self._facts(profile, 0)

    def _facts(self, profile: PartitionProfile, time: int) -> Kept:
        return Kept(profile.restores, profile.image_generation, time, self._fingerprint(profile))

    def _fingerprint(self, profile: PartitionProfile) -> bytes:
        """Return one fingerprint of two things: a profile without its counters, and the present key."""
        plain = profile.at_home._replace(ipl_count=0, image_generation=0, restores=0)
        key_id = self._key_id()
        known = self._prints.get(profile.uuid)
        if known is None or known[:2] != (plain, key_id):
            encoded = encode_partition(PartitionRecord(plain, None)) + key_id
            fingerprint = hashlib.sha256(encoded).digest()[:FINGERPRINT_SIZE]
            known = self._prints[profile.uuid] = plain, key_id, fingerprint
        return known[2]
