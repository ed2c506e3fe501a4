"""The three consumers of a partition's keystore, emulated: each owns its password and its objects."""

from hcall_client.consumers.boot_loader import BootLoader
from hcall_client.consumers.common import Caller, Stage
from hcall_client.consumers.firmware import PartitionFirmware
from hcall_client.consumers.kernel import KexecHandover, LinuxKernel

__all__ = ["BootLoader", "Caller", "KexecHandover", "LinuxKernel", "PartitionFirmware", "Stage"]
