"""The story of a seed: the operator's orders, some of them wrong, and faults, each at its time.

A migration is short, so a fault at a random time would hardly ever meet one.  So most steps wait until some
system reaches a state of custody.
"""

# How a story is drawn from a seed
#
# A story is a list of steps: orders of the operator and faults. The whole story is drawn before the world
# begins, from a generator of its own. So it depends on the seed alone. If the product changes, the history of
# a seed changes, but its story does not.
#
# A step has a time, and most steps have a state of custody too. Such a step waits for its time, and then
# until some system reaches the state. Only then is it known which systems `source` and `target` of the move
# are. If the state never comes, the step is given up at the end of the story. The wait has to begin before
# the state is reached. So a step about a move is ordered a millisecond before that move.
#
# The weights are choices, made so that doubt is frequent. PREPARED and FROZEN come most often in STATES: in
# these states a migration may still end at either system. An island, which is a system without connections,
# comes most often in FAULTS. Half of the stories that are not directed have one more fault in such a state
# (`_doubt`).
#
# Chance alone does not meet every doubt. Some need four or five events in order: a target is forced, the
# word is late, the console restarts without knowing of it, and the source comes back and asks. So 4 of 20
# seeds have a directed story (`_STORIES`), with fixed steps and drawn times. For some mistakes of
# tests/simulation/test_bugs.py, these are the only seeds that are searched:
#
#   4   force-after-resume   a force that must be refused: before the copy, or after RESUME
#   9   late-force           a force that reaches its target late, while the source asks a new console
#   14  restart-in-doubt     a third system restarts the partition in the middle of a migration
#   19  busy                 many calls and slow answers, so that a GOODBYE may overtake answers
#
# The other seeds are by chance. Some have a third system, a second partition, a guest that follows its
# partition, or a system that differs. The seed modulo 20 decides which ones. So each range of 20 seeds has
# every kind, and a test of a mistake can name the few seeds that it needs.
#
# A change of this file changes the stories of nearly all seeds. Then docs/track-record.md names seeds "of
# the first stories", which no command replays. So a fault gets a test of its own when it is found.

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from swpks.testing.simulation.seeds import choices

if TYPE_CHECKING:
    from random import Random

SYSTEMS = ("a", "b")
THREE = ("a", "b", "c")
ENDS = ("source", "target")
"""The two systems of a migration by their parts in it; a step finds the systems when it is performed."""
SLOW_ANSWERS = 0.1
LENGTH = 6.0
"""Seconds within which the steps of a story begin.  All faults end after the last step."""


