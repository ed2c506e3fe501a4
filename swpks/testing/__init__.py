"""Partitions and consoles for tests: inside the process over memory streams, or real processes.

The pytest plugin has a fixture for each of them.  Other test frameworks use them directly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swpks._lazy import lazily

if TYPE_CHECKING:
    from swpks.testing.blocking import BlockingPartition, blocking_partition
    from swpks.testing.console import EmulatedConsole, emulated_console
    from swpks.testing.console_caller import LineAnswer
    from swpks.testing.console_mistakes import JobFailed
    from swpks.testing.console_process import ConsoleProcess
    from swpks.testing.options import WrongOption, fresh_partition
    from swpks.testing.partition import EmulatedPartition, emulated_partition
    from swpks.testing.process import ServerFailed, ServerProcess
    from swpks.testing.seams import simulated_seams
    from swpks.testing.short_paths import short_path
    from swpks.testing.system import EmulatedSystem
else:
    # pytest loads this package with its plugin in every project.  Few tests use a partition, so each name is
    # loaded at its first use.
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "swpks.testing.blocking": "BlockingPartition blocking_partition",
            "swpks.testing.console": "EmulatedConsole emulated_console",
            "swpks.testing.console_caller": "LineAnswer",
            "swpks.testing.console_mistakes": "JobFailed",
            "swpks.testing.console_process": "ConsoleProcess",
            "swpks.testing.options": "WrongOption fresh_partition",
            "swpks.testing.partition": "EmulatedPartition emulated_partition",
            "swpks.testing.process": "ServerFailed ServerProcess",
            "swpks.testing.seams": "simulated_seams",
            "swpks.testing.short_paths": "short_path",
            "swpks.testing.system": "EmulatedSystem",
        },
    )

__all__ = [
    "BlockingPartition",
    "ConsoleProcess",
    "EmulatedConsole",
    "EmulatedPartition",
    "EmulatedSystem",
    "JobFailed",
    "LineAnswer",
    "ServerFailed",
    "ServerProcess",
    "WrongOption",
    "blocking_partition",
    "emulated_console",
    "emulated_partition",
    "fresh_partition",
    "short_path",
    "simulated_seams",
]
