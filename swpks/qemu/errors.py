"""What goes wrong between a kernel, QEMU and swpks, in the shape of every error of the project."""

from __future__ import annotations

from hcall_abi.errors import OperatorError, PeerError


class KernelUnsuitable(OperatorError):
    """The kernel's image cannot be served: it has no symbols, no keystore driver, or is not for ppc64le."""

    def __init__(self, message: str) -> None:
        rule = "the kernel is an uncompressed ppc64le ELF file with its symbols and CONFIG_PSERIES_PLPKS"
        super().__init__(message, rule=rule, section="spec/qemu.md#the-kernel")


class MachineFailed(OperatorError):
    """QEMU is not installed, or ended otherwise than by the guest's or its user's wish."""

    def __init__(
        self, message: str, rule: str = "qemu-system-ppc64 runs with the options it was given"
    ) -> None:
        super().__init__(message, rule=rule, section="spec/qemu.md#the-machine")


class StubError(PeerError):
    """QEMU's gdb stub is gone, answers with an error, or not at all as the protocol says."""

    def __init__(self, message: str) -> None:
        rule = "the gdb stub answers every request as the remote serial protocol says"
        super().__init__(message, rule=rule, section="spec/qemu.md#the-stub")


class TreeUnsuitable(PeerError):
    """The guest's flattened device tree is damaged, or has no room for what is to be added."""

    def __init__(self, message: str) -> None:
        rule = "the device tree is well formed, lists the h-call functions, and ends in padding"
        super().__init__(message, rule=rule, section="spec/qemu.md#the-device-tree")


class GuestStopped(PeerError):
    """The guest stopped where nobody asked it to, and cannot go on."""

    def __init__(self, message: str) -> None:
        rule = "the guest stops at the bridge's breakpoints alone"
        super().__init__(message, rule=rule, section="spec/qemu.md#stops")


class PartitionUnusable(OperatorError):
    """The partition is not as it was asked for, or the control channel refused it or is not served."""

    def __init__(
        self, message: str, rule: str = "the partition exists, and its control channel is served"
    ) -> None:
        super().__init__(message, rule=rule, section="spec/qemu.md#the-partition")
