"""Signals that end a command: its blocks clean up, and the exit status is 128 plus the signal's number."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Never, TypeVar

import trio

from swpks.qemu.race import first_of

T = TypeVar("T")

SIGNALED = 128
_ENDS = (signal.SIGTERM, signal.SIGHUP)
"""Without SIGINT, for which Python raises KeyboardInterrupt by itself."""


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Raise SystemExit in the block at SIGTERM or SIGHUP; later signals do not interrupt the clean-up.

    A signal that is ignored when the command starts, as by nohup, stays ignored.
    """
    ended = False

    def end(signum: int, _frame: FrameType | None) -> None:
        # A second signal would interrupt the clean-up, and leave QEMU or a server behind.
        nonlocal ended
        if not ended:
            ended = True
            raise SystemExit(SIGNALED + signum)

    before = {each: signal.signal(each, end) for each in _not_ignored(_ENDS)}
    try:
        yield
    finally:
        ended = True
        for each, handler in before.items():
            signal.signal(each, handler)


async def unless_ended(task: Callable[[], Awaitable[T]]) -> T:
    """Run a task of Trio; if a signal ends the command, cancel the task and raise SystemExit."""
    with trio.open_signal_receiver(*_not_ignored((signal.SIGINT, *_ENDS))) as received:

        async def wait() -> Never:
            async for signum in received:
                raise SystemExit(SIGNALED + signum)
            raise AssertionError("signals do not end")

        return await first_of(task, wait)


def _not_ignored(signals: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    return [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]
