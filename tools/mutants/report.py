"""The score of each room, and the findings that fail the run."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tools.mutants import survivors
from tools.mutants.forking import Result
from tools.mutants.rooms import LEAST_OF_ALL, ROOMS
from tools.mutants.sample import Mutant, population
from tools.mutants.survivors import Survivor


class Score(NamedTuple):
    """The figures of one room, or of all."""

    tried: int
    killed: int
    timed_out: int
    equivalent: int

    @property
    def percent(self) -> float:
        """The percentage of killed mutants among those that are not equivalent."""
        counted = self.tried - self.equivalent
        return 100.0 * self.killed / counted if counted else 100.0

    def __str__(self) -> str:
        survived = self.tried - self.killed - self.equivalent
        return _columns(
            self.tried, self.killed, self.timed_out, self.equivalent, survived, f"{self.percent:.1f}"
        )


def _columns(*figures: object) -> str:
    return "".join(f"{figure:>12}" for figure in figures)


def score(outcome: Mapping[Mutant, Result], known: Mapping[tuple[str, ...], Survivor]) -> Score:
    """Return the score of some mutants by their outcomes."""
    alive = [mutant for mutant, result in outcome.items() if result.killer is None]
    equivalent = sum(1 for mutant in alive if mutant.key in known and known[mutant.key].equivalent)
    timed_out = sum(result.timed_out for result in outcome.values())
    return Score(len(outcome), len(outcome) - len(alive), timed_out, equivalent)


def report(outcome: Mapping[Mutant, Result], rooms: Iterable[str]) -> int:
    """Print the scores and all findings; return the exit status."""
    known = survivors.read()
    print(
        f"{'room':10}", _columns("places", "tried", "killed", "by time", "equivalent", "survived", "percent")
    )
    findings = []
    for room in rooms:
        found = score({m: r for m, r in outcome.items() if m.room == room}, known)
        print(f"{room:10} {len(population(room)):12}{found}")
        if found.percent < ROOMS[room].least:
            findings.append(f"{room}: {found.percent:.1f} %, {ROOMS[room].least} are the least")
    together = score(outcome, known)
    print(f"{'all':10} {'':12}{together}")
    if together.percent < LEAST_OF_ALL:
        findings.append(f"all rooms: {together.percent:.1f} %, {LEAST_OF_ALL} are the least")
    findings += _unexplained(outcome, known)
    print(*findings, sep="\n")
    return 1 if findings else 0


def _unexplained(outcome: Mapping[Mutant, Result], known: Mapping[tuple[str, ...], Survivor]) -> list[str]:
    """Return findings: survivors without a reason, and rows of the file that no longer apply."""
    findings = []
    for mutant, result in outcome.items():
        row = known.get(mutant.key)
        if result.killer is None and (row is None or not row.reason):
            findings.append(f"a survivor without a reason: {mutant}\n{survivors.row_of(mutant)}")
        if result.killer is not None and row is not None:
            findings.append(f"killed by {result.killer}, so its row can go: {mutant}")
    # The places of all rooms are compared, also of rooms that were not tried: if code is removed, its row
    # must be removed too.
    places = {mutant.key for room in ROOMS for mutant in population(room)}
    return findings + [f"no such place any more: {' | '.join(key)}" for key in known if key not in places]
