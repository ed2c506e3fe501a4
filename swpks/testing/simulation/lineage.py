"""The states that one store has had, by generation: a remote restart may not bring too old a state."""

# A remote restart must bring the state of the newest copy that the console had, or a later one. A
# restart loses the states after its copy. Then their generations come again with other contents. The first
# version compared generations over all restarts. A copy made after a restart then had the generation of a
# lost state. So a right restart was reported as a failure (seed 502095). Now `restarted` sets all earlier
# states to generation 0. It does not remove these states. A fenced system that does not know of the restart
# yet may still serve one.
from __future__ import annotations

from swpks.testing.simulation.histories import Values


class Lineage:
    """The states that a store has had.  `restarted` begins a new line of generations."""

    def __init__(self) -> None:
        self._last: dict[Values, int] = {}
        """The last generation of each state since the last restart; 0 for a state before it."""

    def __repr__(self) -> str:
        return f"Lineage({self._last!r})"

    def had(self, values: Values) -> bool:
        """Whether the store ever had this state; every store has had the empty state."""
        return values in self._last or not any(values)

    def last(self, values: Values) -> int:
        """Return the last generation with this state; 0 if none has had it since the last restart."""
        return self._last.get(values, 0)

    def served(self, values: Values, generation: int) -> None:
        """Note the state after a batch of calls, and its generation."""
        self._last[values] = max(generation, self.last(values))

    def least(self, copied: int) -> int:
        """Return the least generation that a restart may bring if the console has the copy `copied`.

        Not every generation has calls.  If that of the copy has none, the copy has the state of the last
        earlier generation with a call.
        """
        return max((each for each in self._last.values() if each <= copied), default=0)

    def restarted(self, values: Values, generation: int) -> None:
        """Begin a new line of generations with the state that a restart brought."""
        self._last = {**dict.fromkeys(self._last, 0), values: generation}
