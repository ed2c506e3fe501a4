"""One seed is one history: the seed decides everything that is random in a run.

Without this module, three things would differ from run to run: the order of ready tasks, which Trio shuffles;
the order of sets; and the nonces of clients.
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
    """Random bytes that depend only on a seed and a purpose."""

    # The bytes are a hash of a counter: the n-th bytes depend on n alone, and not on earlier lengths.

    def __init__(self, seed: int, purpose: str) -> None:
        self._seed = f"{seed} {purpose} ".encode()
        self._count = 0

    def __repr__(self) -> str:
        return f"Entropy({self._count} drawn)"

    def __call__(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        self._count += 1
        return hashlib.shake_128(self._seed + self._count.to_bytes(8, "big")).digest(length)


def choices(seed: int, purpose: str) -> Random:
    """Return a random generator that depends only on a seed and a purpose."""
    # The seed is text: Random hashes text by SHA-512, so Python's hashes don't change the choices.
    return Random(f"{seed} {purpose}")  # noqa: S311 - no secret is made of it


class VirtualClock(trio.abc.Clock):
    """A clock that jumps to the next deadline as soon as all tasks wait.

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
        """Advance the clock to a deadline and return 0; return infinity if there is no deadline."""
        # Trio calls this only while no task is ready, so the jump overtakes no task. A deadline may be in the
        # past.
        if math.isinf(deadline):
            return deadline
        self._now = max(self._now, deadline)
        return 0


class NoInput:
    """Trio's input and output without a kernel: a simulation has no sockets and no files to wait for.

    One of Trio's own tasks waits for a socket. It calls the functions that were passed to `run_sync_soon`.
    """

    # Trio's own class makes a system call in each round of the loop. Here nothing can arrive, so the call
    # would only take time.

    def __init__(self) -> None:
        self._caller: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return "NoInput()"

    def get_events(self, seconds: float) -> bool:
        """Return whether functions wait to be called; RuntimeError if every task waits for ever."""
        queue = trio_run.GLOBAL_RUN_CONTEXT.runner.entry_queue
        waiting = bool(queue.queue or queue.idempotent_queue)
        # `VirtualClock` returns 0 seconds if any deadline exists. So other seconds mean that no task will
        # ever run.
        if seconds and not waiting:
            raise RuntimeError("every task waits, and nothing will ever happen")
        return waiting

    def process_events(self, waiting: bool) -> None:
        """Wake Trio's task that calls the functions, if functions wait."""
        if waiting and self._caller:
            trio.lowlevel.reschedule(self._caller)
            self._caller = None

    async def wait_readable(self, _: object) -> None:
        """Wait until functions wait to be called; only Trio's own task calls this."""

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
    """Run a main task in virtual time, and return its result; the same seed gives the same steps.

    Machines and consoles get their entropy through their seams.  Clients have no such seam, so `os.urandom`
    and `secrets.token_bytes` are replaced during the run.
    """
    with _determined(seed):
        return trio.run(main, clock=VirtualClock())


@contextlib.contextmanager
def _determined(seed: int) -> Iterator[None]:
    nonces = Entropy(seed, "nonces")
    # The garbage collector closes generators that lie in a cycle. The time of its run depends on all earlier
    # allocations of the process, so it is off.
    collects = gc.isenabled()
    gc.disable()
    core: Any = trio_run
    # Trio has no public function for its shuffle. With the first name set, it sorts the ready tasks by age
    # before it shuffles them. Otherwise their order may come from sets, which differ between processes.
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
