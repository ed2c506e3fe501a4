"""The history of one partition: the calls of its guests and its events, checked against a model.

In the model, each label has an object or none.  A write needs a label without an object.  A removal takes
the object away.

`versions` are states of all labels, oldest first.  The first state is durable.  After a crash, the store
may have any of these states.  A confirmation of a label shows that the last change of the label is durable.
So the versions before that change are removed.

IPLs need no entries: each call has the IPL count of its session.  A call of a later IPL finds no password
and no TRANSIENT object of the earlier IPL.  A call of an earlier IPL can't run any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from swpks.testing.simulation.linear import outcomes

Values = tuple[bytes | None, ...]
"""The object of each label; None for a label without an object."""
KEPT, VOLATILE = ("x", "y", "g"), ("t",)
"""The labels of persistent objects, and those of TRANSIENT ones."""
GUARDED = "g"
"""The label whose owner may have a password."""


class Did(Enum):
    """The kind of a guest's call."""

    WRITE = "write"
    READ = "read"
    REMOVE = "remove"
    CONFIRM = "confirm"
    SET = "set password"
    LOOK = "look"
    """The last call of a simulation, which reads all labels at once."""


class Answer(Enum):
    """An answer in the form of the model.  The answer of a read is the object, or ABSENT."""

    DONE = "done"
    TAKEN = "taken"
    ABSENT = "absent"
    DENIED = "denied"
    FLUSHED = "flushed"
    PENDING = "pending"
    UNKNOWN = "unknown"
    """There was no answer: the call may have run, or not."""
    NEVER = "never run"
    """The call has not run: its status or the GOODBYE of its session says so."""


class GuestCall(NamedTuple):
    """A call of a guest; `system` served it during the IPL with the number `ipl`."""

    called: float
    answered: float
    system: str
    ipl: int
    did: Did
    label: str = ""
    data: bytes = b""
    password: bytes = b""
    answer: Answer | bytes | Values = Answer.UNKNOWN

    def __str__(self) -> str:
        until = "..." if math.isinf(self.answered) else f"{self.answered:g}"
        word = self.answer.value if isinstance(self.answer, Answer) else repr(self.answer)
        secret = f" with {self.password!r}" if self.password else ""
        where = f"{self.system} ipl {self.ipl}"
        did = f"{self.did.value} {self.label} {self.data!r}{secret}"
        return f"{self.called:g} to {until}: {where}: {did} -> {word}"


class Fate(Enum):
    """An event other than a call that may change the objects of a partition."""

    CRASHED = "crashed"
    """The system that served the partition has lost its memory."""
    FLUSHED = "flushed"
    """All changes of the partition have become durable."""
    RESTARTED = "restarted"
    """Another system serves the partition from an older copy, which has the objects `values`."""
    LOST = "lost"
    """After a restart elsewhere, the former system has got the word that it is fenced."""


class Event(NamedTuple):
    """Something that happens to a partition on the system `system`, at the moment `called`.

    `values` are the objects of the copy if `fate` is RESTARTED.
    """

    called: float
    system: str
    fate: Fate
    values: Values = ()

    @property
    def answered(self) -> float:
        """The same moment as `called`: an event takes no time."""
        return self.called

    def __str__(self) -> str:
        return f"{self.called:g}: {self.fate.value} on {self.system} {self.values or ''}"


class Store(NamedTuple):
    """One state of a partition's keystore in the model."""

    ipl: int = 0
    password: bytes = b""
    volatile: Values = (None,) * len(VOLATILE)
    versions: tuple[Values, ...] = ((None,) * len(KEPT),)

    @property
    def values(self) -> Values:
        """The persistent objects now."""
        return self.versions[-1]


class ModelState(NamedTuple):
    """The store of the owner.

    `lost` has the stores that fenced systems may still serve after remote restarts.
    """

    store: Store = Store()
    lost: tuple[tuple[str, Store], ...] = ()

    def at(self, system: str) -> Store:
        """Return the store that a system serves."""
        return dict(self.lost).get(system, self.store)

    def with_store(self, system: str, store: Store) -> ModelState:
        """Return the state after a system's store has been replaced by this store."""
        if system in dict(self.lost):
            return self._replace(lost=_put_lost(self.lost, system, store))
        return self._replace(store=store)


def check(
    calls: Iterable[Iterable[GuestCall]], events: Iterable[Event] = (), start: ModelState | None = None
) -> set[ModelState]:
    """Return every state in which a history may end; NotLinearizable if no order explains the answers.

    `calls` has the calls of each session in order.  A call with an unknown outcome gets its own lane, because
    it may run after later calls of its guest.
    """
    # The order of the events is known, so they are one lane. The search places them between the calls.
    lanes: list[list[GuestCall | Event]] = [list(events)]
    for session in calls:
        known: list[GuestCall | Event] = []
        for call in session:
            if call.answer is Answer.UNKNOWN:
                # READ, LOOK and CONFIRM change nothing. If their outcome is unknown, they prove nothing and
                # are left out.
                if call.did not in {Did.READ, Did.LOOK, Did.CONFIRM}:
                    lanes.append([call])
            else:
                known.append(call)
        if known:
            lanes.append(known)
    return outcomes(lanes, {start or ModelState()}, step)


