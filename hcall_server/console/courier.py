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
# question.  A word that has had its effect has no row in the new state of its system, and does not follow any
# more.
#
# A queue would have to be durable, because a console that was killed must send the rest.  It would also keep
# words that a later step has made useless.  With the present state alone a kill loses nothing.
#
# The courier must guarantee:
#
#   1. An entry is durable before a word that follows from it is sent.
#   2. Each `CustodyView` is durable at its system.  So words that follow from a view of any age are true.
#   3. Each system gets its words in the task of its own stream.  A system that hangs, or is away, delays no
#      other system.
#   4. An answer (RESUME, SERVE, FENCED) belongs to one run of a system.  It is decided and sent under the
#      lock of its partition, and each attempt to send is decided anew.  A remote restart takes the same lock.
#      A request ends with its connection, and a connection ends with the process of the system.  So no answer
#      from before a restart arrives after it.
#   5. A word that could not be sent (a full disk, a lost answer) follows again at the next look.  Some
#      systems ask nothing meanwhile, so the courier looks every few seconds while a word is due.
#
# At first a changed view woke the streams of all systems that knew the partition, and each one asked for a
# view again.  That was about four views a row of a live migration, and they delayed the commits of the
# systems.  Now a stream is woken only if a word or an answer for its system follows.

# Words that are kept back
#
# Four rules are not in the tables.  They keep back words, and a word that is kept back is only late:
#
#   `stopping`  While an operator stops an attempt, its source in doubt gets no PREPARED.  So it can resume.
#   `barring`   While a target is barred, the copy of an inactive migration is not sent there.
#   `away`      A source in doubt gets no word that is only known from a system that is not connected.  Such a
#               word would release the partition to a system that may be dead.  The answer of row 10 lets the
#               source serve on.
#   restart     The source of a remote restart gets ACTIVE only when an operator cleans it up.  Until then it
#               keeps the store that it had when it was lost (`carried`).
#
# The first two rules end with the operator's order, also if the order fails.  The third rule ends when the
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
        """Store the facts of a system's last view, send it the words that follow, and wake the other systems.

        SwpksError if the system does not answer, or the console's store can't be written.
        """
        sent = set[Carried]()
        self._hear(system)
        # The due words are found anew after each word, because its answer is a new view.  Without `sent` the
        # loop would repeat a word that has no effect for ever.
        while word := next((each for each in self._due(system) if each not in sent), None):
            sent.add(word)
            await self._send(system, word)
        for fact in self.registry.facts_of(system):
            if asks(fact):
                await self.answer(system, fact)
        self._spread(system)

    def turn(self, uuid: str) -> trio.Lock:
        """Return the lock of a partition.

        A task holds it while it gives the partition an owner, or answers a system about the partition.
        """
        return self._turns[uuid]

    async def answer(self, system: KnownSystem, fact: CustodyView) -> None:
        """Answer a system that asks; the decision is stored before it is sent.

        Nothing else is decided about the partition until the answer has arrived or failed.
        """
        async with self.turn(fact.uuid):
            await self._answer(system, fact)

    async def _answer(self, system: KnownSystem, fact: CustodyView) -> None:
        for each in list(self._systems()):  # a system that was just added may be the owner
            self._hear(each, fact.uuid)
        # This check is stricter than the guard of restores, and compares epochs.  waiting.py says why the two
        # are not one function.
        entry, facts = self.registry.of(fact.uuid), self.registry.facts(fact.uuid)
        claimed = self.registry.claimed(system, fact.uuid)
        heard_of = self.registry.heard()
        decided = answered(entry, system.system_id, fact, heard_of, facts, claimed=bool(claimed))
        # To send no answer is safe: the system does not serve, and asks again.
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
        """Wake the tasks that wait for a change, and look again at the systems of a partition."""
        self.look_again(uuid)
        self.notify()

    def look_again(self, uuid: str) -> None:
        """Look again at all systems that may need a word about a partition."""
        entry, facts = self.registry.of(uuid), self.registry.facts(uuid)
        named = {entry.source, entry.target, entry.owner} if entry else set[str]()
        for system in list(self._systems()):
            if system.system_id in named or system.system_id in facts:
                # The stream of each system looks, and not this loop: a look makes requests, and a system that
                # hangs would delay the others.
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
    """Return the parts of a fact from which words for other systems follow.

    The generation is such a part only for a prepared copy.  That of a served store changes with each write,
    so it must not wake the other systems.
    """
    prepared = fact.custody == "prepared"
    return msgspec.structs.replace(fact, generation=fact.generation if prepared else 0)


def _request(word: Carried) -> ConsoleRequest[SystemView]:
    return tell_custody(word.uuid, word.epoch, word.word, generation=word.generation, peer_id=word.peer)
