"""Log lines that peers can cause at will, with a bound for each source (spec/service.md#log)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from hcall_server.machine import logs

# Why the log has a bound
#
# A guest can open sessions, break rules and leave in a fast loop.  A stranger can send wrong proofs.  Each of
# these events is a line.  A bound for each session does not help, because a peer opens new sessions.
#
# So lines are counted for their source.  A source is a partition, with all peers of its private socket; a
# listener of all partitions, for peers without a proof yet; or the control channel.  The lines of one source
# never hide a line of another.
#
# A developer needs the first lines of each kind.  A kind is an event together with its rule or h-call, so
# there are few kinds.  The first `FIRST` lines of each are always written.  Further ones need a token.  A
# source has `BURST` tokens and gets one a second.  So the lines of an interactive session are all written.
# A flood writes 86,400 lines a day for each source: about 35 MB instead of 100 GB.
#
# If lines of a kind were left out, the next one has their number.  Once a minute, and when the server stops,
# `log.shortened` has the counts of each source.  The metrics have their totals.
#
# We dropped doubling distances (lines 1, 2, 4, 8, ...).  After an hour of noise, a developer who starts
# another experiment would see no line of it.

FIRST = 16
"""The number of lines of each kind that are always written, for each source."""

BURST = 256
"""Most further lines at once, from each source."""

PER_SECOND = 1.0
"""Further lines a second in the long run, from each source."""

SUMMARY_SECONDS = 60.0
"""Seconds between two lines that sum up how many were left out."""

CONTROL = "control"
"""The source of the control channel's lines: no partition can have this name."""

CONTROL_TCP = "control tcp"
"""The source of the lines of clients that reach the control channel by TCP and show no certificate."""

METRICS = "metrics tcp"
"""The source of the lines of clients of the metrics listener."""

MOBILITY = "mobility"
"""The source of the lines of connections of other systems, or strangers: no partition can have this name."""

Clock = Callable[[], float]


class LinePace(NamedTuple):
    """How many lines a source may write after the first lines of each kind.

    The source may write `burst` lines at once, and `per_second` lines a second on average.
    """

    burst: int = BURST
    per_second: float = PER_SECOND


ORDINARY = LinePace()


class _Tally:
    """The counts of one kind of line: `seen` since the start, `missing` since the last line written."""

    __slots__ = ("missing", "seen")

    def __init__(self) -> None:
        self.seen = 0
        self.missing = 0


class Allowance:
    """The lines that one source may still cause; `clock` returns seconds."""

    def __init__(self, clock: Clock, pace: LinePace = ORDINARY) -> None:
        self._pace = pace
        self.left_out: Counter[str] = Counter()
        """How many lines were left out since the start, by event."""
        self._clock = clock
        self._tallies: dict[tuple[str, Hashable], _Tally] = {}
        self._summed: Counter[str] = Counter()
        self._summed_at = self._filled_at = clock()
        self._tokens = float(pace.burst)

    def take(self, event: str, kind: Hashable = "") -> int | None:
        """Count a line; return None if it has to be left out.

        Otherwise return how many lines of its kind were left out just before it.  The kinds of one event
        must be few, because each takes memory.
        """
        tally = self._tallies.get((event, kind))
        if tally is None:
            tally = self._tallies[event, kind] = _Tally()
        tally.seen += 1
        if tally.seen > FIRST and not self._pay():
            tally.missing += 1
            self.left_out[event] += 1
            return None
        missing, tally.missing = tally.missing, 0
        return missing

    def summary(self, *, at_once: bool = False) -> dict[str, int]:
        """Return the counts of left-out lines since the last summary, by event; {} if none is due."""
        now = self._clock()
        unreported = self.left_out - self._summed
        if not unreported or (now - self._summed_at < SUMMARY_SECONDS and not at_once):
            return {}
        self._summed_at, self._summed = now, self.left_out.copy()
        return dict(unreported)

    def _pay(self) -> bool:
        """Take a token, if there is one."""
        now = self._clock()
        tokens = self._tokens + (now - self._filled_at) * self._pace.per_second
        paid = tokens >= 1
        self._tokens = min(self._pace.burst, tokens) - paid
        self._filled_at = now
        return paid


class Noise:
    """The allowances of all sources: partitions by their names, listeners, and the control channel."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sources: dict[str, Allowance] = {}
        self._log = logs.Log()

    def of(self, source: str, pace: LinePace = ORDINARY) -> Allowance:
        """Return the allowance of a source.  Only the first call for a source uses `pace`."""
        found = self._sources.get(source)
        if found is None:
            found = self._sources[source] = Allowance(self._clock, pace)
        return found

    def left_out(self) -> Iterator[tuple[str, str, int]]:
        """Yield source, event and number of the lines that were left out since the start."""
        for source, allowance in self._sources.items():
            for event, count in allowance.left_out.items():
                yield source, event, count

    def sum_up(self, *, at_once: bool = False) -> None:
        """Log how many lines were left out, for each source whose summary is due."""
        for source, allowance in self._sources.items():
            if counts := allowance.summary(at_once=at_once):
                self._log.info("log.shortened", source=source, left_out=counts)


class PeerLog:
    """A log for lines that a peer can cause at will: each costs the source's allowance.

    A line that its level hides costs nothing.
    """

    def __init__(self, allowance: Allowance, log: logs.Log) -> None:
        self.log = log
        """The same context without a bound, for lines that no peer can cause at will."""
        self._allowance = allowance

    def __repr__(self) -> str:
        return f"PeerLog({self.log!r})"

    def debug(self, event: str, **fields: Any) -> None:
        """Write detail for developers of swpks."""
        self._write("debug", event, "", fields)

    def missing(self, level: str, event: str, kind: Hashable = "") -> int | None:
        """Count a line whose fields are costly to make; return how many are missing before it.

        Return None if the line is to be left out.  Otherwise the caller writes the line to `log`.
        """
        return self._allowance.take(event, kind) if logs.shown(level) else None

    def info(self, event: str, *, kind: Hashable = "", **fields: Any) -> None:
        """Write an event.  Lines of different kinds do not hide each other."""
        self._write("info", event, kind, fields)

    def warning(self, event: str, *, kind: Hashable = "", **fields: Any) -> None:
        """Write a line that needs attention."""
        self._write("warning", event, kind, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a failure."""
        self._write("error", event, "", fields)

    def _write(self, level: str, event: str, kind: Hashable, fields: dict[str, Any]) -> None:
        missing = self.missing(level, event, kind)
        if missing is not None:
            getattr(self.log, level)(event, **fields, **left_out(missing))


def left_out(missing: int) -> dict[str, int]:
    """Return the field with the number of lines that are missing before this one; {} for none."""
    return {"left_out": missing} if missing else {}
