"""A guest for the real QEMU that needs no download: a few instructions with the driver's function names.

QEMU's firmware (VOF) starts it at 0x400000, in big-endian mode. It switches to 64 bits and little-endian, and
calls `early_setup` with its own device tree. Then it makes one h-call like the keystore driver, and ends
as requested. Linux ends by the same RTAS calls: `panic` makes ibm,os-term, `poweroff` makes power-off.
"""

import struct
from enum import IntEnum
from pathlib import Path

from hcall_abi.calls import Opcode
from tests.qemu.assemble import BASE, BLR, NOP, Kernel, elf, li, with_gates
from tests.qemu.tree import MACHINE, flatten

LOAD = 0x400000
"""The address of the first byte of a kernel in QEMU."""
TREE, ARGUMENTS, BUFFER = 0x2000, 0x3000, 0x4000
"""Places behind LOAD: the device tree, the arguments of RTAS, the buffer of GET_CONFIG."""
H_RTAS = 0xF000
ITSELF = 0x48000000
"""A branch to itself."""
SWITCH = 64
"""Bytes of the code that switches the processor over."""


class Token(IntEnum):
    """RTAS functions, with the numbers of QEMU's device tree.

    SPIN is no RTAS function: with it, the guest runs forever.
    """

    SPIN = 0
    POWER_OFF = 0x2003
    OS_TERM = 0x201F


_GIVEN = {Token.SPIN: 0, Token.POWER_OFF: 2, Token.OS_TERM: 1}
"""Number of arguments of a function; all arguments are 0 here."""


def write(path: Path, token: Token) -> Path:
    """Write the guest's kernel, which ends by the RTAS function `token`."""
    kernel = _Bare()
    with_gates(kernel)
    kernel.function("early_setup", NOP, BLR)
    ending = [*_load(4, LOAD + ARGUMENTS), *_load(3, H_RTAS), 0x44000022] if token else []
    kernel.function(
        "plpks_driver",
        *_load(3, Opcode.GET_CONFIG), *_load(4, LOAD + BUFFER), li(5, 512), ("plpar_hcall", True), NOP,
        *ending, ITSELF,
    )  # fmt: skip
    kernel.function("start", *_load(3, LOAD + TREE), ("early_setup", True), ("plpks_driver", False))
    image = kernel.image(token)
    path.write_bytes(_with_segment(elf(image, kernel.symbols, base=kernel.base), len(image)))
    return path


class _Bare(Kernel):
    """A kernel whose first words switch the processor to 64 bits and little-endian."""

    def __init__(self) -> None:
        super().__init__(BASE + LOAD)
        self.words = [NOP] * (SWITCH // 4)

    def image(self, token: Token) -> bytes:
        code = bytearray(self.code().ljust(BUFFER + 512, b"\0"))
        code[:SWITCH] = _switch(self.symbols["start"][0])
        tree = flatten(MACHINE, padding=256)
        code[TREE : TREE + len(tree)] = tree
        code[ARGUMENTS : ARGUMENTS + 12] = struct.pack(">III", token, _GIVEN[token], 1)
        return bytes(code)


def _load(register: int, value: int) -> list[int]:
    """Return code that loads a number of 32 bits, the highest of them 0: lis and ori."""
    upper = 15 << 26 | register << 21 | value >> 16
    return [upper, 24 << 26 | register << 21 | register << 16 | value & 0xFFFF]


def _switch(start: int) -> bytes:
    """Return big-endian code that continues at `start` with 64 bits and little-endian.

    It uses an rfid whose MSR has SF and LE. Translation stays off, so the processor ignores the highest four
    bits of `start`.
    """
    words = [
        li(9, 1), _shifted(9, 63), 0x61290001,  # ori r9, r9, 1
        0x7D3B03A6,  # mtsrr1 r9
        li(11, start >> 60), _shifted(11, 60),
        *_load(10, start & 0x7FFFFFFF), 0x7D4A5B78,  # or r10, r10, r11
        0x7D5A03A6,  # mtsrr0 r10
        0x4C000024,  # rfid
    ]  # fmt: skip
    return b"".join(struct.pack(">I", word) for word in words).ljust(SWITCH, b"\0")


def _shifted(register: int, by: int) -> int:
    """Return code that shifts a register left (rldicr)."""
    end = 63 - by
    masked = (end & 31) << 6 | (end >> 5) << 5
    return 30 << 26 | register << 21 | register << 16 | (by & 31) << 11 | masked | 4 | (by >> 5) << 1


def _with_segment(file: bytes, length: int) -> bytes:
    """Append the program header, from which QEMU learns where to load the code."""
    segment = struct.pack("<IIQQQQQQ", 1, 7, 64, BASE + LOAD, 0, length, length, 1 << 16)
    changed = bytearray(file + segment)
    struct.pack_into("<Q", changed, 32, len(file))
    struct.pack_into("<H", changed, 56, 1)
    return bytes(changed)
