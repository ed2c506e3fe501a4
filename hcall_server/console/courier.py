"""The courier: it reads custody from views, decides, and sends words to systems (spec/migration.md).

await courier.look(system)      # after each new view of a system
await courier.changed(5.0)      # until any custody or entry has changed
"""

# Level-triggered
#
# The two systems of a migration exchange words over their own channel, while it is open.  The console carries
# the same words as well.  It reads the records in the view of one system, and sends the words that follow
# from these records to the other system.  There is no queue of words.  A word follows from the present entry
# and the last view of each system.  So it is sent again after each view: at each connect, change and
# question.  After a word has had its effect, its system shows a new state.  In that state the tables have no
# row for the word, so it is not sent again.
#
# A queue would have to be durable, because a console that was killed must send its words later.  It would
# also contain words that a later step has made useless.  Without a queue, a kill loses nothing.
#
# The courier must guarantee:
#
#   1. An entry is durable before a word that follows from it is sent.
#   2. Each `CustodyView` is durable at its system.  So words that follow from a view of any age are true.
#   3. Each system gets its words in the task of its own stream.  A system that hangs, or is away, delays no
#      other system.
#   4. An answer (RESUME, SERVE, FENCED) belongs to one run of a system.  The courier decides and sends it
#      under the lock of its partition.  If it sends again, it decides anew.  A remote restart takes the same
#      lock.  A request ends with its connection, and a connection ends with the process of the system.  So no
#      answer from before a restart of the system arrives after it.
#   5. If a word could not be sent (a full disk, a lost answer), the next look finds it again.  Some systems
#      ask nothing meanwhile.  So the courier looks every few seconds while a word is due.
#
# Dropped: a changed view woke the streams of all systems that knew the partition.  Each stream requested a
# view again.  A live migration had about four views for each row, and they delayed the systems' commits.
# Now the courier wakes a stream only if a word or an answer for its system follows.

# Words that are kept back (spec/migration.md#words-kept-back)
#
# Four rules are not in the tables.  Each keeps a word back, so it is sent later.  That does no harm:
#
#   `stopping`  While an operator stops an attempt, its source in doubt gets no PREPARED.  So it can resume.
#   `barring`   While a target is barred, the copy of an inactive migration is not sent there.
#   `away`      A source in doubt gets no word that follows from the view of a system that is away.  The word
#               would release the partition to a system that may be dead.  Instead, the answer of row 10 lets
#               the source serve on.
#   restart     The source of a remote restart gets ACTIVE only when an operator orders a cleanup.  Until then
#               the source has the store from before its loss (`carried`).
#
# The first two rules end with the operator's order, even if the order fails.  The third rule ends when the
# system is connected again.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec
import trio

from hcall_abi.control_views import CustodyView, EventView, SystemView
from hcall_abi.requests import ConsoleRequest, tell_custody
from hcall_server import failpoints
from hcall_server.console.carried import words_for
from hcall_server.console.entries import Carried, answered, asks, heard
from hcall_server.console.patience import LONGEST_WAIT
from hcall_server.console.systems import EventLog, KnownSystem
from hcall_server.platform.custody import Decision, Mode

if TYPE_CHECKING:
    from hcall_server.console.registry import Registry
from hcall_server.console.waiting import reason

_LOOK = EventView(number=0, kind="ask-custody")


