"""A blocking call that a Trio task waits for, for clients that are plain themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a worker thread and return its result.

    When the caller is cancelled, the thread is left to itself: it ends with its own timeout.
    """
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
