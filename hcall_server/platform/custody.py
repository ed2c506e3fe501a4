"""Custody: which system owns a partition, as tables of states (spec/migration.md).

`SYSTEM` has every step of a system, `CONSOLE` every step of the console, and `SAYS` the words of a system in
each state.  The drivers (`hcall_server.mobility`, `hcall_server.machine.custodian`, and the register of
`hcall_server.console`) take each step from these tables, and the search in the tests explores the same rows.
"""

# Exactly one owner
#
# A partition moves from a source to a target, by order of a console.  Each of the three may crash at any
# moment and come back.  The network may lose a message, delay it, repeat it, or change the order.  Still
# this must hold:
#
#   1. At every moment at most one system serves the partition.
#   2. The target serves exactly the last state that the source has confirmed to a client.
#   3. When all three run and reach each other, the partition ends with exactly one owner.
#
# The means are few:
#
#   Epochs.     Each attempt has a number, larger than all before.  Each message carries it.  A system
#               remembers the epoch of its last record, so a message of an old attempt has no effect.
#   Records.    Record and mode of a system determine which words it sends.  It stores a record first, and
#               then sends the words of this record.
#   One commit. RELEASED is the point of no return.  Before it, only the source can own the partition
#               again.  After it, only the target can.
#   Asking.     A source that has frozen does not know whether the target has the state.  It never decides
#               alone: it serves nothing and asks the console.  The console stores its decision, then answers.
#   Time-outs.  No time-out makes the target serve, or drop its copy.
#
# A console that starts an attempt writes its number first.  When it has answered RESUME for an attempt, it
# never forces this attempt.  When it has forced one, it never answers RESUME for it.  These two facts are one
# durable value, `Decision`, so no crash can produce both.
#
# The console remembers one more number, `moved`: the epoch by which the partition came to its present owner.
# The console answers FENCED to a question about this epoch or an older one.  Otherwise a source that was down
# during a whole later migration would receive RESUME, because its epoch is older than the console's.
#
# Two further ways end in the same records.  A powered-off partition is released first, and its copy is then
# opened at the target (rows 15 and 16).  A remote restart opens the console's copy while the source is dead;
# the source asks before it serves, and learns that it is fenced (rows 17 and 18).
#
# A remote restart takes two numbers.  The first number is for BAR.  A dead source may have released.  If it
# comes back, it could activate a target that has its copy.  So the console sends BAR to each target since the
# last move (row 19).  When each of them has the record NONE of this number, the console decides with the
# second number (row 20):
#
#     attempt 5, A to B        B is PREPARED; A dies, in FROZEN or in RELEASED
#     BAR(6) to B              NONE(6): ACTIVATE(5) of A has no effect any more
#     RESTART(7) on C or B     FORCED(7) is stored, then COPY(7): the target is ARRIVED
#
# One number for both would not work: row 16 needs a number larger than that of the bar, or B could not take
# the copy.  To bar the last target only would not be enough: an older target could be activated.  The console
# also checks the target of the restart first: a system that owns the partition takes no copy.
#
# An answer to a question (RESUME, SERVE, FENCED) is about one run of the source.  It must not arrive in the
# next run, because a restart elsewhere may be between them.  So the console decides and sends under one lock,
# on a connection to the system that asks, and decides anew if that fails.  A restart takes the same lock.
#
# ACTIVE or ABORTED of a later attempt proves that a system has owned the partition since.  So these words end
# a released store and a copy of an earlier attempt (rows 8 and 13), even if its own word was lost.  The
# console sends them to each system that it knows.  ACTIVE of an older attempt does not decide the last one.
# But it names the owner, so the register stores it (row 7).  The next attempt begins at the owner.
#
# A word that is not sent is only late.  So the drivers may send less than `SAYS` allows.  A source sends
# ABORTED once.  While a source is stopped or a target is barred, the console sends no words (`courier`).
#
# We dropped a lease.  It would save the question at each start, and cost synchronous clocks and a console
# that is always up.  We also dropped a console that orders the target to drop its copy: the console can't
# know whether the source has released meanwhile.
#
# A state is a record (`Custody`, durable) and a mode (`Mode`, in memory).  A word without a row in a state is
# ignored: it is old or repeated.

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import NamedTuple


class Custody(IntEnum):
    """The durable custody of a partition on one system, one byte of its record."""

    OWN = 1
    """It owns the partition: it made it, or an attempt to move it away has ended here."""
    FROZEN = 2
    """It has stopped serving, and waits for the target's PREPARED."""
    RELEASED = 3
    """The target owns the partition; its store is still here, until the target serves."""
    GONE = 4
    """The partition has left; only UUID, epoch, name and target are kept."""
    NONE = 5
    """The partition was never here, or its copy was dropped."""
    PREPARED = 6
    """It holds a sealed copy that it may not serve yet."""
    ARRIVED = 7
    """It owns the partition since its last epoch, by a migration to this system."""