def step(state: ModelState, entry: GuestCall | Event) -> Iterator[ModelState]:
    """Yield the states after an entry of a history; yield none if the entry is impossible in `state`."""
    if isinstance(entry, Event):
        yield from _befallen(state, entry)
        return
    if entry.answer is Answer.UNKNOWN:
        yield state
    for after in _called(state.at(entry.system), entry):
        yield state.with_store(entry.system, after)


def _befallen(state: ModelState, event: Event) -> Iterator[ModelState]:
    store = state.at(event.system)
    if event.fate is Fate.LOST:
        yield state._replace(lost=_put_lost(state.lost, event.system, None))
    elif event.fate is Fate.RESTARTED:
        again = Store(store.ipl, versions=(event.values,))
        yield ModelState(again, _put_lost(state.lost, event.system, store))
    else:
        if event.fate is Fate.FLUSHED:
            ends = [store._replace(versions=store.versions[-1:])]
        else:
            gone = Store().volatile
            ends = [
                store._replace(password=b"", volatile=gone, versions=(each,))
                for each in dict.fromkeys(store.versions)
            ]
        for after in ends:
            yield state.with_store(event.system, after)


def _put_lost(
    lost: tuple[tuple[str, Store], ...], system: str, store: Store | None
) -> tuple[tuple[str, Store], ...]:
    others = [each for each in lost if each[0] != system]
    return tuple(sorted([*others, *([(system, store)] if store else [])], key=lambda each: each[0]))


def _called(store: Store, call: GuestCall) -> Iterator[Store]:
    if call.ipl < store.ipl:
        return
    if call.ipl > store.ipl:
        store = Store(call.ipl, versions=store.versions)
    if call.did is Did.SET:
        yield from _password(store, call)
    elif call.did is Did.LOOK:
        if call.answer == store.values:
            yield store
    elif call.label == GUARDED and call.password != store.password:
        if call.answer is Answer.DENIED:
            yield store
    elif call.answer is not Answer.DENIED:
        yield from _granted(store, call)


def _password(store: Store, call: GuestCall) -> Iterator[Store]:
    if not store.password and call.answer in {Answer.DONE, Answer.UNKNOWN}:
        yield store._replace(password=call.password)
    elif store.password and call.answer is Answer.TAKEN:
        yield store


def _granted(store: Store, call: GuestCall) -> Iterator[Store]:
    """Yield the store after a call with the right password; yield none if the answer is wrong."""
    held = _held(store, call.label)
    answer, unknown = call.answer, call.answer is Answer.UNKNOWN
    if call.did is Did.READ:
        if answer == (Answer.ABSENT if held is None else held):
            yield store
    elif call.did is Did.CONFIRM:
        yield from _confirmed(store, call)
    elif call.did is Did.WRITE:
        if held is None and (unknown or answer is Answer.DONE):
            yield _with(store, call.label, call.data)
        elif held is not None and answer is Answer.TAKEN:
            yield store
    elif held is not None and (unknown or answer is Answer.DONE):
        yield _with(store, call.label, None)
    elif held is None and answer is Answer.ABSENT:
        yield store


def _confirmed(store: Store, call: GuestCall) -> Iterator[Store]:
    """Yield the store after a confirmation; yield none if the answer is wrong.

    A flush may come at any time.  It makes all older changes durable too.
    """
    # Find the version that made the last change of this label: all later versions may still be pending.
    at = KEPT.index(call.label)
    last = len(store.versions) - 1
    while last and store.versions[last - 1][at] == store.versions[last][at]:
        last -= 1
    if call.answer is Answer.PENDING and last:
        yield store
    elif call.answer is (Answer.ABSENT if store.values[at] is None else Answer.FLUSHED):
        yield store._replace(versions=store.versions[last:])


def _held(store: Store, label: str) -> bytes | None:
    if label in VOLATILE:
        return store.volatile[VOLATILE.index(label)]
    return store.values[KEPT.index(label)]


def _with(store: Store, label: str, data: bytes | None) -> Store:
    """Return the store with this object for a label; None removes the object."""
    if label in VOLATILE:
        return store._replace(volatile=_put(store.volatile, VOLATILE.index(label), data))
    return store._replace(versions=(*store.versions, _put(store.values, KEPT.index(label), data)))


def _put(values: Values, at: int, data: bytes | None) -> Values:
    return (*values[:at], data, *values[at + 1 :])
