"""A migrating partition as a model: systems, a console, the worst network, and an operator.

Every step of a party comes from the tables of `hcall_server.platform.custody`.  This module adds the crashes,
the orders, the routes of words, and the rules of the drivers.  A mistake is another `Rules`.
"""

# The worst network
#
# A word that was once sent may arrive at any later time, any number of times, or never.  So the network is a
# set of words that only grows, and a delivery removes nothing.  A set is a number with one bit for each word.
#
# A party has few states.  Its moves depend only on its state and on the words of the network.  So
# all moves of each state are computed once, as masks, and the search adds and compares numbers.
#
# A system repeats a word while its state allows it.  In the search this is either a separate move
# (`eager=False`), or it happens with the step into the state (`eager=True`).  Both reach the same states
# of the parties: an extra word in the network forbids no move, because it may stay undelivered.  The second
# kind of search has a twentieth of the states.

from __future__ import annotations

from collections.abc import Iterator

from hcall_server.platform.custody import (
    LEFT,
    ConsoleRow,
    Custody,
    Decision,
    Mode,
    Party,
    Register,
    Saying,
    Word,
    after,
    console_step,
    decided,
    step,
)
from tests.platform.custody_world import (
    TO_CONSOLE,
    Attempt,
    Bars,
    Cause,
    Desk,
    Kind,
    Local,
    Move,
    Reason,
    Said,
    World,
)


