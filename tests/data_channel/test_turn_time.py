"""A conversation measures the time of its turn."""

import math
from typing import Any

import pytest

from hcall_client.calls import get_config, get_object_labels, signed_update
from hcall_client.request import Request
from hcall_server.machine.turns import CALLS, Quantum
from tests.data_channel.ends import opened
from tests.data_channel.support import OS, read, write

LABEL = b"label"
COSTLY: dict[str, tuple[Request[Any], int]] = {
    "light": (read(LABEL), 4),
    "the ordinary way": (get_config(), 1),
    "labels": (get_object_labels(OS), 1),
    "a large frame": (write(b"large", bytes(9000)), 1),
    "a large answer": (read(b"long"), 1),
    "an update": (signed_update(OS, LABEL, b"no update", 0), 1),
}
"""Calls of one kind, and their number in a turn whose time is over when its clock is first read."""


@pytest.mark.parametrize("name", COSTLY)
def test_the_clock_is_read_after_each_costly_call(name: str) -> None:
    """R-01: The clock is read after each costly call, and no call begins after the end of the turn.

    Four light calls are cheaper than one other call, so the clock is read once for four.
    """
    request, most = COSTLY[name]
    end = opened()
    end.run(write(LABEL), write(b"long", bytes(9000)))
    counts = end.machine.counters.calls[1]
    before = counts.total()
    end.conversation.take(end.calls(*[request] * CALLS))
    end.conversation.turn(Quantum(CALLS, -math.inf))
    assert counts.total() - before == most
    assert end.conversation.ready
