"""Partitions for tests: one inside the process over memory streams, one served by a real process.

The pytest plugin makes fixtures of them; other test frameworks use them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swpks._lazy import lazily

if TYPE_CHECKING:
    from swpks.testing.partition import EmulatedPartition, emulated_partition
    from swpks.testing.process import ServerFailed, ServerProcess
    from swpks.testing.seams import simulated_seams
else:
    # pytest loads this package with its plugin, in projects of which few tests use a partition.
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "swpks.testing.partition": "EmulatedPartition emulated_partition",
            "swpks.testing.process": "ServerFailed ServerProcess",
            "swpks.testing.seams": "simulated_seams",
        },
    )

__all__ = ["EmulatedPartition", "ServerFailed", "ServerProcess", "emulated_partition", "simulated_seams"]
