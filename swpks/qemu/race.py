"""Runs tasks at the same time; the first one that ends decides the result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")

# `hcall_server.mobility.either` is similar, and stays separate.  There, an error that comes after the first
# result is raised, because its caller must get the error of a lost line.  Here, a result that came first
# decides. There, a bug is raised in a group, as from any nursery.  Here, each error is raised as it is,
# because QEMU's callers match plain errors.  A module for both would have to lie in a package that the server
# and `swpks.qemu` may import, where nothing else uses Trio.


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
            # An error that came first decides, even if another task ends well before it is cancelled.
            if not failures:
                results.append(result)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task)
    if results:
        return results[0]
    raise failures[0]
