"""Old name of `swpks.testing`; stays for one release."""

from hcall_client._moved import moved

_MODULES = ("partition", "process")

partition, process = moved(
    "hcall_client.testing",
    "swpks.testing",
    {f"hcall_client.testing.{name}": f"swpks.testing.{name}" for name in _MODULES},
)

EmulatedPartition, emulated_partition = partition.EmulatedPartition, partition.emulated_partition
ServerFailed, ServerProcess = process.ServerFailed, process.ServerProcess
