"""R-50 to R-55: no tested seed of the simulated world breaks a promise. `make soak` tests more seeds."""

from __future__ import annotations

from collections import Counter

import pytest

from swpks.testing.simulation import simulate

SEEDS, SHARE = 1000, 50


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_a_share_of_the_seeds(first: int) -> None:
    figures = Counter[str]()
    for seed in range(first, first + SHARE):
        outcome = simulate(seed, traced=False)
        assert not outcome.failure, f"swpks simulate --seed {seed} --trace: {outcome.failure}"
        figures.update(outcome.figures)
    assert figures["moves"] > SHARE / 2
    assert figures["restarts"]
    assert figures["moves followed"]
    assert figures["crashes"] > SHARE / 10
