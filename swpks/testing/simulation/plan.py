"""The story of a seed: orders of an operator, some of them wrong, and faults, each at its time.

A migration is quick, so a fault at any time would hardly ever meet one.  So most steps wait for a state of
custody, and come when a system reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from swpks.testing.simulation.seeds import choices

if TYPE_CHECKING:
    from random import Random

SYSTEMS = ("a", "b")
THREE = ("a", "b", "c")
ENDS = ("source", "target")
"""The systems of a migration by their parts in it: which ones these are is known when a step comes."""
SLOW_ANSWERS = 0.1
LENGTH = 6.0
"""Seconds in which the steps of a story begin; all faults end when the last one is over."""


class Step(NamedTuple):
    """Something that happens to `who`, from the time `at` on: at once, or in the state `on` of a system.

    A state is the name of a record or of a mode; `soon` are the seconds between the state and the step.  The
    meaning of `number` and `seconds` depends on `what`.
    """

    at: float
    what: str
    who: str = ""
    on: str = ""
    soon: float = 0.0
    number: int = 0
    seconds: float = 0.0
    late: bool = False

    def __str__(self) -> str:
        on = f" on {self.on} + {self.soon:.3f}" if self.on else ""
        rest = f"{self.number} {self.seconds:.2f}{' late' if self.late else ''}"
        return f"{self.what} {self.who}{on} {rest}"


STATES = ("FROZEN",) * 4 + ("PREPARED",) * 5 + ("RELEASED",) * 2 + ("copying", "ARRIVED", "in-doubt", "OWN")
"""States that steps wait for; the more doubtful an attempt is in one, the more often."""
MOVES = ("migrate",) * 10 + ("migrate-off", "restart-dead", "cut-off-restart")
WRONG = (
    "migrate",
    "stop",
    "recover",
    "force",
    "restart",
    "cleanup",
    "cancel",
    "ipl",
    "power-off",
    "power-on",
)
FAULTS = ("crash",) * 4 + ("crash-at",) * 4 + ("island",) * 8 + ("lost-source",) * 3 + (
    "silence", "console-crash-at", "bad-line", "bad-line", "away", "cut", "cut", "nvram", "ipl",
)  # fmt: skip
PACES = (0.01,) * 5 + (0.1, 0.5)
"""Most seconds that a message takes, by chance."""


class Story(NamedTuple):
    """The steps of a seed, in the order of their times, and the most seconds that a message takes."""

    steps: list[Step]
    slowest: float
    pace: float = 0.5
    """Mean seconds between the calls of a guest."""
    slow_answers: float = SLOW_ANSWERS
    """How many of the answers to guests take their time."""
    length: float = LENGTH
    systems: tuple[str, ...] = SYSTEMS
    beside: Sequence[Step] = ()
    """The steps of a second partition, which is at the other system at first; without any there is none."""
    follows: bool = False
    """Whether a guest follows its partition by the channel of the product."""
    stranger: str = ""
    """The difference of the third system: `level`, one without a keystore (R-50); `key`, a trusted system
    key of its own, so that no copy gets there or back (R-52, R-53)."""


def plan(seed: int) -> Story:
    """Return the story of a seed: each tenth one is about a doubt that chance would hardly ever meet."""
    chance, kind = choices(seed, "plan"), seed % DIRECTED
    if kind in _STORIES:
        story = _STORIES[kind](chance)
    else:
        story = _by_chance(chance, THREE if kind in _WIDE else SYSTEMS)
        if kind in _DOUBLE:
            story = story._replace(beside=_beside(chance, story.steps))
    return story._replace(follows=kind in _FOLLOWED, stranger=_STRANGERS.get(kind, ""))


def _late_force(chance: Random) -> Story:
    """A target is forced by a word that is late, the console loses its memory, and the source comes back."""
    dies, heard, seconds = chance.random() < 0.7, chance.randrange(2), chance.uniform(2, 4)
    steps = [
        Step(0.299, "late-force", "source", "PREPARED", number=heard, seconds=seconds, late=dies),
        Step(0.3, "migrate", seconds=2.0),
    ]
    return Story(steps, chance.choice((0.01, 0.01, 0.1)))


def _busy(chance: Random) -> Story:
    """A partition leaves while its guests are busy, and their answers are on the way."""
    moves = [Step(chance.uniform(0.3, 2), "migrate", seconds=2.0) for _ in range(4)]
    return Story(sorted(moves), 0.01, pace=0.05, slow_answers=0.8, length=2.5)


def _force_after_resume(chance: Random) -> Story:
    """A target is forced that has no copy yet, or whose source was told to resume: both are refused."""
    seconds, early = chance.uniform(0, 2), chance.random() < 0.5
    on = "FROZEN" if early else "PREPARED"
    steps = [
        Step(0.299, "force-after-resume", "source", on, seconds=seconds, late=not early),
        Step(0.3, "migrate"),
    ]
    return Story(steps, chance.choice((0.01, 0.01, 0.1)), length=4.0)


def _restart_in_doubt(chance: Random) -> Story:
    """A source is lost while its target has a copy; a third system restarts the partition."""
    on, back = chance.choice(("FROZEN", "PREPARED", "RELEASED")), chance.choice((0.0, 0.2, 0.5, 2.0))
    at = chance.uniform(0.3, 2.0)
    steps = [
        Step(at - 0.001, "restart-in-doubt", "source", on, seconds=back, late=chance.random() < 0.3),
        Step(at, "migrate"),
        Step(at + 2.5, "restart", "source"),  # wrong, because it is connected again
    ]
    return Story(steps, chance.choice((0.01, 0.01, 0.1)), length=5.0, systems=THREE)


DIRECTED = 20
"""So many seeds have one story of each kind of `_STORIES`; the others are made by chance."""
_STORIES = {4: _force_after_resume, 9: _late_force, 14: _restart_in_doubt, 19: _busy}
_WIDE = frozenset({2, 7, 12, 17})
"""The seeds by chance that have a third system."""
_DOUBLE = frozenset({6, 16})
"""The seeds by chance that have a second partition."""
_FOLLOWED = frozenset({1, 2, 7, 19})
_STRANGERS = {12: "level", 17: "key"}
"""The stories whose third system differs from the others."""
"""The seeds with a guest that follows its partition."""


def _by_chance(chance: Random, systems: tuple[str, ...]) -> Story:
    moves = []
    begins = 0.3
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        begins = chance.uniform(begins, LENGTH * 0.6)
        moves.append(Step(begins, chance.choice(MOVES), seconds=chance.choice((0.1, 2.0, 5.0))))
    times = [each.at for each in moves]
    orders = chance.choice((0, 0, 1, 1, 2, 4))
    wrong = [_near(chance, times, chance.choice(WRONG), systems) for _ in range(orders)]
    faults = [_fault(chance, times, systems) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
    if chance.random() < 0.5:
        faults.append(_doubt(chance, times))
    return Story(sorted([*moves, *wrong, *faults]), chance.choice(PACES), systems=systems)


def _beside(chance: Random, steps: Sequence[Step]) -> list[Step]:
    """Return the moves of a second partition, most of them at the time of a move of the first one."""
    times = [each.at for each in steps if each.what in MOVES]
    found = []
    for _ in range(chance.choice((1, 2, 2, 3))):
        at = max(0.0, chance.choice(times) + chance.choice((0.0, 0.0, chance.uniform(-0.1, 0.5))))
        found.append(Step(at, chance.choice(("migrate", "migrate", "migrate", "migrate-off")), seconds=1.0))
    found.append(Step(chance.uniform(0, LENGTH), chance.choice(WRONG), chance.choice(SYSTEMS)))
    return sorted(found)


def _near(chance: Random, moves: list[float], what: str, systems: tuple[str, ...]) -> Step:
    """Return a step in a state of a move, soon after its order, or at any time."""
    kind, at, who = chance.random(), chance.choice(moves), chance.choice(systems)
    if kind < 0.75:
        soon = chance.choice((0.0, chance.uniform(0, 0.03)))
        return Step(at - 0.001, what, chance.choice(ENDS), chance.choice(STATES), soon)
    if kind < 0.9:
        return Step(at + chance.expovariate(10), what, who)
    return Step(chance.uniform(0, LENGTH), what, who)


def _doubt(chance: Random, moves: list[float]) -> Step:
    """Return a fault at the moment at which nobody knows how a migration ends."""
    at, on = chance.choice(moves) - 0.001, chance.choice(("FROZEN", "PREPARED", "PREPARED"))
    what, who = chance.choice(("island", "island", "crash", "lost-source")), chance.choice(ENDS)
    seconds = chance.choice((2.0, 14.0)) if what == "island" else chance.uniform(0.1, 4)
    return Step(at, what, who, on, seconds=seconds, late=chance.random() < 0.5)


def _fault(chance: Random, moves: list[float], systems: tuple[str, ...]) -> Step:
    what = chance.choice(FAULTS)
    step = _near(chance, moves, what, systems)
    rest = chance.choice((0.1, 1.0, 4.0)) * chance.uniform(0.5, 1.5)
    step = step._replace(seconds=rest, late=chance.random() < 0.5)
    changes: dict[str, dict[str, Any]] = {
        "crash": {"who": chance.choice((step.who, step.who, "console"))},
        "crash-at": {"number": chance.randint(1, 3)},
        "console-crash-at": {"number": chance.randint(1, 3)},
        "cut": {"at": min(moves) - 0.001, "on": "", "soon": 0.0, "number": chance.randint(2, 9)},
        "silence": {"seconds": chance.choice((1.0, 4.0, 14.0))},
        "island": {"seconds": chance.choice((1.0, 14.0))},
        "lost-source": {"at": min(moves) - 0.001, "on": chance.choice(("PREPARED", "PREPARED", "RELEASED"))},
        "nvram": {"number": chance.randint(1, 4)},
    }
    return step._replace(**changes.get(what, {}))
