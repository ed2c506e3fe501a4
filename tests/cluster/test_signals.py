"""Stop signals around the wait for NVRAM on etcd: none is lost, and none ends the process at once."""

from __future__ import annotations

import os
import signal

import pytest
import trio

from hcall_server.process.signals import NotedStops
from hcall_server.service import standing_by


class Won:
    """NVRAM that an attempt has won."""

    closed = False

    def close(self) -> None:
        self.closed = True


class LateSignal:
    """A `Taking` whose attempt succeeds at the moment of a stop signal."""

    prefix, holder, holder_seconds = "p", "", None

    def __init__(self, *, before: bool) -> None:
        self.won = Won()
        self._before = before

    def attempt(self) -> Won:
        if self._before:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.won


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("turn", range(10))
def test_a_signal_at_the_end_of_the_wait_is_not_lost(turn: int, before: bool) -> None:
    """R-85: the wait ends without NVRAM, or the service gets the signal."""
    taking = LateSignal(before=before)
    with NotedStops() as noted:
        nvram = trio.run(standing_by._unless_stopped, taking, None)  # type: ignore[arg-type]
        if not before:
            os.kill(os.getpid(), signal.SIGTERM)
        assert nvram is None or not taking.won.closed
        assert nvram is None or "SIGTERM" in repr(noted)


def test_the_service_gets_a_signal_of_its_start() -> None:
    """R-85: a signal between the two event loops stops the service in good order."""

    async def served(noted: NotedStops) -> int:
        with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM) as signals:
            noted.deliver()
            return await anext(aiter(signals))

    before = signal.getsignal(signal.SIGTERM)
    with NotedStops() as noted:
        os.kill(os.getpid(), signal.SIGTERM)
        assert trio.run(served, noted) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    with NotedStops(active=False):
        assert signal.getsignal(signal.SIGTERM) is before
