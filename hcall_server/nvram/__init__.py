"""NVRAM: the place of the sealed records (spec/sealed.md#nvram).

`Nvram` is the interface, and `SqliteNvram` the usual back end.  Tests and simulations use `MemoryNvram` and
`FaultyNvram`.  NVRAM has names and sealed bytes, and never a key.

The caller imports each back end from its own module.  So a simulation does not load SQLite.
"""

from hcall_server.nvram.names import (
    COMMIT,
    SYSTEM,
    TRUSTED_KEY,
    parse_partition,
    partition_name,
    wrapped_name,
)
from hcall_server.nvram.seam import CommitLimits, Mark, Nvram, NvramError, NvramInUseError, Trouble

__all__ = [
    "COMMIT",
    "SYSTEM",
    "TRUSTED_KEY",
    "CommitLimits",
    "Mark",
    "Nvram",
    "NvramError",
    "NvramInUseError",
    "Trouble",
    "parse_partition",
    "partition_name",
    "wrapped_name",
]
