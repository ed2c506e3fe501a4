"""Tasks that serve the block of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def tasks_around() -> AsyncIterator[trio.Nursery]:
    """Open a nursery for a block, and cancel it at the end.

    An exception of the block is not wrapped in a group: a test expects what it has raised.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
