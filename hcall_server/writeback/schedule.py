"""The states of a flight as a table, and the time at which the next one starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum, auto
from types import MappingProxyType

Clock = Callable[[], float]
"""Returns seconds since a fixed moment; never goes back."""

GATHERING = 0.002
"""Seconds that a flight waits for as many waiters as the last one has served.

64 clients of one landing write again within it.  With 1 ms they needed two flights, and a tenth more time.
"""


class FlightState(Enum):
    """The state of the flight; there is one at a time."""

    IDLE = auto()
    FLYING = auto()
    LANDED = auto()
    RESTING = auto()


class FlightEvent(Enum):
    """An event that changes the state."""

    START = auto()
    LANDING = auto()
    GO_ON = auto()
    REST = auto()


TABLE: Mapping[tuple[FlightState, FlightEvent], FlightState] = MappingProxyType(
    {
        (FlightState.IDLE, FlightEvent.START): FlightState.FLYING,
        (FlightState.RESTING, FlightEvent.START): FlightState.FLYING,
        (FlightState.FLYING, FlightEvent.LANDING): FlightState.LANDED,
        (FlightState.LANDED, FlightEvent.GO_ON): FlightState.IDLE,
        (FlightState.LANDED, FlightEvent.REST): FlightState.RESTING,
    }
)
"""The next state.  An event that has no row in a state cannot happen there."""


class Schedule:
    """The state of the flight, and when the next one starts.

    `delay` is the time in seconds that a change waits for others while no CONFIRM asks for it.
    """

    def __init__(self, delay: float) -> None:
        self.state = FlightState.IDLE
        self.started = 0
        """The number of flights that have started."""
        self._delay = delay
        self._started_at = 0.0
        self._hurried_at: float | None = None
        self._retry_at = 0.0

    @property
    def flying_since(self) -> float | None:
        """The time at which the flight started, None while none is flying."""
        return self._started_at if self.state is FlightState.FLYING else None

    @property
    def hurried(self) -> bool:
        """Whether a guest waits for a dirty change."""
        return self._hurried_at is not None

    def hurry(self, now: float) -> None:
        """Note that a guest waits for a dirty change."""
        # Only the first guest sets the time.  If each later guest moved it, the flight could be delayed for
        # long.
        if self._hurried_at is None:
            self._hurried_at = now

    def start(self, now: float) -> None:
        """Begin a flight.  It takes all dirty changes, so no guest waits for a dirty change any more."""
        self._step(FlightEvent.START)
        self.started += 1
        self._started_at, self._hurried_at = now, None

    def land(self) -> None:
        """Begin a landing; no flight starts before `finish` ends it."""
        self._step(FlightEvent.LANDING)

    def finish(self, now: float, pause: float | None) -> None:
        """End a landing.  A `pause` means that the flight failed: the next one starts after these seconds.

        If a guest waits, its waiting time begins anew.  The clients that were just served need time to
        write again.
        """
        if pause is None:
            self._step(FlightEvent.GO_ON)
        else:
            self._step(FlightEvent.REST)
            self._retry_at = now + pause
        if self._hurried_at is not None:
            self._hurried_at = now

    def start_at(self, since: float, company: int) -> float:
        """Return the time at which the flight starts without another call.

        -inf means at once.  inf means not before the present flight has landed.  `since` is the time of the
        oldest dirty change.  `company` is the number of waiters that the last landing served.
        """
        if self.state is FlightState.RESTING:
            return self._retry_at + (self._delay if self._hurried_at is None else 0)
        if self.state is not FlightState.IDLE:
            return math.inf
        latest = since + self._delay
        if self._hurried_at is None:
            return latest
        # If the last landing served one waiter at most, no other one is expected.  Then the flight starts
        # at once.
        return min(latest, self._hurried_at + GATHERING) if company > 1 else -math.inf

    def _step(self, event: FlightEvent) -> None:
        self.state = TABLE[self.state, event]