class Courier:
    """Carries words between the systems of a console."""

    def __init__(
        self, registry: Registry, systems: Callable[[], Iterable[KnownSystem]], log: EventLog
    ) -> None:
        self.registry = registry
        self.stopping: set[tuple[str, int]] = set()
        """Attempts that an operator is stopping, by UUID and epoch: their sources get no PREPARED."""
        self.barring: set[str] = set()
        """Partitions whose target is being barred: their copy is not sent there meanwhile."""
        self._systems = systems
        self._log = log
        self._turns = defaultdict[str, trio.Lock](trio.Lock)
        self._shown: dict[int, dict[str, object]] = {}
        self._change = trio.Event()

    def __repr__(self) -> str:
        return f"Courier({self.registry!r})"

    async def run(self) -> None:
        """Look every few seconds at the systems for which a word is due, until cancelled."""
        while True:
            await trio.sleep(LONGEST_WAIT)
            for system in list(self._systems()):
                if system.connected and self._has_to_hear(system):
                    system.ask(_LOOK)

    async def changed(self, seconds: float) -> bool:
        """Wait until custody or an entry changes, at most `seconds`; return whether one has changed."""
        with trio.move_on_after(seconds):
            await self._change.wait()
            return True
        return False

    def notify(self) -> None:
        """Wake the tasks that wait for a change."""
        self._change.set()
        self._change = trio.Event()

    async def look(self, system: KnownSystem) -> None:
        """Bring register and systems up to date after a new view of a system.

        The courier stores the facts of the view, and sends this system the words and answers that follow.
        After that, it wakes the other systems that need a custody word.  SwpksError if the system does not
        answer, or the store of the console can't be written.
        """
        sent = set[Carried]()
        self._hear(system)
        # The answer to a word is a new view, so the loop computes the due words anew.  A word without effect
        # stays due.  `sent` prevents that such a word is sent again for ever.
        while word := next((each for each in self._due(system) if each not in sent), None):
            sent.add(word)
            await self._send(system, word)
        for fact in self.registry.facts_of(system):
            if asks(fact):
                await self.answer(system, fact)
        self._spread(system)

    def turn(self, uuid: str) -> trio.Lock:
        """Return the lock of a partition.

        A task holds the lock while it makes a system the owner.  A task also holds it while it answers a
        system that asks about the partition.
        """
        return self._turns[uuid]

    async def answer(self, system: KnownSystem, fact: CustodyView) -> None:
        """Send the answer to a system that asks about a partition; store the decision first.

        The lock of the partition is held until the answer has arrived or failed.  So no other decision about
        the partition comes in between.
        """
        async with self.turn(fact.uuid):
            await self._answer(system, fact)

    async def _answer(self, system: KnownSystem, fact: CustodyView) -> None:
        # The facts of all systems are stored first: a system that was just added may be the owner.
        for each in list(self._systems()):
            self._hear(each, fact.uuid)
        # `StoreGuard` makes a similar check before a restore.  This one is stricter, because it compares
        # epochs.  waiting.py says why they are two functions.
        entry, facts = self.registry.of(fact.uuid), self.registry.facts(fact.uuid)
        claimed = self.registry.claimed(system, fact.uuid)
        heard_of = self.registry.heard()
        decided = answered(entry, system.system_id, fact, heard_of, facts, claimed=bool(claimed))
        # Without an answer the system does not serve, and asks again.  So no answer is the safe choice.
        if decided is None:
            about = {"partition": fact.name, "uuid": fact.uuid, "epoch": fact.epoch, "claimed_by": claimed}
            peer = self.registry.name_of(fact.peer_id)
            why = reason(self.registry, system, fact.uuid)
            self._log.warning("custody.unanswered", system=system.name, peer=peer, waits=why, **about)
            return
        now, word = decided
        if now is not None and now != entry:
            self.registry.enter(now, "aborted" if now.decision is Decision.ABORTED else None)
            self.notify()
        await self._send(system, word)

    def poke(self, uuid: str) -> None:
        """Wake the tasks that wait for a change, and the streams of the systems that may need a word."""
        self.look_again(uuid)
        self.notify()

    def look_again(self, uuid: str) -> None:
        """Order a new look at each system that may need a word about a partition.

        The look runs later, in the stream of the system.
        """
        entry, facts = self.registry.of(uuid), self.registry.facts(uuid)
        named = {entry.source, entry.target, entry.owner} if entry else set[str]()
        for system in list(self._systems()):
            if system.system_id in named or system.system_id in facts:
                # A look makes requests.  In this loop, a system that hangs would delay the others.  So each
                # look runs in the stream of its own system.
                system.ask(_LOOK)

    async def _send(self, system: KnownSystem, word: Carried) -> None:
        entry = self.registry.of(word.uuid)
        facts = [*self.registry.facts(word.uuid).values()]
        name = entry.name if entry else facts[0].name if facts else ""
        fields = {"partition": name, "uuid": word.uuid, "epoch": word.epoch, "word": word.word}
        self._log.info("custody.sent", system=system.name, **fields)
        await system.call(_request(word))
        failpoints.reached("told")
        self._hear(system)

    def _hear(self, system: KnownSystem, uuid: str = "") -> None:
        """Store the facts of a system's view in the register, durably.

        With `uuid`, only the facts about this partition are stored.
        """
        for fact in self.registry.facts_of(system):
            if uuid not in ("", fact.uuid):
                continue
            entry = self.registry.of(fact.uuid)
            now = heard(entry, system.system_id, fact)
            if now is not None and now != entry:
                done = now.decision is Decision.DONE and now.epoch == fact.epoch
                self.registry.enter(now, "done" if done else None)
                self.notify()

    def _has_to_hear(self, system: KnownSystem) -> bool:
        """Return whether a word or an answer for a system is due."""
        return bool(self._due(system)) or any(map(asks, self.registry.facts_of(system)))

    def _due(self, system: KnownSystem) -> list[Carried]:
        """Return the words that are due for a system, without answers to its questions."""
        words = list[Carried]()
        for here in self.registry.facts_of(system):
            entry, facts = self.registry.of(here.uuid), self.registry.facts(here.uuid)
            due = words_for(entry, system.system_id, facts, self.registry.away())
            stopped = (here.uuid, here.epoch) in self.stopping and here.mode == Mode.IN_DOUBT.value
            words += [each for each in due if not (stopped and each.word == "prepared")]
        return words

    def _spread(self, system: KnownSystem) -> None:
        """Wake the streams of other systems that need a word after a change at this system."""
        facts = {fact.uuid: fact for fact in self.registry.facts_of(system)}
        now = {uuid: _heard_by_others(fact) for uuid, fact in facts.items()}
        before = self._shown.get(system.key, {})
        self._shown[system.key] = now
        for uuid in now.keys() | before.keys():
            if now.get(uuid) != before.get(uuid):
                self._wake_others(system, uuid, facts.get(uuid))

    def _wake_others(self, system: KnownSystem, uuid: str, fact: CustodyView | None) -> None:
        entry, facts = self.registry.of(uuid), self.registry.facts(uuid)
        named = {entry.source, entry.target} if entry else set[str]()
        named |= {fact.peer_id} if fact else set()
        for other in list(self._systems()):
            concerned = other is not system and (other.system_id in named or other.system_id in facts)
            if concerned and self._has_to_hear(other):
                other.ask(_LOOK)
        self.notify()


def _heard_by_others(fact: CustodyView) -> object:
    """Return the parts of a fact that can lead to words for other systems.

    The generation of a prepared copy is such a part.  The generation of a served store is none, because it
    changes with each write.  So it is replaced by 0.
    """
    prepared = fact.custody == "prepared"
    return msgspec.structs.replace(fact, generation=fact.generation if prepared else 0)


def _request(word: Carried) -> ConsoleRequest[SystemView]:
    return tell_custody(word.uuid, word.epoch, word.word, generation=word.generation, peer_id=word.peer)
