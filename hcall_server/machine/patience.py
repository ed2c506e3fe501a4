"""How long a verb of the console waits for NVRAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hcall_abi.errors import StorageError
from hcall_abi.rules import backup as rules
from hcall_abi.rules.rule import Rule

if TYPE_CHECKING:
    from hcall_server.writeback.encryptor import Encryptor

PATIENCE = 5.0
"""Seconds that a verb waits for NVRAM: more than a slow disk needs, less than a console's timeout."""


async def flushed(encryptor: Encryptor, what: str, rule: Rule = rules.BACKUP_STORED) -> None:
    """Wait until all changes are durable.  StorageError by `rule` if NVRAM does not store them in time.

    After a StorageError, the encryptor still tries to store the changes.  `what` names the change in the
    message.
    """
    with trio.move_on_after(PATIENCE):
        if await encryptor.flush():
            return
    reason = encryptor.health.last_error or f"no answer within {PATIENCE:g} seconds"
    message = f"NVRAM has not stored {what} yet ({reason}): it is retried, so wait for health"
    raise StorageError(rule, message)
