"""The seeded choice of mutants."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.mutants.rooms import ROOMS, ROOT
from tools.mutants.sites import sites


class Mutant(NamedTuple):
    """One change of one module; `nth` distinguishes changes that look alike in one scope."""

    room: str
    file: str
    scope: str
    operator: str
    before: str
    after: str
    nth: int
    line: int
    number: int

    @property
    def key(self) -> tuple[str, ...]:
        """The key of the mutant in the file of survivors; it does not depend on line numbers."""
        return (self.file, self.scope, self.operator, self.before, self.after, str(self.nth))

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.scope}  [{self.operator}]  {self.before}  ->  {self.after}"


def mutants_of(room: str, path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    file = path.relative_to(ROOT).as_posix()
    seen: dict[tuple[str, ...], int] = {}
    for number, site in enumerate(sites(ast.parse(path.read_text("utf-8")))):
        look = (site.scope, site.operator, site.before, site.after)
        seen[look] = seen.get(look, 0) + 1
        yield Mutant(room, file, *look, seen[look], site.line, number)


def population(room: str) -> list[Mutant]:
    """Return all mutants of a room."""
    return [mutant for path in ROOMS[room].modules for mutant in mutants_of(room, path)]


def drawn(room: str, seed: int, *, everything: bool = False) -> list[Mutant]:
    """Return the sample of a room: the same one for the same seed and code."""
    every = population(room)
    if everything or len(every) <= ROOMS[room].drawn:
        return every
    # The room is part of the seed, so a run of one room draws the same mutants as a run of all.
    chosen = random.Random(f"{seed} {room}").sample(every, ROOMS[room].drawn)
    return sorted(chosen, key=lambda mutant: (mutant.file, mutant.number))
