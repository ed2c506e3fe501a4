"""Background tasks that run while a `with` block of a test runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def tasks_around() -> AsyncIterator[trio.Nursery]:
    """Yield a nursery for the length of a block; cancel its tasks when the block ends.

    An exception of the block is raised as it is, and not in a group.
    """
    # A nursery puts each exception of its body into a group. Then `pytest.raises(HcallError)` around a block
    # would not match. So the nursery ends without an exception, and this function raises it afterwards. An
    # exception of a background task still comes in a group.
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
