"""Tasks of which the first one to end decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")

# `hcall_server.mobility.either` looks alike, and stays apart.  There an error behind the first end is raised,
# because a lost line has to reach its caller; here a result that came first decides.  There a bug leaves in
# a group, as from any nursery; here each error leaves as it is, because QEMU's callers match plain errors.
# And a module for both would have to lie in a package that the server and `swpks.qemu` may import, where
# nothing else uses Trio.


async def first_of(*tasks: Callable[[], Awaitable[T]]) -> T:
    """Run tasks at once; return the result of the first one that ends, or raise its error as it is.

    The others are cancelled.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    async def run(task: Callable[[], Awaitable[T]]) -> None:
        try:
            result = await task()
        except trio.Cancelled:
            raise
        # Kept and raised outside of the nursery: a nursery would wrap it into a group, and callers match
        # plain errors.
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
