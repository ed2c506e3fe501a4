"""Runs tasks at the same time; the first one that ends decides the result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")

# `hcall_server.mobility.either` is similar, and stays separate.  The two differ in two points.  If an error
# follows the first result, `either` raises it, because its caller must get the error of a lost line.
# `first_of` returns the result.  `either` raises a bug in a group, as any nursery does.  `first_of` raises
# each error as it is, because QEMU's callers match plain errors.  One module for both would have to lie in a
# package that the server and `swpks.qemu` may import.  Nothing else there uses Trio.


async def first_of(*tasks: Callable[[], Awaitable[T]]) -> T:
    """Run tasks at the same time; return the result of the first that ends, or raise its error.

    The other tasks are cancelled.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    async def run(task: Callable[[], Awaitable[T]]) -> None:
        try:
            result = await task()
        except trio.Cancelled:
            raise
        # The error is stored, and raised outside of the nursery: the nursery would put it into a group, and
        # callers match plain errors.
        except BaseException as error:
            failures.append(error)
        else:
            # If a task has failed first, its error decides, even if this task has ended well meanwhile.
            if not failures:
                results.append(result)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task)
    if results:
        return results[0]
    raise failures[0]
