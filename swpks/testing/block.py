"""Background tasks around the block of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def tasks_around() -> AsyncIterator[trio.Nursery]:
    """Open a nursery for a block, and cancel it at the end.

    An exception of the block is raised as it is, and not in a group.
    """
    # A nursery wraps each exception of its body in a group. Then `pytest.raises(HcallError)` around a block
    # would not match. So the nursery ends normally, and the exception is raised behind it. An exception of a
    # background task still comes in a group.
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
