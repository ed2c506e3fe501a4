"""The boot loader: consumer 2, between partition firmware and operating system."""

from __future__ import annotations

from hcall_abi.consumers import Consumer
from hcall_abi.mistakes import of_caller
from hcall_abi.statuses import Status
from hcall_client.calls import HcallError
from hcall_client.guests.common import Stage
from hcall_client.guests.labels import SB_VERSION

__tracebackhide__ = of_caller
# If SB_VERSION is absent or can't be read, the keys are static, as in Linux (spec/linux.md).
_STATIC = (Status.H_NOT_FOUND, Status.H_AUTHORITY)


class BootLoader(Stage):
    """The boot loader with its own password; see `Stage`."""

    consumer = Consumer.BOOT_LOADER

    async def dynamic_keys(self) -> bool:
        """Return whether firmware's SB_VERSION says that secure-boot keys come from the keystore."""
        try:
            read = await self.read(SB_VERSION, owner=Consumer.FIRMWARE)
        except HcallError as error:
            if error.status in _STATIC:
                return False
            raise
        return any(read.data)
