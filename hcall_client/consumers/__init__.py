"""Old name of `hcall_client.guests`; stays for one release."""

from hcall_client._moved import moved

_MODULES = ("boot_loader", "common", "firmware", "kernel")

boot_loader, common, firmware, kernel = moved(
    "hcall_client.consumers",
    "hcall_client.guests",
    {f"hcall_client.consumers.{name}": f"hcall_client.guests.{name}" for name in _MODULES},
)

BootLoader = boot_loader.BootLoader
Caller, Stage = common.Caller, common.Stage
PartitionFirmware = firmware.PartitionFirmware
KexecHandover, LinuxKernel = kernel.KexecHandover, kernel.LinuxKernel
