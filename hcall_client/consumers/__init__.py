"""Old name of `hcall_client.guests`; stays for one release."""

import warnings

from hcall_client.guests.boot_loader import BootLoader
from hcall_client.guests.common import Caller, Stage
from hcall_client.guests.firmware import PartitionFirmware
from hcall_client.guests.kernel import KexecHandover, LinuxKernel

__all__ = ["BootLoader", "Caller", "KexecHandover", "LinuxKernel", "PartitionFirmware", "Stage"]

warnings.warn("hcall_client.consumers has moved to hcall_client.guests", DeprecationWarning, stacklevel=2)
