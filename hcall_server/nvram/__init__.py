"""NVRAM: the place of the sealed records (spec/sealed.md#nvram).

`Nvram` is the interface; `SqliteNvram` is the default, `MemoryNvram` and `FaultyNvram` are its
simulated twins.  The records are sealed already: NVRAM has names and bytes, never a key.

Import the back ends from their own modules: a simulation then does not load SQLite.
"""

from hcall_server.nvram.names import (
    COMMIT,
    SYSTEM,
    TRUSTED_KEY,
    parse_partition,
    partition_name,
    wrapped_name,
)
from hcall_server.nvram.seam import Mark, Nvram, NvramError, NvramInUseError, Trouble

__all__ = [
    "COMMIT",
    "SYSTEM",
    "TRUSTED_KEY",
    "Mark",
    "Nvram",
    "NvramError",
    "NvramInUseError",
    "Trouble",
    "parse_partition",
    "partition_name",
    "wrapped_name",
]
