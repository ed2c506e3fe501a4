"""A simulation of migrations: systems, a console and guests in virtual time; a seed decides all faults.

outcome = simulate(7)
assert not outcome.failure, outcome.failure
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swpks._lazy import lazily

if TYPE_CHECKING:
    from swpks.testing.simulation.world import Simulated, simulate
else:
    __getattr__, __dir__ = lazily(__name__, {"swpks.testing.simulation.world": "Simulated simulate"})

__all__ = ["Simulated", "simulate"]