OWNING = frozenset({Custody.OWN, Custody.ARRIVED})
"""The records of a system that owns the partition."""
LEFT = frozenset({Custody.GONE, Custody.NONE})
"""The records of a system that has no store of the partition."""
STORED = frozenset(Custody) - LEFT
"""The records of a system that has a store of the partition."""


class Mode(Enum):
    """The volatile half of a state: what a system does with a partition now.  A crash loses it."""

    SERVING = "serving"
    """It may serve: h-calls and power are free."""
    COPYING = "copying"
    """It serves, and prepares an attempt with the target."""
    WAITING = "waiting"
    """It is frozen: calls are held, it sends the store and waits for PREPARED."""
    IN_DOUBT = "in-doubt"
    """It is frozen and does not know the end: it asks the console."""
    ASKING = "asking"
    """It has started and serves only after the console has agreed (R-54)."""
    SETTLED = "settled"
    """It does not serve, and waits for nothing of its own."""


SERVES = frozenset({Mode.SERVING, Mode.COPYING})
"""The modes in which a system serves a partition that it owns."""
UNSURE = frozenset({Mode.WAITING, Mode.IN_DOUBT, Mode.SETTLED})
"""The modes in which a system may not change a partition, with any record."""


class Word(Enum):
    """A message, an order of the console, or an event inside a system.  The value is the name on the wire.

    Events inside the source are AGREED (with the target) and ABORT (a time-out, or an order to stop).
    """

    BEGIN = "begin"
    AGREED = "agreed"
    FINAL = "final"
    PREPARED = "prepared"
    ACTIVATE = "activate"
    ACTIVE = "active"
    ABORT = "abort"
    ABORTED = "aborted"
    FORCE = "force"
    ASK = "ask"
    RESUME = "resume"
    SERVE = "serve"
    FENCED = "fenced"
    RELEASE = "release"
    COPY = "copy"
    BAR = "bar"
    RESTART = "restart"


class Guard(Enum):
    """The condition that a row puts on e, the epoch of the message."""

    LATER = "e is larger than the last e"
    SAME = "e is the last e"
    SAME_STORE = "e is the last e, and the generation is that of the store"
    NOT_OLDER = "e is the last e or larger"
    EARLIER = "e is smaller than the last e, and larger than that of the last move"
    FREE = "always"


class Row(NamedTuple):
    """One step of a system.

    `number` is the row's number in the table of spec/migration.md.  The row is for a system whose record is
    in `at` and whose mode is in `mode`.  If the word `on` comes and `guard` holds, the system takes the
    record `to` and the mode `then`.  A changed record is durable before anything else follows.
    """

    number: int
    at: frozenset[Custody]
    mode: frozenset[Mode]
    on: Word
    guard: Guard
    to: Custody | None
    """The next record; None leaves it as it is."""
    then: Mode


def _at(*records: Custody) -> frozenset[Custody]:
    return frozenset(records)


def _in(*modes: Mode) -> frozenset[Mode]:
    return frozenset(modes)


_STOPPED = _in(Mode.WAITING, Mode.IN_DOUBT)
_RESTS = _in(Mode.SETTLED)
_NOT_HERE = _at(Custody.NONE, Custody.GONE)
_TAKES_COPY = _NOT_HERE | {Custody.PREPARED, Custody.RELEASED}

