"""Partitions for tests: one inside the process over memory streams, one served by a real process.

The pytest plugin makes fixtures of them; other test frameworks use them as they are.
"""

from hcall_client.testing.partition import EmulatedPartition, emulated_partition
from hcall_client.testing.process import ServerFailed, ServerProcess

__all__ = ["EmulatedPartition", "ServerFailed", "ServerProcess", "emulated_partition"]
