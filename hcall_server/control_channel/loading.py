"""Imports in a thread beside a busy event loop, also when no descriptor is left."""

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
"""How long the event loop and an import wait for each other, in seconds."""


_one_at_a_time = threading.Lock()
"""Two loads at once would take each other's switch interval for the usual one."""


async def loaded(load: Callable[[], T], reserve: Reserve) -> T:
    """Return what `load` returns, which imports modules in a thread; the reserve is lent meanwhile."""
    with reserve.lent():
        return await trio.to_thread.run_sync(_beside_the_loop, load)


def _beside_the_loop(load: Callable[[], T]) -> T:
    with _one_at_a_time, _quick_switches():
        return load()


@contextmanager
def _quick_switches() -> Iterator[None]:
    """Let the imports of a thread come forward while the event loop is busy.

    An import gives the interpreter away at each of its many file reads.  If the event loop then kept
    it for Python's usual 5 ms each time, loading the HTTP stack would take half a minute.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
