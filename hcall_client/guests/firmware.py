"""Partition firmware: consumer 1, the first to run after an IPL."""

from __future__ import annotations

from hcall_abi.consumers import Consumer
from hcall_abi.mistakes import of_caller
from hcall_abi.policies import Policy
from hcall_client.guests.common import Stage
from hcall_client.guests.labels import SB_VERSION

__tracebackhide__ = of_caller
DYNAMIC_KEYS = b"\x01"
"""Content of SB_VERSION where secure boot takes its keys from the keystore."""


class PartitionFirmware(Stage):
    """Partition firmware with its own password; see `Stage`."""

    consumer = Consumer.FIRMWARE

    async def store_sb_version(self, version: bytes = DYNAMIC_KEYS) -> bool:
        """Make sure that SB_VERSION says that keys are dynamic; return whether it had to be written.

        Boot loader and kernel read it without a password.
        """
        return await self.provide(SB_VERSION, version, Policy.WORLDREADABLE)