class Step(NamedTuple):
    """An order or a fault that concerns the system `who`; it comes at the time `at` in seconds, or later.

    With `on`, the step waits from `at` until any system reaches that state, and then `soon` seconds.  A state
    is the name of a record or of a mode.  The meaning of `number`, `seconds` and `late` depends on `what`.
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
"""States that steps wait for.  The weights: the less sure the end of an attempt is, the more often."""
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
    """The steps of a seed in the order of their times; a message takes `slowest` seconds at most."""

    steps: list[Step]
    slowest: float
    pace: float = 0.5
    """Mean seconds between the calls of a guest."""
    slow_answers: float = SLOW_ANSWERS
    """The share of the answers to guests that are late, from 0 to 1."""
    length: float = LENGTH
    systems: tuple[str, ...] = SYSTEMS
    beside: Sequence[Step] = ()
    """The steps of a second partition, which begins at the other system.  Without steps there is none."""
    follows: bool = False
    """Whether a guest follows its partition by the channel of the product."""
    stranger: str = ""
    """The difference of the third system: `level` or `key`; "" if there is none.

    `level`: its firmware level has no keystore (R-50).  `key`: it has a trusted system key of its own, so it
    can't open the copies of the others, nor they its copies (R-52, R-53).
    """


def plan(seed: int) -> Story:
    """Return the story of a seed.

    Each fifth story is directed: it has fixed steps for events that chance would hardly ever meet.
    """
    chance, kind = choices(seed, "plan"), seed % DIRECTED
    if kind in _STORIES:
        story = _STORIES[kind](chance)
    else:
        story = _by_chance(chance, THREE if kind in _WIDE else SYSTEMS)
        if kind in _DOUBLE:
            story = story._replace(beside=_beside(chance, story.steps))
    return story._replace(follows=kind in _FOLLOWED, stranger=_STRANGERS.get(kind, ""))


def _late_force(chance: Random) -> Story:
    """Return a story with an order `force` that arrives late; the console restarts, the source comes back."""
    dies, heard, seconds = chance.random() < 0.7, chance.randrange(2), chance.uniform(2, 4)
    steps = [
        Step(0.299, "late-force", "source", "PREPARED", number=heard, seconds=seconds, late=dies),
        Step(0.3, "migrate", seconds=2.0),
    ]
    return Story(steps, chance.choice((0.01, 0.01, 0.1)))


def _busy(chance: Random) -> Story:
    """Return a story in which a partition moves while its guests wait for many answers."""
    moves = [Step(chance.uniform(0.3, 2), "migrate", seconds=2.0) for _ in range(4)]
    return Story(sorted(moves), 0.01, pace=0.05, slow_answers=0.8, length=2.5)


def _force_after_resume(chance: Random) -> Story:
    """Return a story in which the console must refuse `force`: without a copy, or after RESUME."""
    seconds, early = chance.uniform(0, 2), chance.random() < 0.5
    on = "FROZEN" if early else "PREPARED"
    steps = [
        Step(0.299, "force-after-resume", "source", on, seconds=seconds, late=not early),
        Step(0.3, "migrate"),
    ]
    return Story(steps, chance.choice((0.01, 0.01, 0.1)), length=4.0)


def _restart_in_doubt(chance: Random) -> Story:
    """Return a story in which a source is lost while its target has a copy of the partition.

    Then a third system restarts the partition.
    """
    on, back = chance.choice(("FROZEN", "PREPARED", "RELEASED")), chance.choice((0.0, 0.2, 0.5, 2.0))
    at = chance.uniform(0.3, 2.0)
    steps = [
        Step(at - 0.001, "restart-in-doubt", "source", on, seconds=back, late=chance.random() < 0.3),
        Step(at, "migrate"),
        Step(at + 2.5, "restart", "source"),  # wrong, because the source is connected again
    ]
    return Story(steps, chance.choice((0.01, 0.01, 0.1)), length=5.0, systems=THREE)


DIRECTED = 20
"""The kind of a story is the seed modulo this number.  `_STORIES` has the directed kinds."""
_STORIES = {4: _force_after_resume, 9: _late_force, 14: _restart_in_doubt, 19: _busy}
_WIDE = frozenset({2, 7, 12, 17})
"""The kinds by chance that have a third system."""
_DOUBLE = frozenset({6, 16})
"""The kinds by chance that have a second partition."""
_FOLLOWED = frozenset({1, 2, 7, 19})
"""The kinds with a guest that follows its partition."""
_STRANGERS = {12: "level", 17: "key"}
"""The kinds whose third system differs from the others."""


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
    """Return the moves of a second partition, most of them at the time of a move of the first partition."""
    # The moves of both partitions come at the same time. So they share commits, jobs and crashes of the
    # systems.
    times = [each.at for each in steps if each.what in MOVES]
    found = []
    for _ in range(chance.choice((1, 2, 2, 3))):
        at = max(0.0, chance.choice(times) + chance.choice((0.0, 0.0, chance.uniform(-0.1, 0.5))))
        found.append(Step(at, chance.choice(("migrate", "migrate", "migrate", "migrate-off")), seconds=1.0))
    found.append(Step(chance.uniform(0, LENGTH), chance.choice(WRONG), chance.choice(SYSTEMS)))
    return sorted(found)


def _near(chance: Random, moves: list[float], what: str, systems: tuple[str, ...]) -> Step:
    """Return a step that comes in a state of a move, or soon after the order of a move, or at any time."""
    kind, at, who = chance.random(), chance.choice(moves), chance.choice(systems)
    # The step comes 1 ms before its move, so that it waits already when the move reaches the state.
    if kind < 0.75:
        soon = chance.choice((0.0, chance.uniform(0, 0.03)))
        return Step(at - 0.001, what, chance.choice(ENDS), chance.choice(STATES), soon)
    if kind < 0.9:
        return Step(at + chance.expovariate(10), what, who)
    return Step(chance.uniform(0, LENGTH), what, who)


def _doubt(chance: Random, moves: list[float]) -> Step:
    """Return a fault for the time in which source and target are both possible owners of a partition."""
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
