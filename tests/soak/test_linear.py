"""The checker finds answers that no order of the calls explains. A sample of racing calls has an order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hcalls.model import Model
from tests.soak.linear import Call, NotLinearizable, confirmed, freeze, outcomes
from tests.soak.parts import Place, linearizability

TOTAL = 4096
EMPTY = freeze(Model(TOTAL, "FW1110"))
WRITTEN, GONE, PENDING, FLUSHED = 0, -7, (0, 0), (0, 1)
Judge = Callable[[Model, Any], bool]


def write(data: bytes, label: bytes = b"x") -> Judge:
    return lambda model, answer: model.write(3, label, data, 0, b"") == answer


def read(label: bytes = b"x") -> Judge:
    def legal(model: Model, answer: Any) -> bool:
        status, _, _, data = model.read(3, label, 4000, b"")
        return bool(answer == (data if status == 0 else status))

    return legal


def remove(model: Model, answer: Any) -> bool:
    return model.remove(3, b"x", b"") == answer


def confirm(label: bytes = b"x") -> Judge:
    return lambda model, answer: confirmed(model, 3, label, b"", answer)


def linear(*lanes: list[tuple[Judge, int, int, Any]]) -> bool:
    """Return whether calls on several connections have an order.

    Each call is (name, called, answered, answer).
    """
    history = [[Call(f"{n}", *call) for n, call in enumerate(lane)] for lane in lanes]
    try:
        return bool(outcomes(history, {EMPTY}, TOTAL))
    except NotLinearizable:
        return False


def test_calls_that_overlap_may_run_in_any_order() -> None:
    both = [(write(b"1"), 1, 5, WRITTEN)], [(read(), 2, 4, b"1"), (read(), 6, 7, b"1")]
    assert linear(*both)
    assert linear([(write(b"1"), 1, 5, WRITTEN)], [(read(), 2, 4, GONE), (read(), 6, 7, b"1")])


def test_a_stale_read_is_found() -> None:
    assert not linear([(write(b"1"), 1, 2, WRITTEN)], [(read(), 3, 4, GONE)])


def test_a_value_that_goes_back_is_found() -> None:
    assert not linear([(write(b"1"), 1, 9, WRITTEN)], [(read(), 2, 3, b"1"), (read(), 4, 5, GONE)])


def test_two_successes_of_which_only_one_can_be_are_found() -> None:
    assert not linear([(write(b"1"), 1, 5, WRITTEN)], [(write(b"2"), 2, 4, WRITTEN)])
    assert linear([(write(b"1"), 1, 5, WRITTEN)], [(write(b"2"), 2, 4, -16)])


def test_the_order_within_a_connection_counts() -> None:
    """R-20: Calls of one connection run in the order in which they were sent, although they overlap."""
    assert not linear([(read(), 1, 9, b"1"), (write(b"1"), 2, 9, WRITTEN)])
    assert linear([(write(b"1"), 1, 9, WRITTEN), (remove, 2, 9, 0), (write(b"2"), 3, 9, WRITTEN)])


def test_flushed_is_never_pending_again() -> None:
    """R-20: If one change counts as flushed, all older changes are flushed and never pending again."""
    one, two = (write(b"1"), 1, 2, WRITTEN), (write(b"2", b"y"), 3, 4, WRITTEN)
    assert linear([one, (confirm(), 5, 6, PENDING), (confirm(), 7, 8, FLUSHED)])
    assert not linear([one, (confirm(), 5, 6, FLUSHED), (confirm(), 7, 8, PENDING)])
    assert not linear([one, two, (confirm(b"y"), 5, 6, FLUSHED), (confirm(), 7, 8, PENDING)])
    assert linear([one, two, (confirm(), 5, 6, FLUSHED), (confirm(b"y"), 7, 8, PENDING)])


def test_a_round_may_end_in_several_states() -> None:
    lanes = [[Call("1", write(b"1"), 1, 9, 0)], [Call("r", remove, 2, 9, GONE)]]
    assert len(outcomes(lanes, {EMPTY}, TOTAL)) == 1
    flying = [
        [Call("1", write(b"1"), 1, 9, 0), Call("c", confirm(), 2, 9, FLUSHED)],
        [Call("w", write(b"2"), 3, 9, -16)],
    ]
    assert len(outcomes(flying, {EMPTY}, TOTAL)) == 1
    both = [[Call("1", remove, 1, 9, 0)], [Call("2", remove, 2, 9, GONE)], [Call("w", write(b"1"), 3, 9, 0)]]
    assert len(outcomes(both, {EMPTY}, TOTAL)) == 1


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_sample_of_racing_calls(soak_folder: Path, soak_seed: str) -> None:
    """R-01, R-04, R-07, R-20: One order of all racing calls explains every answer of the server."""
    figures = linearizability(Place(soak_folder, soak_seed, 0.005))
    assert figures["pairs that overlap"] > figures["rounds"]