SYSTEM: tuple[Row, ...] = (
    Row(2, OWNING, _in(Mode.SERVING), Word.BEGIN, Guard.LATER, None, Mode.COPYING),
    Row(3, OWNING, _in(Mode.COPYING), Word.ABORT, Guard.FREE, None, Mode.SERVING),
    Row(4, OWNING, _in(Mode.COPYING), Word.AGREED, Guard.LATER, Custody.FROZEN, Mode.WAITING),
    Row(5, _NOT_HERE | {Custody.PREPARED}, _RESTS, Word.FINAL, Guard.LATER, Custody.PREPARED, Mode.SETTLED),
    Row(6, _at(Custody.FROZEN), _STOPPED, Word.PREPARED, Guard.SAME_STORE, Custody.RELEASED, Mode.SETTLED),
    Row(7, _at(Custody.PREPARED), _RESTS, Word.ACTIVATE, Guard.SAME, Custody.ARRIVED, Mode.SERVING),
    Row(7, _at(Custody.PREPARED), _RESTS, Word.FORCE, Guard.SAME, Custody.ARRIVED, Mode.SERVING),
    Row(8, _at(Custody.RELEASED), _RESTS, Word.ACTIVE, Guard.NOT_OLDER, Custody.GONE, Mode.SETTLED),
    Row(8, _at(Custody.RELEASED), _RESTS, Word.ABORTED, Guard.LATER, Custody.GONE, Mode.SETTLED),
    Row(9, _at(Custody.FROZEN), _in(Mode.WAITING), Word.ABORT, Guard.FREE, None, Mode.IN_DOUBT),
    Row(11, _at(Custody.FROZEN), _in(Mode.IN_DOUBT), Word.RESUME, Guard.SAME, Custody.OWN, Mode.SERVING),
    Row(12, _at(Custody.FROZEN), _in(Mode.IN_DOUBT), Word.FENCED, Guard.SAME, Custody.RELEASED, Mode.SETTLED),
    Row(12, _at(Custody.FROZEN), _in(Mode.IN_DOUBT), Word.ACTIVE, Guard.SAME, Custody.RELEASED, Mode.SETTLED),
    Row(13, _at(Custody.PREPARED), _RESTS, Word.ABORTED, Guard.NOT_OLDER, Custody.NONE, Mode.SETTLED),
    Row(13, _at(Custody.PREPARED), _RESTS, Word.ACTIVE, Guard.LATER, Custody.NONE, Mode.SETTLED),
    Row(15, OWNING, _in(Mode.SERVING), Word.RELEASE, Guard.LATER, Custody.RELEASED, Mode.SETTLED),
    Row(16, _TAKES_COPY, _RESTS, Word.COPY, Guard.LATER, Custody.ARRIVED, Mode.SERVING),
    Row(17, OWNING, _in(Mode.ASKING), Word.SERVE, Guard.SAME, None, Mode.SERVING),
    Row(18, OWNING, _in(Mode.ASKING), Word.FENCED, Guard.LATER, Custody.RELEASED, Mode.SETTLED),
    Row(19, _NOT_HERE | {Custody.PREPARED}, _RESTS, Word.BAR, Guard.LATER, Custody.NONE, Mode.SETTLED),
)
"""Every step of a system; a restart is `mode_after_start`.

Row 15 needs a partition that is powered off.
"""


class Standing(NamedTuple):
    """A partition on one system: its record, its mode, its last epoch, and the generation of its store."""

    custody: Custody = Custody.NONE
    mode: Mode = Mode.SETTLED
    epoch: int = 0
    generation: int = 0


def step(
    at: Standing, on: Word, epoch: int = 0, generation: int = 0, rows: Iterable[Row] = SYSTEM
) -> Row | None:
    """Return the row for a message in a state, None if the message has no effect in this state."""
    return next((row for row in rows if _fits(row, at, on, epoch, generation)), None)


def after(at: Standing, row: Row, epoch: int = 0, generation: int = 0) -> Standing:
    """Return the state after a row was applied.  A changed record has the epoch of the message."""
    if row.to is None:
        return at._replace(mode=row.then)
    taken = generation if row.on in (Word.FINAL, Word.COPY) else at.generation
    return Standing(row.to, row.then, epoch, taken)


def mode_after_start(custody: Custody, *, asks: bool) -> Mode:
    """Return the mode after a start.  If `asks`, the console has to agree before the partition is served."""
    if custody is Custody.FROZEN:
        return Mode.IN_DOUBT
    if custody in OWNING:
        return Mode.ASKING if asks else Mode.SERVING
    return Mode.SETTLED


def _fits(row: Row, at: Standing, on: Word, epoch: int, generation: int) -> bool:
    if row.on is not on or at.custody not in row.at or at.mode not in row.mode:
        return False
    if row.guard is Guard.LATER:
        return epoch > at.epoch
    if row.guard is Guard.SAME:
        return epoch == at.epoch
    if row.guard is Guard.NOT_OLDER:
        return epoch >= at.epoch
    return row.guard is Guard.FREE or (epoch, generation) == (at.epoch, at.generation)


class Party(Enum):
    """Who receives a message about a partition's custody."""

    SOURCE = "source"
    TARGET = "target"
    CONSOLE = "console"


class Saying(NamedTuple):
    """A word that a system sends again and again in a durable state.  If `mode` is None, any mode counts."""

    at: Custody
    mode: Mode | None
    word: Word
    to: tuple[Party, ...]