class Model:
    """The possible moves of each party of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rules = world.rules
        self.first = (
            Local(Custody.OWN, Mode.SERVING, 0),
            *[Local(Custody.NONE, Mode.SETTLED, 0)] * (world.systems - 1),
        )

    def attempt(self, epoch: int) -> Attempt:
        """Return the attempt of an epoch."""
        return self.world.plan[epoch - 1]

    def owner(self, register: Register) -> int:
        """Return the owner according to the console's register."""
        return self.attempt(register.moved).target if register.moved else 0

    # Systems

    def system(self, me: int, at: Local) -> Iterator[Move]:
        """Yield the moves of a system."""
        if at.mode is None:
            custody, mode = self.rules.started(at.custody, self.world.asks)
            yield Move(f"{me} starts", at._replace(custody=custody, mode=mode))
            return
        yield Move(f"{me} crashes", at._replace(mode=None, attempt=0), cause=Cause.FAULT)
        if at.serves and me in self.world.writers and at.generation < self.world.writes:
            written = at._replace(generation=at.generation + 1)
            yield Move(f"{me} confirms a write", written, cause=Cause.OPERATOR)
        for word, epoch in ((Word.ABORT, at.epoch), (Word.AGREED, at.attempt)):
            yield from self._taken(me, at, Said(word, epoch, me), ())
        for said in self._to(me):
            yield from self._taken(me, at, said, (said,))

    def _taken(self, me: int, at: Local, said: Said, needs: tuple[Said, ...]) -> Iterator[Move]:
        row = step(at.standing, said.word, said.epoch, said.generation, self.rules.system)
        if row is None:
            return
        then = after(at.standing, row, said.epoch, said.generation)
        attempt = said.epoch if then.mode is Mode.COPYING else 0
        store = 0 if then.custody in LEFT else then.generation
        behind = Local(then.custody, then.mode, then.epoch, attempt, store)
        early = tuple(each for each in self.said(me, behind) if each.word in self.rules.early)
        if early and row.to is not None:
            yield Move(f"{me} speaks too early", at, needs, early)
        yield Move(f"{me}: {said.word.value}({said.epoch}), row {row.number}", behind, needs, row=row)

    def said(self, me: int, at: Local | Desk) -> tuple[Said, ...]:
        """Return the words that a party sends in a state."""
        if isinstance(at, Desk):
            return tuple(self._ordered(at.register)) if at.up else ()
        return tuple(self._says(me, at)) if at.mode is not None else ()

    def _says(self, me: int, at: Local) -> Iterator[Said]:
        for saying in self.rules.says:
            fits = saying.at is at.custody and saying.mode in (None, at.mode)
            if fits and (at.epoch or saying.word is Word.ASK):
                yield from self._routed(me, at, saying)
        attempt = self.attempt(at.epoch) if at.epoch else None
        if at.custody is Custody.RELEASED and attempt and attempt.kind is Kind.INACTIVE:
            yield Said(Word.COPY, at.epoch, attempt.target, at.generation)
        if at.custody is Custody.RELEASED and any(each.kind is Kind.RESTART for each in self.world.plan):
            # The console learns of each record by this word.
            yield Said(Word.ACTIVATE, at.epoch, TO_CONSOLE, sender=me)
        if at.custody is Custody.NONE and attempt and attempt.kind is Kind.BAR:
            yield Said(Word.BAR, at.epoch, TO_CONSOLE, sender=me)

    def _routed(self, me: int, at: Local, saying: Saying) -> Iterator[Said]:
        generation = at.generation if saying.word in (Word.FINAL, Word.PREPARED) else 0
        for party in saying.to:
            if party is Party.CONSOLE:
                asking = saying.word is Word.ASK and at.mode is Mode.ASKING
                yield Said(saying.word, at.epoch, TO_CONSOLE, generation, me, asking)
            else:
                for to in self._hearers(me, at.epoch, saying.word, party):
                    yield Said(saying.word, at.epoch, to, generation)

    def _hearers(self, me: int, epoch: int, word: Word, party: Party) -> list[int]:
        """Return the receivers of a word: ACTIVE and ABORTED go to all other systems."""
        if word in (Word.ACTIVE, Word.ABORTED):
            return [each for each in range(self.world.systems) if each != me]
        attempt = self.attempt(epoch)
        return [attempt.source if party is Party.SOURCE else attempt.target]

    def _to(self, me: int) -> Iterator[Said]:
        """Yield each word of a list that a system could receive."""
        for epoch in range(len(self.world.plan) + 1):
            for word in Word:
                if word in (Word.FINAL, Word.PREPARED, Word.COPY):
                    for generation in range(self.world.writes + 1):
                        yield Said(word, epoch, me, generation)
                elif word not in (Word.ABORT, Word.AGREED):
                    yield Said(word, epoch, me)

    # The console

    def console(self, at: Desk) -> Iterator[Move]:
        """Yield the moves of the console."""
        if not at.up:
            yield Move("C starts", at._replace(up=True))
            return
        yield Move("C crashes", at._replace(up=False), cause=Cause.FAULT)
        yield from self._begun(at)
        yield from self._forced(at)
        for system in range(self.world.systems):
            for epoch in range(len(self.world.plan) + 1):
                yield from self._heard(at, system, epoch)

    def _step(self, at: Desk, word: Word, epoch: int) -> tuple[Desk, ConsoleRow] | None:
        row = console_step(at.register, word, epoch, self.rules.console)
        return (Desk(True, decided(at.register, row, epoch)), row) if row else None

    def _begun(self, at: Desk) -> Iterator[Move]:
        epoch = at.register.epoch + 1
        if epoch > len(self.world.plan):
            return
        attempt = self.attempt(epoch)
        if attempt.kind is Kind.BAR:
            yield from self._restarted(at, epoch + 1)
            return
        found = self._step(at, Word.BEGIN, epoch)
        if found and (self.rules.begins_anywhere or self.owner(at.register) == attempt.source):
            yield Move(f"C begins {epoch}", found[0], cause=Cause.OPERATOR, row=found[1])

    def _restarted(self, at: Desk, epoch: int) -> Iterator[Move]:
        """Yield the bars of a restart, and the restart itself once the bars are confirmed."""
        attempt = self.attempt(epoch)
        found = self._step(at, Word.RESTART, epoch)
        forced = at.register.decision is Decision.FORCED
        if found is None or not (forced or self.owner(at.register) == attempt.source):
            return
        bars = self._bars(at.register)
        barred = tuple(Said(Word.BAR, epoch - 1, TO_CONSOLE, sender=each.to) for each in bars)
        free = None if self.rules.unseen else attempt.target
        for reason in self._reasons(at.register, attempt):
            for said in bars:
                yield Move(f"C bars {said.to}", at, reason.needs, (said,), reason.cause, reason.dead)
            needs = barred + reason.needs
            yield Move(
                f"C restarts {epoch}", found[0], needs, (), reason.cause, reason.dead, row=found[1], free=free
            )

    def _reasons(self, register: Register, attempt: Attempt) -> Iterator[Reason]:
        """Yield the reasons why the source of a restart can't serve: it is dead, or its record shows it."""
        if register.decision is Decision.FORCED:
            # This restart cancels a decided one. The bar of the decided one's target is reason enough.
            yield Reason(Cause.FORCE)
            return
        yield Reason(Cause.OPERATOR, None if self.world.wrong else attempt.source)
        for epoch in range(register.moved + 1, register.epoch + 1):
            shown = Said(Word.ACTIVATE, epoch, TO_CONSOLE, sender=attempt.source)
            yield Reason(Cause.FORCE, needs=(shown,))

    def _bars(self, register: Register) -> list[Said]:
        """Return the bars of a restart, for all systems that an earlier attempt may still make the owner."""
        open_since = register.moved if register.decision is Decision.FORCED else register.moved + 1
        first = {Bars.ALL: open_since, Bars.LAST: register.epoch, Bars.NONE: register.epoch + 1}
        epochs = range(max(first[self.rules.bars], open_since), register.epoch + 1)
        systems = {self.attempt(each).target for each in epochs}
        return [Said(Word.BAR, register.epoch + 1, each) for each in sorted(systems)]

    def _ordered(self, register: Register) -> Iterator[Said]:
        """Yield the words of the console's present decision, and of a restart in preparation."""
        if not register.epoch:
            return
        attempt = self.attempt(register.epoch)
        if register.decision is Decision.OPEN:
            word = Word.RELEASE if attempt.kind is Kind.INACTIVE else Word.BEGIN
            yield Said(word, register.epoch, attempt.source)
        if register.decision is Decision.FORCED:
            word = Word.COPY if attempt.kind is Kind.RESTART else Word.FORCE
            yield Said(word, register.epoch, attempt.target)
        if register.decision is Decision.ABORTED and self.rules.aborts_target:
            yield Said(Word.ABORTED, register.epoch, attempt.target)

    def _forced(self, at: Desk) -> Iterator[Move]:
        epoch = at.register.epoch
        found = self._step(at, Word.FORCE, epoch)
        if found is None or self.attempt(epoch).kind is not Kind.LIVE:
            return
        for generation in range(self.world.writes + 1):
            heard = Said(Word.PREPARED, epoch, TO_CONSOLE, generation, self.attempt(epoch).target)
            needs = () if self.rules.forces_unheard else (heard,)
            yield Move("the operator forces", found[0], needs, cause=Cause.FORCE, row=found[1])

    def _heard(self, at: Desk, system: int, epoch: int) -> Iterator[Move]:
        active = Said(Word.ACTIVE, epoch, TO_CONSOLE, sender=system)
        found = self._step(at, Word.ACTIVE, epoch)
        if found and epoch:
            yield Move(f"C hears active({epoch})", found[0], (active,), row=found[1])
        ask = Said(Word.ASK, epoch, TO_CONSOLE, sender=system)
        yield from self._answered(at, ask)
        mine = self.owner(at.register) == system
        sent = Said(Word.SERVE, epoch, system) if mine else Said(Word.FENCED, at.register.moved, system)
        yield self._answer(at, ask._replace(asking=True), sent)

    def _answered(self, at: Desk, ask: Said) -> Iterator[Move]:
        """Yield the answer to a source in doubt: first the decision, then the word."""
        if not 1 <= ask.epoch <= at.register.epoch:
            return
        if ask.epoch < at.register.epoch:
            word = self.rules.answer(at.register, ask.epoch)
            yield self._answer(at, ask, Said(word, ask.epoch, ask.sender))
        elif found := self._step(at, Word.ASK, ask.epoch):
            behind, row = found
            if row.to:
                yield Move("C aborts", behind, (ask,), row=row)
            elif row.says:
                yield self._answer(at, ask, Said(row.says, ask.epoch, ask.sender), row)

    def _answer(self, at: Desk, ask: Said, sent: Said, row: ConsoleRow | None = None) -> Move:
        """Return the move of an answer."""
        alive = None if self.rules.late else sent.to
        return Move(f"C answers {sent.word.value}({sent.epoch})", at, (ask,), (sent,), alive=alive, row=row)
