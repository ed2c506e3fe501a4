"""The tables of spec/migration.md, generated from `hcall_server.platform.custody`."""

from collections.abc import Callable, Collection, Iterable, Iterator
from enum import Enum

from hcall_server.failpoints import PROCESSES
from hcall_server.platform.custody import CONSOLE, SAYS, SYSTEM, Custody, Decision, Guard, Mode

RECORDS = {
    Custody.OWN: "it owns the partition: it made it, or an attempt to move it away has ended here",
    Custody.FROZEN: "it has stopped serving, and waits for the PREPARED of the target",
    Custody.RELEASED: "another system owns the partition; the store stays here until the new owner serves",
    Custody.GONE: "the partition has left; UUID, epoch, name and target are stored",
    Custody.NONE: "the partition was never here, or its copy was dropped",
    Custody.PREPARED: "it holds a sealed copy that it may not serve yet",
    Custody.ARRIVED: "it owns the partition since its last epoch, by a migration to this system",
}
MODES = {
    Mode.SERVING: "it may serve: h-calls and power are free",
    Mode.COPYING: "it serves, and prepares an attempt with the target",
    Mode.WAITING: "it is frozen: calls are held, it sends the store and waits for PREPARED",
    Mode.IN_DOUBT: "it is frozen and does not know the end: it asks the console",
    Mode.ASKING: "it has started, and serves only after the console has agreed",
    Mode.SETTLED: "it does not serve",
}
DECISIONS = {
    Decision.NEW: "no attempt was made",
    Decision.OPEN: "the attempt runs: either end may still be the owner",
    Decision.ABORTED: "the source was ordered to resume; this attempt is never forced",
    Decision.FORCED: "the console has made the target the owner; the source is never ordered to resume",
    Decision.DONE: "the target serves",
}

Lines = Iterator[tuple[object, ...]]


def records() -> Lines:
    """Yield the values of durable custody that a partition can have on a system."""
    for custody in Custody:
        yield custody.name, int(custody), RECORDS[custody]


def modes() -> Lines:
    """Yield the modes that a partition can have in a system's memory."""
    for mode in Mode:
        yield mode.value, MODES[mode]


def system() -> Lines:
    """Yield every step that a system can take."""
    for row in sorted(SYSTEM, key=lambda row: row.number):
        follows = row.to.name if row.to else "-"
        word = row.on.name
        yield (
            row.number,
            _names(row.at, Custody),
            _values(row.mode),
            word,
            _if(row.guard),
            follows,
            row.then.value,
        )


def says() -> Lines:
    """Yield the messages that a system repeats in each state."""
    for saying in SAYS:
        mode = saying.mode.value if saying.mode else "any"
        yield saying.at.name, mode, saying.word.name, ", ".join(party.value for party in saying.to)


def decisions() -> Lines:
    """Yield the decisions that the console can make."""
    for decision in Decision:
        yield decision.name, DECISIONS[decision]


def console() -> Lines:
    """Yield every step that the console can take."""
    for row in sorted(CONSOLE, key=lambda row: row.number):
        follows, word = row.to.name if row.to else "-", row.says.name if row.says else "-"
        yield row.number, _names(row.at, Decision), row.on.name, _if(row.guard), follows, word


def fail_points() -> Lines:
    """Yield the fail-points of each process."""
    for process, names in PROCESSES.items():
        yield process, ", ".join(f"`{name}`" for name in names)


def _if(guard: Guard) -> str:
    return "-" if guard is Guard.FREE else guard.value


def _names(members: Collection[Enum], kind: Iterable[Enum]) -> str:
    every = list(kind)
    return "any" if len(members) == len(every) else ", ".join(each.name for each in every if each in members)


def _values(members: Collection[Mode]) -> str:
    return ", ".join(each.value for each in Mode if each in members)


TABLES: dict[str, Callable[[], tuple[str, Lines]]] = {
    "records": lambda: ("record | byte | meaning", records()),
    "modes": lambda: ("mode | meaning", modes()),
    "system": lambda: ("row | record | mode | word | if | next record | next mode", system()),
    "says": lambda: ("record | mode | says | to", says()),
    "decisions": lambda: ("decision | meaning", decisions()),
    "console": lambda: ("row | decision | word | if | next decision | says", console()),
    "fail-points": lambda: ("process | names", fail_points()),
}
"""Heads and rows by name."""
