"""The places where a kernel's keystore driver makes its h-calls.

As the rest of the kernel, the driver calls `plpar_hcall` and `plpar_hcall9`, which make the h-call with ``sc
1``.  This module finds both in the code of the kernel.  The driver's functions have "plpks" in their names.
A call is a ``bl`` to an entry of one of the two functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from swpks.qemu.elf import KernelImage, Symbol
from swpks.qemu.errors import KernelUnsuitable

DRIVER = "plpks"
"""Part of the name of each function of the driver."""
GATES = ("plpar_hcall", "plpar_hcall9")
"""The functions that make h-calls."""
TRACED = "_trace"
"""The end of the name of a gate's twin for traced calls, in kernels that have one."""
HYPERVISOR_CALL = 0x44000022
"""The instruction ``sc 1``."""

_BRANCH, _BRANCH_MASK = 0x48000001, 0xFC000003
_OFFSET, _SIGN = 0x03FFFFFC, 0x02000000


class Gate(NamedTuple):
    """A function that makes h-calls: its name, its local entry, and the addresses of its ``sc 1``."""

    name: str
    entry: int
    hypervisor_calls: tuple[int, ...]


class CallSites(NamedTuple):
    """The driver's calls of gates.

    `calls` maps the address of each such call to its gate; `gates` has all gates.
    """

    calls: Mapping[int, Gate]
    gates: tuple[Gate, ...]


def find_callsites(image: KernelImage) -> CallSites:
    """Return the driver's calls of gates; KernelUnsuitable for a kernel without the driver."""
    if not any(image.functions(DRIVER)):
        raise KernelUnsuitable("the kernel has no keystore driver (CONFIG_PSERIES_PLPKS)")
    gates = tuple(_gate(image, name) for name in GATES)
    targets = {address: gate for gate in gates for address in _entries(image, gate.name)}
    calls = {
        address: targets[target]
        for function in image.functions(DRIVER)
        for address, target in calls_of(image, function)
        if target in targets
    }
    if not calls:
        raise KernelUnsuitable("the kernel's keystore driver makes no h-call")
    return CallSites(calls, gates)


def calls_of(image: KernelImage, function: Symbol) -> Iterator[tuple[int, int]]:
    """Yield the address and the target of each ``bl`` in a function."""
    for address, word in _words(image, function):
        # Opcode 18 with LK set and AA clear: the target is relative to the instruction (Power ISA, I-form).
        if word & _BRANCH_MASK == _BRANCH:
            offset = word & _OFFSET
            yield address, address + offset - ((offset & _SIGN) << 1)


def _gate(image: KernelImage, name: str) -> Gate:
    # If tracepoints are on, a gate makes the call in a twin function.  The twin has an `sc 1` of its own.
    bodies = [image.find(name), *filter(None, [image.symbols.get(name + TRACED)])]
    words = (pair for body in bodies for pair in _words(image, body))
    calls = {address for address, word in words if word == HYPERVISOR_CALL}
    if not calls:
        raise KernelUnsuitable(f"{name} has no sc 1")
    return Gate(name, image.find(name).local_entry, tuple(sorted(calls)))


def _entries(image: KernelImage, name: str) -> set[int]:
    """Return both entries of a function: the global one, for callers with another r2, and the local one."""
    symbol = image.find(name)
    return {symbol.address, symbol.local_entry}


def _words(image: KernelImage, function: Symbol) -> Iterator[tuple[int, int]]:
    """Yield the address and the value of each instruction in a function."""
    code = image.code(function)
    for number, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        yield function.address + 4 * number, word
