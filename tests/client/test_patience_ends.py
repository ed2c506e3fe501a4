"""A `Patience` ends when the time left is too short for the clock to show."""

from __future__ import annotations

import pytest

from hcall_client.patience import Patience


def test_a_rest_that_no_clock_shows_is_no_rest() -> None:
    """If the time left is only a rounding error of floats, `look` raises TimeoutError.

    Seed 501202 of the simulation found the fault: in virtual time the client never stopped.
    """
    now = [0.0]
    patience = Patience(0.4, lambda: now[0])
    # In floating point, the four pauses up to these moments add up to a little less than 0.4.
    for now[0] in (0.1, 0.2, 0.3, 0.4):
        patience.left()
    left = patience.left()
    assert left is not None
    assert 0 < left < 1e-15
    with pytest.raises(TimeoutError):
        patience.look()
