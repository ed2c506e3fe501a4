"""The wait for the flushes of a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hcall_server.nvram.seam import Ownership
    from hcall_server.writeback.encryptor import Encryptor


async def drain(encryptor: Encryptor, owner: Ownership | None = None) -> None:
    """Return when all changes made until now are durable, or can't become durable: the ownership is over.

    The caller bounds the time.  Sessions may go on.  A wait until no change is left could be endless: a busy
    guest always makes new ones.
    """
    while owner is None or not owner.over:
        if await encryptor.flush():
            return
        await trio.sleep(0.05)
