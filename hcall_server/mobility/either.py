"""The tasks of one connection: they run until the first one ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from hcall_abi.errors import SwpksError
from hcall_server.mobility.channel import LineLost

# `first_of` in `swpks.qemu.race` is similar, but returns the first result and raises each error unchanged.
# `either` also raises an error after a success, and raises a bug in an ExceptionGroup.


async def either(*tasks: Callable[[], Awaitable[None]]) -> None:
    """Run tasks until the first of them ends.  If a LineLost or SwpksError ended it, raise that error."""
    failures: list[LineLost | SwpksError] = []

    async def run(task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        # The error is stored here and raised below.  A nursery would wrap it in an ExceptionGroup, which
        # every caller would have to unpack.
        except (LineLost, SwpksError) as error:
            failures.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task)
    if failures:
        raise failures[0]