SAYS: tuple[Saying, ...] = (
    Saying(Custody.FROZEN, Mode.WAITING, Word.FINAL, (Party.TARGET,)),
    Saying(Custody.FROZEN, Mode.IN_DOUBT, Word.ASK, (Party.CONSOLE,)),
    Saying(Custody.RELEASED, None, Word.ACTIVATE, (Party.TARGET,)),
    Saying(Custody.PREPARED, None, Word.PREPARED, (Party.SOURCE, Party.CONSOLE)),
    Saying(Custody.ARRIVED, None, Word.ACTIVE, (Party.SOURCE, Party.CONSOLE)),
    Saying(Custody.OWN, None, Word.ABORTED, (Party.TARGET,)),
    Saying(Custody.OWN, Mode.ASKING, Word.ASK, (Party.CONSOLE,)),
    Saying(Custody.ARRIVED, Mode.ASKING, Word.ASK, (Party.CONSOLE,)),
)
"""The words of a system in each state.  Source and target use their channel, and the console carries both.

ABORTED of epoch 0 is not sent: no attempt was made.
"""


def says(at: Standing) -> tuple[Saying, ...]:
    """Return the words of a system in a durable state."""
    rows = (row for row in SAYS if row.at is at.custody and row.mode in (None, at.mode))
    return tuple(row for row in rows if at.epoch or row.word is not Word.ABORTED)


class Decision(Enum):
    """The console's durable decision about its last attempt."""

    NEW = "new"
    """No attempt was made."""
    OPEN = "open"
    """The attempt runs: either end may still be the owner."""
    ABORTED = "aborted"
    """The console has answered RESUME; this attempt is never forced."""
    FORCED = "forced"
    """The console has made the target the owner: it sends FORCE or COPY there, and never RESUME."""
    DONE = "done"
    """The target serves."""


class ConsoleRow(NamedTuple):
    """One step of the console; `says` is its answer, None for none."""

    number: int
    at: frozenset[Decision]
    on: Word
    guard: Guard
    to: Decision | None
    says: Word | None


def _decided(*decisions: Decision) -> frozenset[Decision]:
    return frozenset(decisions)


_UNDECIDED = _decided(Decision.NEW, Decision.OPEN, Decision.ABORTED)
_MOVED = _decided(Decision.FORCED, Decision.DONE)

CONSOLE: tuple[ConsoleRow, ...] = (
    ConsoleRow(1, _UNDECIDED | {Decision.DONE}, Word.BEGIN, Guard.LATER, Decision.OPEN, Word.BEGIN),
    ConsoleRow(10, _decided(Decision.OPEN), Word.ASK, Guard.SAME, Decision.ABORTED, Word.RESUME),
    ConsoleRow(10, _decided(Decision.ABORTED), Word.ASK, Guard.SAME, None, Word.RESUME),
    ConsoleRow(10, _MOVED, Word.ASK, Guard.SAME, None, Word.FENCED),
    ConsoleRow(14, _decided(Decision.OPEN), Word.FORCE, Guard.SAME, Decision.FORCED, Word.FORCE),
    ConsoleRow(20, frozenset(Decision), Word.RESTART, Guard.LATER, Decision.FORCED, Word.COPY),
    ConsoleRow(7, _UNDECIDED | {Decision.FORCED}, Word.ACTIVE, Guard.SAME, Decision.DONE, None),
    ConsoleRow(7, _UNDECIDED, Word.ACTIVE, Guard.EARLIER, None, None),
)
"""Every step of the console about the attempt of its row.  `answer` is for questions about older attempts.

Row 1 needs that the source is the owner.  Row 14 needs that PREPARED of this attempt was received.  Row 20
needs that the source is dead or has RELEASED, and that the target can take a copy.  It also needs that the
targets of all attempts since the last move are barred.  In FORCED, the target of that move is barred too.
"""


class Register(NamedTuple):
    """The console's row of a partition.

    `epoch` is the largest that was ever given.  `moved` is the epoch of the attempt that made the present
    owner, 0 if the partition has never moved.
    """

    epoch: int = 0
    decision: Decision = Decision.NEW
    moved: int = 0


def console_step(
    at: Register, on: Word, epoch: int, rows: Iterable[ConsoleRow] = CONSOLE
) -> ConsoleRow | None:
    """Return the console's row for a word, None if it has no effect."""
    return next((row for row in rows if row.on is on and _decides(row, at, epoch)), None)


def decided(at: Register, row: ConsoleRow, epoch: int) -> Register:
    """Return the register after a row was applied to a message of this epoch."""
    decision = row.to or at.decision
    moves = decision in _MOVED or row.on is Word.ACTIVE
    return Register(max(at.epoch, epoch), decision, epoch if moves else at.moved)


def _decides(row: ConsoleRow, at: Register, epoch: int) -> bool:
    if at.decision not in row.at:
        return False
    if row.guard is Guard.LATER:
        return epoch > at.epoch
    if row.guard is Guard.EARLIER:
        return at.moved < epoch < at.epoch
    return epoch == at.epoch


def answer(at: Register, epoch: int) -> Word:
    """Return the answer to a source in doubt.  Its attempt is older than the last one in the register."""
    return Word.FENCED if epoch <= at.moved else Word.RESUME
