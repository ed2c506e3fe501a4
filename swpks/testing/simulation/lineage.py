"""The states that one store had, by their generations: a restart may bring none that is too old."""

from __future__ import annotations

from swpks.testing.simulation.histories import Values


class Lineage:
    """The states of a store; `restarted` begins it anew, because the later ones are lost."""

    def __init__(self) -> None:
        self._last: dict[Values, int] = {}
        """Each state, with the last generation in which the present line has it; 0 for a lost one."""

    def __repr__(self) -> str:
        return f"Lineage({self._last!r})"

    def had(self, values: Values) -> bool:
        """Whether the store ever had a state."""
        return values in self._last or not any(values)

    def last(self, values: Values) -> int:
        """Return the last generation that had a state."""
        return self._last.get(values, 0)

    def served(self, values: Values, generation: int) -> None:
        """Take the state behind a batch of calls."""
        self._last[values] = max(generation, self.last(values))

    def least(self, copied: int) -> int:
        """Return the generation that a copy of generation `copied` has to bring, or a later one.

        A generation without calls has the state of the last one that has some.
        """
        return max((each for each in self._last.values() if each <= copied), default=0)

    def restarted(self, values: Values, generation: int) -> None:
        """Take the state of a restart: its line begins here, and the generations of others may come again."""
        self._last = {**dict.fromkeys(self._last, 0), values: generation}
