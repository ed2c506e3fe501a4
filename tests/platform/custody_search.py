"""Searches all states of a world of the model (tests.platform.custody_model).

The search checks whether each state is safe, and where the runs end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from hcall_server.platform.custody import LEFT, OWNING, ConsoleRow, Register, Row, Word
from tests.platform.custody_model import Model
from tests.platform.custody_world import Cause, Desk, Kind, Local, Move, Said, World

BITS = 10
"""Bits of the number of a party's state."""
MASK = (1 << BITS) - 1
WRITES = 3
"""Bits of the count of confirmed writes."""
ANSWERS = (Word.RESUME, Word.SERVE, Word.FENCED)

Coded = tuple[int, int, int, int]
"""A move: the words it needs, its change of the state, the words it adds, the words it keeps."""
View = tuple[tuple[Local, ...], Desk, int]
"""Systems, console, and the number of confirmed writes."""
Judge = Callable[[View], bool]


class Fault(NamedTuple):
    """A broken promise, and the shortest sequence of steps to it."""

    why: str
    steps: tuple[str, ...]


class Searched(NamedTuple):
    """The result of a search."""

    states: int
    transitions: int
    locals: frozenset[int]
    """States without the network."""
    fault: Fault | None


class Search:
    """The states of one world."""

    def __init__(self, world: World, *, eager: bool = True) -> None:
        self.model = Model(world)
        self._eager = eager
        self._parties = world.systems + 1
        self._count = self._parties * BITS
        self._down = self._count + WRITES
        self._up = self._down + world.systems
        self._free = self._up + world.systems
        self._net = self._free + world.systems
        self.local_mask = (1 << self._net) - 1
        self._words: dict[Said, int] = {}
        self._states: list[list[Local | Desk]] = [[] for _ in range(self._parties)]
        self._numbers: list[dict[Local | Desk, int]] = [{} for _ in range(self._parties)]
        self._moves: list[list[list[Move]]] = [[] for _ in range(self._parties)]
        self._reached: dict[int, int] = {}
        self._enumerate()
        self._coded = self._tables(lambda cause: True)

    # Numbers

    def _enumerate(self) -> None:
        firsts: tuple[Local | Desk, ...] = (*self.model.first, Desk(True, Register()))
        for party, first in enumerate(firsts):
            self._number(party, first)
            # `_moves_of` may append new states to this list.
            for state in self._states[party]:
                moves = self._moves_of(party, state)
                self._moves[party].append(moves)
                for move in moves:
                    self._number(party, move.to)
            assert len(self._states[party]) <= MASK

    def _number(self, party: int, state: Local | Desk) -> int:
        numbers = self._numbers[party]
        if state not in numbers:
            numbers[state] = len(numbers)
            self._states[party].append(state)
        return numbers[state]

    def _moves_of(self, party: int, state: Local | Desk) -> list[Move]:
        if isinstance(state, Desk):
            moves = list(self.model.console(state))
        else:
            moves = list(self.model.system(party, state))
        if not self._eager:
            moves += _sayings(party, state, self._said(party, state))
        return moves

    def _said(self, party: int, state: Local | Desk) -> tuple[Said, ...]:
        return self.model.said(party, state)

    def _bits(self, words: Iterable[Said]) -> int:
        bits = 0
        for word in words:
            bits |= 1 << self._net + self._words.setdefault(word, len(self._words))
        return bits

    def _tables(self, wanted: Callable[[Cause], bool], dead: int | None = None) -> list[list[list[Coded]]]:
        return [
            [
                [self._code(party, number, move) for move in moves if wanted(move.cause)]
                if party != dead
                else []
                for number, moves in enumerate(of_party)
            ]
            for party, of_party in enumerate(self._moves)
        ]

    def _code(self, party: int, number: int, move: Move) -> Coded:
        here, there = self._states[party][number], move.to
        need = self._bits(move.needs)
        need |= 1 << self._down + move.dead if move.dead is not None else 0
        need |= 1 << self._free + move.free if move.free is not None else 0
        need |= 1 << self._up + move.alive if move.alive is not None else 0
        delta = (self._numbers[party][there] - number) << party * BITS
        add, keep = self._bits(move.adds), -1
        if self._eager:
            add |= self._bits(self._said(party, there))
        if isinstance(here, Local) and isinstance(there, Local):
            delta += (there.free - here.free) << self._free + party
            fell = (there.mode is None) - (here.mode is None)
            delta += (fell << self._down + party) - (fell << self._up + party)
            if there.generation == here.generation + 1 and there.custody in OWNING and here.serves:
                delta += 1 << self._count
            if there.mode is None and not self.model.rules.late:
                keep = ~self._answers(party)
        return need, delta, add, keep

    def _answers(self, system: int) -> int:
        """Return the bits of the console's undelivered answers to a system."""
        epochs = range(len(self.model.world.plan) + 1)
        return self._bits(Said(word, each, system) for each in epochs for word in ANSWERS)

    # States

    @property
    def start(self) -> int:
        """The first state."""
        bits = (1 << self.model.world.systems) - 1 << self._up
        bits |= sum(each.free << self._free + party for party, each in enumerate(self.model.first))
        return bits | (self._bits(self._heard(0)) if self._eager else 0)

    def _heard(self, state: int) -> list[Said]:
        return [said for party, at in enumerate(self._at(state)) for said in self._said(party, at)]

    def _at(self, state: int) -> list[Local | Desk]:
        return [each[state >> party * BITS & MASK] for party, each in enumerate(self._states)]

    def view(self, state: int) -> View:
        """Return the parties of a state."""
        *systems, console = self._at(state)
        assert isinstance(console, Desk)
        confirmed = state >> self._count & (1 << WRITES) - 1
        return tuple(each for each in systems if isinstance(each, Local)), console, confirmed

    # Safety

    def explore(self) -> Searched:
        """Visit every state, and stop at the first unsafe state."""
        parents = self._reached = {self.start: -1}
        queue, seen, transitions = deque([self.start]), {self.start & self.local_mask}, 0
        tables = [(party * BITS, table) for party, table in enumerate(self._coded)]
        local_mask = self.local_mask
        while queue:
            at = queue.popleft()
            for shift, table in tables:
                for need, delta, add, keep in table[at >> shift & MASK]:
                    if at & need != need:
                        continue
                    transitions += 1
                    to = (at + delta | add) & keep
                    if to in parents:
                        continue
                    parents[to] = at
                    queue.append(to)
                    if (local := to & local_mask) not in seen:
                        seen.add(local)
                        if why := self._unsafe(local):
                            fault = Fault(why, self._way(parents, to))
                            return Searched(len(parents), transitions, frozenset(seen), fault)
        return Searched(len(parents), transitions, frozenset(seen), None)

    def _unsafe(self, state: int) -> str:
        systems, _, confirmed = self.view(state)
        if any(each.serves and each.custody not in OWNING for each in systems):
            return "a system serves a partition that it does not own"
        if sum(each.serves for each in systems) > 1:
            return "two serve"
        if any(each.kind is Kind.RESTART for each in self.model.world.plan):
            # The record of a dead owner does not count, and a copy is older than its store. So two records
            # may name owners.
            return ""
        owners = [each for each in systems if each.custody in OWNING]
        if len(owners) > 1:
            return "two own"
        if any(each.generation != confirmed for each in owners):
            return "a confirmed write is lost"
        return ""

    def _way(self, parents: dict[int, int], state: int) -> tuple[str, ...]:
        steps: list[str] = []
        while (before := parents[state]) >= 0:
            steps.append(self._label(before, state))
            state = before
        return tuple(reversed(steps))

    def _label(self, before: int, state: int) -> str:
        for party, table in enumerate(self._coded):
            number = before >> party * BITS & MASK
            for coded, move in zip(table[number], self._moves[party][number], strict=True):
                need, delta, add, keep = coded
                if before & need == need and (before + delta | add) & keep == state:
                    return move.label
        raise AssertionError("no move leads here")

    def taken(self) -> set[Row | ConsoleRow]:
        """Return the rows of the tables that the last search used."""
        taken = set[Row | ConsoleRow]()
        for party, table in enumerate(self._coded):
            needs = [
                (number, need, move.row)
                for number, moves in enumerate(table)
                for (need, *_), move in zip(moves, self._moves[party][number], strict=True)
                if move.row
            ]
            by_number: dict[int, list[tuple[int, Row | ConsoleRow]]] = {}
            for number, need, row in needs:
                by_number.setdefault(number, []).append((need, row))
            for at in self._reached:
                wanted = by_number.get(at >> party * BITS & MASK, [])
                taken.update(row for need, row in wanted if at & need == need)
        return taken

    # Liveness

    def stuck(
        self, starts: Collection[int], good: Judge, *, dead: int | None = None, forces: bool = False
    ) -> list[int]:
        """Return those starts from which a run without faults may never reach a good end.

        All words of the past are lost, and every party runs again except `dead`. With `forces`, the operator
        may force the target.
        """
        wanted = {Cause.PROTOCOL, Cause.FORCE} if forces else {Cause.PROTOCOL}
        graph = self._runs([self._quiet(each) for each in starts], self._tables(wanted.__contains__, dead))
        judged = {local: good(self.view(local)) for local in {each & self.local_mask for each in graph}}
        back: dict[int, list[int]] = {}
        for at, nexts in graph.items():
            for to in nexts:
                back.setdefault(to, []).append(at)
        can = _closure(back, [each for each in graph if judged[each & self.local_mask]])
        bad = _closure(back, [each for each in graph if each not in can])
        return [each for each in starts if self._quiet(each) in bad]

    def _quiet(self, start: int) -> int:
        """Return a state with only the words that its parties repeat."""
        local = start & self.local_mask
        return local | (self._bits(self._heard(local)) if self._eager else 0)

    def _runs(self, starts: Iterable[int], tables: list[list[list[Coded]]]) -> dict[int, list[int]]:
        graph: dict[int, list[int]] = {}
        stack = list(starts)
        shifts = [(party * BITS, table) for party, table in enumerate(tables)]
        while stack:
            at = stack.pop()
            if at in graph:
                continue
            nexts = graph[at] = []
            for shift, table in shifts:
                for need, delta, add, keep in table[at >> shift & MASK]:
                    if at & need == need and (to := (at + delta | add) & keep) != at:
                        nexts.append(to)
            stack += nexts
        return graph


