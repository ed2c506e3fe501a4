"""The worlds of the search, and the seeded mistakes that the search has to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hcall_server.platform.custody import (
    CONSOLE,
    SAYS,
    SYSTEM,
    Custody,
    Guard,
    Mode,
    Register,
    Row,
    Word,
    mode_after_start,
)
from tests.platform.custody_world import Attempt, Bars, Kind, Rules, World, restart

AWAY, BACK = Attempt(0, 1), Attempt(1, 0)
TABLES = Rules()
CONNECTED = Rules(late=False)
"""An answer of the console ends with its connection."""
_RESTS = frozenset({Mode.SETTLED})
_STOPPED = frozenset({Mode.WAITING})


def fixed(writes: int, attempts: int, rules: Rules = TABLES) -> World:
    """Return a world in which each attempt goes from the first system to the second."""
    return World((AWAY,) * attempts, writes, rules)


def there_and_back(writes: int, attempts: int, rules: Rules = TABLES) -> World:
    """Return a world in which every second attempt goes back to the first system.

    Both systems confirm writes.
    """
    return World((AWAY, BACK, AWAY)[:attempts], writes, rules, writers=(0, 1))


def every_way(systems: int, rules: Rules = CONNECTED) -> Iterator[World]:
    """Yield every plan of two attempts, each live, inactive or a restart. Systems ask when they start."""
    kinds = (Kind.LIVE, Kind.INACTIVE, Kind.RESTART)
    seconds = [(a, b) for a in (0, 1) for b in range(systems) if a != b]
    for first in kinds:
        for second in kinds:
            for source, target in seconds:
                yield asking((*_ways(first, 0, 1), *_ways(second, source, target)), rules)


def asking(plan: tuple[Attempt, ...], rules: Rules = CONNECTED, *, wrong: bool = False) -> World:
    """Return a world whose systems ask the console before they serve."""
    return World(plan, 0, rules, asks=True, wrong=wrong)


def _ways(kind: Kind, source: int, target: int) -> tuple[Attempt, ...]:
    return restart(source, target) if kind is Kind.RESTART else (Attempt(source, target, kind),)


# Mistakes


class Mistake(NamedTuple):
    """A seeded mistake, the world in which it matters, and the promise that breaks ("" for liveness)."""

    name: str
    world: World
    breaks: str


def _more(*rows: Row) -> Rules:
    return Rules(system=(*rows, *SYSTEM))


def _on_time_out(at: Custody, mode: frozenset[Mode], to: Custody, then: Mode) -> Rules:
    return _more(Row(0, frozenset({at}), mode, Word.ABORT, Guard.FREE, to, then))


def _changed(change: Callable[[Row], Row | None]) -> Rules:
    return Rules(system=tuple(row for row in map(change, SYSTEM) if row))


def _forgetful(row: Row) -> Row:
    """Return a row that accepts the word of an old attempt too."""
    return row._replace(guard=Guard.FREE) if row.number in (2, 4) else row


def _serves_at_once(custody: Custody, asks: bool) -> tuple[Custody, Mode]:
    if custody is Custody.FROZEN:
        return Custody.OWN, Mode.SERVING
    return custody, mode_after_start(custody, asks=asks)


def _resumes(_: Register, __: int) -> Word:
    return Word.RESUME


_AGAIN = Row(0, frozenset({Custody.NONE}), _RESTS, Word.FINAL, Guard.SAME, Custody.PREPARED, Mode.SETTLED)
_UNGUARDED = _changed(lambda row: row._replace(guard=Guard.SAME) if row.guard is Guard.SAME_STORE else row)
_THIRD = (Attempt(0, 1), *restart(0, 2))

HARMLESS = fixed(2, 2, _UNGUARDED)
"""PREPARED without the generation: each attempt has its own number, so nothing breaks."""

MISTAKES = (
    Mistake(
        "the target serves after a time-out",
        fixed(2, 2, _on_time_out(Custody.PREPARED, _RESTS, Custody.ARRIVED, Mode.SERVING)),
        "two",
    ),
    Mistake(
        "the target drops its copy after a time-out",
        fixed(2, 2, _on_time_out(Custody.PREPARED, _RESTS, Custody.NONE, Mode.SETTLED)),
        "",
    ),
    Mistake(
        "ACTIVATE before RELEASED is durable",
        fixed(2, 2, Rules(early=frozenset({Word.ACTIVATE}))),
        "two",
    ),
    Mistake(
        "PREPARED before it is durable",
        fixed(2, 2, Rules(early=frozenset({Word.PREPARED}))),
        "",
    ),
    Mistake(
        "epochs are forgotten",
        fixed(2, 2, Rules(system=(_AGAIN, *map(_forgetful, SYSTEM)))),
        "write",
    ),
    Mistake(
        "the source resumes on its own",
        fixed(2, 2, _on_time_out(Custody.FROZEN, _STOPPED, Custody.OWN, Mode.SERVING)),
        "two",
    ),
    Mistake("a frozen source serves after a restart", fixed(2, 2, Rules(started=_serves_at_once)), "two"),
    Mistake("the console tells the target of the end", fixed(2, 2, Rules(aborts_target=True)), ""),
    Mistake("a target is forced that was not heard", fixed(2, 2, Rules(forces_unheard=True)), ""),
    Mistake(
        "the source erases its store at RELEASED",
        fixed(2, 2, _on_time_out(Custody.RELEASED, _RESTS, Custody.GONE, Mode.SETTLED)),
        "",
    ),
    Mistake(
        "a question about an attempt before the last move is answered RESUME",
        there_and_back(2, 2, Rules(answer=_resumes)),
        "two",
    ),
    Mistake(
        "a source resumes whose target was forced",
        fixed(
            1,
            1,
            Rules(
                console=tuple(
                    row._replace(says=Word.RESUME) if row.says is Word.FENCED else row for row in CONSOLE
                )
            ),
        ),
        "two",
    ),
    Mistake(
        "a source in doubt says nothing to the console",
        fixed(1, 1, Rules(says=tuple(each for each in SAYS if each.mode is not Mode.IN_DOUBT))),
        "",
    ),
    Mistake(
        "a system serves after its start without the console",
        World(restart(0, 1), rules=CONNECTED),
        "two",
    ),
    Mistake("an answer arrives after a restart", asking(restart(0, 1), Rules()), "two"),
    Mistake("no target is barred", asking(_THIRD, CONNECTED._replace(bars=Bars.NONE)), "two"),
    Mistake(
        "only the last target is barred",
        asking((Attempt(0, 1), Attempt(0, 2), *restart(0, 2)), CONNECTED._replace(bars=Bars.LAST)),
        "two",
    ),
    Mistake(
        "nobody looks at the target of a restart",
        asking((*restart(0, 1), *restart(1, 0)), CONNECTED._replace(unseen=True)),
        "",
    ),
    Mistake(
        "an attempt begins where the register does not know the owner",
        asking((AWAY, BACK), CONNECTED._replace(begins_anywhere=True)),
        "",
    ),
    Mistake(
        "the console ignores that an older attempt has succeeded",
        asking(
            (AWAY, AWAY),
            CONNECTED._replace(console=tuple(row for row in CONSOLE if row.guard is not Guard.EARLIER)),
        ),
        "",
    ),
    Mistake(
        "a copy is refused where an older one waits",
        asking(
            (AWAY, Attempt(0, 1, Kind.INACTIVE)),
            CONNECTED._replace(
                system=tuple(
                    row._replace(at=row.at - {Custody.PREPARED}) if row.on is Word.COPY else row
                    for row in SYSTEM
                )
            ),
        ),
        "",
    ),
    Mistake(
        "a store that was released stays for ever",
        there_and_back(
            0,
            2,
            _changed(
                lambda row: (
                    row._replace(guard=Guard.SAME)
                    if row.on is Word.ACTIVE and row.number == 8
                    else None
                    if row.on is Word.ABORTED and row.number == 8
                    else row
                )
            ),
        ),
        "",
    ),
    Mistake(
        "a copy of an old attempt stays for ever",
        fixed(0, 2, _changed(lambda row: row._replace(guard=Guard.SAME) if row.number == 13 else row)),
        "",
    ),
)
