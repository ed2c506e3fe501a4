"""R-52: the check that a remote restart uses the newest copy that the console has."""

from __future__ import annotations

from swpks.testing.simulation.lineage import Lineage

EMPTY, ONE, TWO = (None,), (b"1",), (b"2",)


def test_a_copy_brings_the_last_state_that_it_can_have() -> None:
    line = Lineage()
    line.served(ONE, 1)
    line.served(TWO, 3)
    assert (line.least(0), line.least(2), line.least(9)) == (0, 1, 3)
    assert line.last(ONE) < line.least(3)
    assert line.had(TWO)
    assert line.had(EMPTY)
    assert not line.had((b"3",))


def test_lost_generations_come_again_behind_a_restart() -> None:
    """Seed 502095: after a restart, a new copy may have the same generation as a state that was lost."""
    line = Lineage()
    line.served(ONE, 1)
    line.served(TWO, 2)
    line.restarted(EMPTY, 1)
    assert line.last(EMPTY) >= line.least(1)
    assert line.last(EMPTY) >= line.least(3)
    assert line.last(TWO) < line.least(1), "the lost states are older than the restart"
    assert line.had(TWO), "a fenced system may serve it still"