def _sayings(party: int, state: Local | Desk, said: Iterable[Said]) -> list[Move]:
    """Return a move for each word; the move sends the word to all its receivers."""
    words: dict[tuple[Word, int, int], list[Said]] = {}
    for each in said:
        words.setdefault((each.word, each.epoch, each.generation), []).append(each)
    return [Move(f"{party} says {key[0].value}", state, (), tuple(all_)) for key, all_ in words.items()]


def _closure(back: dict[int, list[int]], found: list[int]) -> set[int]:
    """Return the states that can reach one of `found`."""
    reached, stack = set(found), list(found)
    while stack:
        for each in back.get(stack.pop(), ()):
            if each not in reached:
                reached.add(each)
                stack.append(each)
    return reached


def one_serves(view: View) -> bool:
    """Return whether exactly one system serves."""
    return sum(each.serves for each in view[0]) == 1


def tidy(view: View) -> bool:
    """Return whether one system serves, and no other has a store of the partition."""
    return one_serves(view) and all(each.serves or each.custody in LEFT for each in view[0])


def known(model: Model) -> Judge:
    """Return the test for the best end: one serves, no other has a store, the register names it."""
    return lambda view: tidy(view) and view[0][model.owner(view[1].register)].serves


def well(world: World, *, eager: bool = True) -> tuple[Search, Searched]:
    """Search a world without mistakes, in which no promise may break."""
    search = Search(world, eager=eager)
    found = search.explore()
    assert found.fault is None, found.fault
    assert search.stuck(found.locals, known(search.model), forces=True) == []
    return search, found
