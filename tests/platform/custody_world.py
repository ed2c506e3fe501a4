"""The data types of the search: systems, attempts, rules, moves (tests.platform.custody_model)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from hcall_server.platform.custody import (
    CONSOLE,
    SAYS,
    SYSTEM,
    ConsoleRow,
    Custody,
    Mode,
    Register,
    Row,
    Saying,
    Standing,
    Word,
    answer,
    mode_after_start,
    step,
)

TO_CONSOLE = -1
"""The console as the receiver of a word."""


class Kind(Enum):
    """The kind of an attempt."""

    LIVE = "live"
    INACTIVE = "inactive"
    RESTART = "restart"
    BAR = "bar"
    """The number of the bars before a restart."""


class Attempt(NamedTuple):
    """One attempt of a plan. Systems are numbered from 0; at first system 0 owns the partition."""

    source: int
    target: int
    kind: Kind = Kind.LIVE


class Bars(Enum):
    """The systems that are barred before a remote restart."""

    ALL = "all targets since the last move"
    LAST = "the target of the last attempt"
    NONE = "none"


def started(custody: Custody, asks: bool) -> tuple[Custody, Mode]:
    """Return the custody and the mode of a system after its start."""
    return custody, mode_after_start(custody, asks=asks)


class Rules(NamedTuple):
    """The tables of custody and the rules of the drivers. A seeded mistake replaces one of them."""

    system: tuple[Row, ...] = SYSTEM
    says: tuple[Saying, ...] = SAYS
    console: tuple[ConsoleRow, ...] = CONSOLE
    started: Callable[[Custody, bool], tuple[Custody, Mode]] = started
    answer: Callable[[Register, int], Word] = answer
    early: frozenset[Word] = frozenset()
    """Words that are sent before their record is durable."""
    aborts_target: bool = False
    """The console sends ABORTED to a target, without the source."""
    forces_unheard: bool = False
    """The console forces a target that has not sent PREPARED."""
    bars: Bars = Bars.ALL
    begins_anywhere: bool = False
    """An attempt begins at a system that the register does not name as the owner."""
    unseen: bool = False
    """The console does not check the target of a restart."""
    late: bool = True
    """An answer of the console may arrive after a restart of its system."""


class World(NamedTuple):
    """What is searched: attempts in order, confirmed writes, rules, and the operator's behaviour."""

    plan: tuple[Attempt, ...]
    writes: int = 0
    rules: Rules = Rules()
    writers: tuple[int, ...] = (0,)
    asks: bool = False
    wrong: bool = False
    """The operator may declare a running system dead."""

    @property
    def systems(self) -> int:
        """The number of systems."""
        return 1 + max(max(each.source, each.target) for each in self.plan)


class Said(NamedTuple):
    """A word that a party has sent, with its attempt and its receiver."""

    word: Word
    epoch: int
    to: int
    generation: int = 0
    sender: int = TO_CONSOLE
    """Only for words that the console receives."""
    asking: bool = False
    """A question after a start, not of a source in doubt."""


class Local(NamedTuple):
    """The state of a system. It is down if `mode` is None."""

    custody: Custody
    mode: Mode | None
    epoch: int
    attempt: int = 0
    """The epoch of the copy phase, in memory."""
    generation: int = 0

    @property
    def standing(self) -> Standing:
        """The state as the tables of custody have it."""
        assert self.mode is not None
        return Standing(self.custody, self.mode, self.epoch, self.generation)

    @property
    def free(self) -> bool:
        """Whether the console could open a copy of the partition here."""
        return self.mode is not None and step(self.standing, Word.COPY, self.epoch + 1) is not None

    @property
    def serves(self) -> bool:
        """Whether calls of the guest run here."""
        return self.mode in (Mode.SERVING, Mode.COPYING)


class Desk(NamedTuple):
    """The state of the console."""

    up: bool
    register: Register


class Cause(Enum):
    """The cause of a move. Searches for liveness use PROTOCOL, and FORCE if the operator may force."""

    PROTOCOL = 0
    FAULT = 1
    OPERATOR = 2
    FORCE = 3


class Move(NamedTuple):
    """One move of a party: the words it needs, its next state, the words it adds."""

    label: str
    to: Local | Desk
    needs: tuple[Said, ...] = ()
    adds: tuple[Said, ...] = ()
    cause: Cause = Cause.PROTOCOL
    dead: int | None = None
    """The system that must be down."""
    alive: int | None = None
    """The system that must be up."""
    free: int | None = None
    """The system that must be able to open a copy."""
    row: Row | ConsoleRow | None = None


class Reason(NamedTuple):
    """The reason why a source no longer serves, and the words that show it."""

    cause: Cause
    dead: int | None = None
    needs: tuple[Said, ...] = ()


def restart(source: int, target: int) -> tuple[Attempt, Attempt]:
    """Return the two attempts of a remote restart. The first one bars the earlier targets."""
    return Attempt(source, target, Kind.BAR), Attempt(source, target, Kind.RESTART)
