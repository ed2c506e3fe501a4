"""The errors of `swpks qemu` about the kernel, QEMU and the partition, each with its rule."""

from __future__ import annotations

from pathlib import Path

from hcall_abi.errors import OperatorError, PeerError
from hcall_abi.rules import service as rules
from hcall_abi.rules.rule import Rule


class KernelUnsuitable(OperatorError):
    """The kernel can't be served: it has no symbols, has no keystore driver, or is not for ppc64le."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.KERNEL_IMAGE, message)


class LoaderUnsuitable(OperatorError):
    """The disk has no boot loader that QEMU's firmware could start."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.LOADER_IMAGE, message)


class OtherKernel(OperatorError):
    """The boot loader has started another kernel than that of the command line."""

    def __init__(self, kernel: Path) -> None:
        super().__init__(
            rules.KERNEL_BOOTED,
            f"the disk's kernel is another one than {kernel}: give --kernel the file that is on the disk, "
            "before it was signed or after",
        )


class FirmwareUnsuitable(OperatorError):
    """The firmware of this QEMU does not accept the keystore's client services."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.FIRMWARE_SERVICES, f"the firmware of this QEMU cannot be used: {message}")


class MachineFailed(OperatorError):
    """QEMU or a file is missing, or QEMU has ended with an error."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.MACHINE_RUNS, message)


class StubError(PeerError):
    """QEMU's gdb stub is gone, answers with an error, or breaks its protocol."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.STUB_ANSWERS, message)


class TreeUnsuitable(PeerError):
    """The guest's flattened device tree is damaged, or has no room for another property."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.TREE_SOUND, message)


class GuestStopped(PeerError):
    """The guest stopped at an address without a breakpoint, and cannot go on."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.GUEST_STOPS, message)


class PartitionUnusable(OperatorError):
    """The partition has another size, was refused, or its control channel is not served."""

    def __init__(self, message: str, rule: Rule = rules.PARTITION_SERVED) -> None:
        super().__init__(rule, message)
