"""Imports modules in a thread while the event loop runs, even if no descriptor is left."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from hcall_server.machine.reserve import Reserve

T = TypeVar("T")

SWITCH_SECONDS = 0.00001
"""Seconds for which the event loop and an import wait for each other at most, while one is loaded."""


_one_at_a_time = threading.Lock()
"""Two loads at the same time would restore each other's switch interval instead of the usual one."""


async def loaded(load: Callable[[], T], reserve: Reserve) -> T:
    """Return the result of `load`, which imports modules in a thread.

    The thread may use the reserve of descriptors meanwhile.
    """
    # An import opens files.  Without the reserve, a host without free descriptors could not load the code of
    # its error answer.
    with reserve.lent():
        return await trio.to_thread.run_sync(_beside_the_loop, load)


def _beside_the_loop(load: Callable[[], T]) -> T:
    with _one_at_a_time, _quick_switches():
        return load()


@contextmanager
def _quick_switches() -> Iterator[None]:
    """Shorten the switch interval of the interpreter for the imports of a thread."""
    # An import reads many files, and releases the interpreter's lock at each read.  A busy event loop then
    # has the lock for 5 ms, Python's usual interval.  To load the HTTP stack would take half a minute.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
