"""One seed is one history: everything that chance decides in a run comes from the seed.

Trio shuffles the tasks that are ready; a set of them has no order of its own; the clients make nonces.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import math
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any, TypeVar

import trio
from trio._core import _run as trio_run

T = TypeVar("T")


class Entropy:
    """Random bytes that follow from a seed and a purpose."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._seed = f"{seed} {purpose} ".encode()
        self._count = 0

    def __repr__(self) -> str:
        return f"Entropy({self._count} drawn)"

    def __call__(self, length: int) -> bytes:
        """Return the next bytes."""
        self._count += 1
        return hashlib.shake_128(self._seed + self._count.to_bytes(8, "big")).digest(length)


def choices(seed: int, purpose: str) -> Random:
    """Return a source of choices that follow from a seed and a purpose."""
    return Random(f"{seed} {purpose}")  # noqa: S311 - no secret is made of it


class VirtualClock(trio.abc.Clock):
    """A clock that goes on to the next deadline as soon as all tasks wait.

    Trio's own MockClock takes two more rounds of the loop, and asks the real clock, for each deadline.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def __repr__(self) -> str:
        return f"VirtualClock({self._now})"

    def start_clock(self) -> None:
        """Do nothing: the clock begins at 0."""

    def current_time(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Go on to a deadline: the loop asks only while no task is ready."""
        if math.isinf(deadline):
            return deadline
        self._now = max(self._now, deadline)
        return 0


class NoInput:
    """The input and output of a simulation: there is none, so the loop has nothing to ask the kernel for.

    Only trio's own task waits for a socket: it takes functions that have to be called in the loop.
    """

    def __init__(self) -> None:
        self._caller: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return "NoInput()"

    def get_events(self, seconds: float) -> bool:
        """Return whether functions wait; RuntimeError if nothing is ready, and nothing will ever be."""
        queue = trio_run.GLOBAL_RUN_CONTEXT.runner.entry_queue
        waiting = bool(queue.queue or queue.idempotent_queue)
        if seconds and not waiting:
            raise RuntimeError("every task waits, and nothing will ever happen")
        return waiting

    def process_events(self, waiting: bool) -> None:
        """Have the functions called that wait."""
        if waiting and self._caller:
            trio.lowlevel.reschedule(self._caller)
            self._caller = None

    async def wait_readable(self, _: object) -> None:
        """Wait until functions have to be called."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._caller = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._caller = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def force_wakeup(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def run_seeded(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run a main task in virtual time; two runs of one seed are the same, step by step.

    Machines and consoles get their entropy through their seams.  The nonces and pauses of clients, which
    have no such seam, come from the seed as well.  The garbage collector waits: it would end generators at
    moments of its own.
    """
    with _determined(seed):
        return trio.run(main, clock=VirtualClock())


@contextlib.contextmanager
def _determined(seed: int) -> Iterator[None]:
    nonces = Entropy(seed, "nonces")
    collects = gc.isenabled()
    gc.disable()
    core: Any = trio_run
    try:
        with (
            _replaced(core, "_ALLOW_DETERMINISTIC_SCHEDULING", value=True),
            _replaced(core, "_r", value=choices(seed, "order of tasks")),
            _replaced(core, "TheIOManager", value=NoInput),
            _replaced(os, "urandom", value=nonces),
            _replaced(secrets, "token_bytes", value=nonces),
        ):
            yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _replaced(place: Any, name: str, *, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)
