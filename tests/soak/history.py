"""A partition's states with one attribute of the console, and the oldest state that a start may find.

`History` numbers the states of one life of the server. A power cut or a kill may bring back a state of an
earlier life, as long as nothing newer was confirmed. So `Chronicle` stores the states of all lives.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from tests.faults.history import History, State


class Whole(NamedTuple):
    """A partition as NVRAM stores it: durable objects, and the secure-boot mode set by the console."""

    objects: State
    mode: str


class Chronicle(History):
    """The states of one partition over all lives of its server. No start may find one before `floor`."""

    def __init__(self, chance: Random, kbytes: int) -> None:
        super().__init__(chance, kbytes)
        self.mode = "off"
        self.everything: list[Whole] = [Whole({}, "off")]
        self.floor = 0
        self.ipls = 0
        """The highest IPL count that a guest or the console has seen; it may not be used again."""
        self._first = 0
        self._modes = ["off"]
        self._facts = 0

    def console_sets(self, mode: str) -> None:
        """Add a state with this mode, after the console has requested it. The answer may be missing."""
        self.mode = mode
        self.states.append(dict(self.states[-1]))
        self.note()

    def note(self) -> None:
        """Add the writer's new states to `everything`, and set `floor` by what is confirmed."""
        self._modes += [self.mode] * (len(self.states) - len(self._modes))
        known = len(self.everything) - self._first
        for state, mode in zip(self.states[known:], self._modes[known:], strict=True):
            self.everything.append(Whole(state, mode))
        if self.facts > self._facts or self.confirmed:
            self._facts = self.facts
            self.floor = max(self.floor, self._first + self.confirmed)

    def allowed(self) -> list[Whole]:
        """Return the states that a start may find now."""
        return self.everything[self.floor :]

    def found_whole(self, found: Whole) -> int:
        """Continue from the state that a start has found; return how many of the newest states were lost.

        AssertionError if the state is unknown, or older than the last confirmed one.
        """
        self.note()
        assert found in self.everything, f"a state that never was: {difference(found, self.everything)}"
        assert found in self.allowed(), f"older than state {self.floor} of {len(self.everything)}, the floor"
        newest = max(n for n, each in enumerate(self.everything) if each == found)
        lost = len(self.everything) - 1 - newest
        self.states, self.confirmed = [found.objects], 0
        super().found(found.objects)
        self.mode, self._modes = found.mode, [found.mode]
        self._first = len(self.everything)
        self.everything.append(found)
        return lost


def difference(found: Whole, known: list[Whole]) -> str:
    """Return how a state differs from the most similar known one, without object data."""
    nearest = min(known, key=lambda each: len(set(each.objects.items()) ^ set(found.objects.items())))
    keys = sorted(key for key, _ in set(nearest.objects.items()) ^ set(found.objects.items()))
    return f"{len(found.objects)} objects and mode {found.mode}; the nearest has mode {nearest.mode}; {keys=}"
