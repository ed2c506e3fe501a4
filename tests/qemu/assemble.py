"""Very small kernels for tests: instructions as numbers, written as an ELF file by hand."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

BASE = 0xC000_0000_0000_0000
NOP, BLR, SC1, TO_VIRTUAL = 0x60000000, 0x4E800020, 0x44000022, 0x4C000024
POWER_OFF, RESET, IDLE, PANIC, SPIN = 0, 1, 2, 3, 4
"""Words that no processor knows.

The fake machine takes them for the end, a reset, a processor at rest, a panic that ends the machine, and a
guest that runs for ever.
"""
FUNCTION, LABEL = 2, 0
LOCAL_ENTRY_8 = 3 << 5


def li(register: int, value: int) -> int:
    """Return the instruction that loads a small number into a register."""
    return 14 << 26 | register << 21 | (value & 0xFFFF)


def branch(here: int, there: int, *, link: bool) -> int:
    """Return the instruction that branches from one address to another."""
    return 18 << 26 | ((there - here) & 0x03FFFFFC) | link


class Kernel:
    """Code under construction. A word is an instruction, or (name, link) for a branch to a function."""

    def __init__(self, base: int = BASE) -> None:
        self.base = base
        self.words: list[int | tuple[str, bool]] = []
        self.symbols: dict[str, tuple[int, int, int, int]] = {}

    def function(
        self,
        name: str,
        *words: int | tuple[str, bool],
        local: bool = False,
        sized: bool = True,
        kind: int = FUNCTION,
    ) -> int:
        """Add a function and return its address."""
        address = self.base + 4 * len(self.words)
        size = 4 * len(words) if sized else 0
        self.symbols[name] = (address, size, kind, LOCAL_ENTRY_8 if local else 0)
        self.words += words
        return address

    def target(self, name: str) -> int:
        address, _, _, other = self.symbols[name]
        return address + (8 if other else 0)

    def code(self) -> bytes:
        """Return all of the code, little-endian."""
        out = b""
        for place, word in enumerate(self.words):
            here = self.base + 4 * place
            number = word if isinstance(word, int) else branch(here, self.target(word[0]), link=word[1])
            out += struct.pack("<I", number)
        return out

    def write(self, path: Path, **changes: int) -> Path:
        """Write the ELF file."""
        path.write_bytes(elf(self.code(), self.symbols, **changes))
        return path


def elf(
    code: bytes,
    symbols: Mapping[str, tuple[int, int, int, int]],
    *,
    machine: int = 21,
    data: int = 1,
    stripped: int = 0,
    base: int = BASE,
) -> bytes:
    """Return an ELF file (64 bits, little-endian) with one section of code and its symbols."""
    names, table = b"\0", bytes(24)
    for name, (address, size, kind, other) in symbols.items():
        table += struct.pack("<IBBHQQ", len(names), 1 << 4 | kind, other, 1, address, size)
        names += name.encode() + b"\0"
    titles = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"
    offsets = _offsets(64, code, table, names, titles)
    sections = [
        _section(1, 1, 6, base, offsets[0], len(code), 0, 0),
        _section(7, 2, 0, 0, offsets[1], len(table), 3, 24),
        _section(15, 3, 0, 0, offsets[2], len(names), 0, 0),
        _section(23, 3, 0, 0, offsets[3], len(titles), 0, 0),
    ]
    if stripped:
        sections[1] = _section(7, 1, 0, 0, offsets[1], 0, 0, 0).replace(b"\x07", b"\x01", 1)
    ident = b"\x7fELF" + bytes([2, data, 1]) + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, BASE, 0, offsets[4], 2, 64, 56, 0, 64, 5, 4)
    return ident + head + code + table + names + titles + bytes(64) + b"".join(sections)


def _offsets(start: int, *parts: bytes) -> Sequence[int]:
    found = [start]
    for part in parts:
        found.append(found[-1] + len(part))
    return found


def _section(
    name: int, kind: int, flags: int, address: int, offset: int, size: int, link: int, entry: int
) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, link, 0, 4, entry)


def with_gates(kernel: Kernel) -> Kernel:
    """Add the two functions by which Linux makes h-calls.

    As in Linux, these functions have no size. Inside each of them is a label with the name of the variant
    that is traced.
    """
    for gate in ("plpar_hcall", "plpar_hcall9"):
        kernel.function(gate, NOP, NOP, NOP, SC1, BLR, local=True, sized=False)
        kernel.function(f"{gate}_trace", NOP, SC1, BLR, sized=False, kind=LABEL)
        kernel.function(f"{gate}_raw", NOP, SC1, BLR, sized=False)
    return kernel
