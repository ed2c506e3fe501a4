"""The states that one store had, by their generations: a restart may bring none that is too old."""

# The check: a remote restart brings the state of the newest copy that the console had, or a later one.
# A restart makes its copy the present. The states after that copy are lost, and their generations come again
# with other contents. The first version compared generations over all restarts. A copy made after a restart
# then looked like a lost state with the same generation, and a right restart was a failure (seed 502095). So
# `restarted` sets all earlier states to generation 0. They are not forgotten: a fenced system that has not
# heard of the restart may still serve one.
from __future__ import annotations

from swpks.testing.simulation.histories import Values


class Lineage:
    """The states that a store had.  `restarted` begins a new line of generations."""

    def __init__(self) -> None:
        self._last: dict[Values, int] = {}
        """The last generation of each state since the last restart; 0 for a state before it."""

    def __repr__(self) -> str:
        return f"Lineage({self._last!r})"

    def had(self, values: Values) -> bool:
        """Whether the store ever had a state; an empty store counts as one that every partition had."""
        return values in self._last or not any(values)

    def last(self, values: Values) -> int:
        """Return the last generation with a state; 0 if the present line has not had it."""
        return self._last.get(values, 0)

    def served(self, values: Values, generation: int) -> None:
        """Add the state after a batch of calls."""
        self._last[values] = max(generation, self.last(values))

    def least(self, copied: int) -> int:
        """Return the least generation that a restart may bring if the console has the copy `copied`.

        A copy may have a generation of its own, in which no call ran.  It has the state of the last
        generation before it in which calls ran.
        """
        return max((each for each in self._last.values() if each <= copied), default=0)

    def restarted(self, values: Values, generation: int) -> None:
        """Begin a new line with the state of a restart; the generations of the old line may come again."""
        self._last = {**dict.fromkeys(self._last, 0), values: generation}
