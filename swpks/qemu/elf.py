"""A kernel's ELF file: its symbols by name, and the code of its functions.

pyelftools reads headers and sections.  The symbol table is a plain array of 24-byte records, and a kernel has
over 100,000 of them.  So this module reads the table with `struct`, in 0.05 s instead of some seconds.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from swpks.qemu.errors import KernelUnsuitable

_SYMBOL = struct.Struct("<IBBHQQ")
_ALLOCATED_CODE = 0x2 | 0x4
_FUNCTION, _UNTYPED = 2, 0
_UNDEFINED = 0
_SECTION_HEADER = 64
"""Bytes of a section's header."""


class Symbol(NamedTuple):
    """A symbol: its address, its size in bytes (0: unknown), its `st_other`, and whether it is a function.

    Labels of assembly, such as plpar_hcall_trace, are no `function` and have no size.
    """

    name: str
    address: int
    size: int
    other: int
    function: bool

    @property
    def local_entry(self) -> int:
        """The address for calls from the same module, whose r2 is the same.

        In the ELFv2 ABI this entry follows the instructions that set up r2.  The three highest bits of
        `st_other` give the length of these instructions.  A value of 0 or 1 means none.  Any other value n
        means 2 to the power of n bytes.
        """
        power = self.other >> 5
        return self.address + ((1 << power) if power > 1 else 0)


class KernelImage:
    """The symbols of a kernel and its code."""

    def __init__(self, symbols: Mapping[str, Symbol], code: Mapping[int, bytes]) -> None:
        self.symbols = symbols
        self._code = dict(code)
        self._starts = sorted(self._code)
        self._functions = sorted({symbol.address for symbol in symbols.values() if symbol.function})

    def __repr__(self) -> str:
        return f"KernelImage({len(self.symbols)} symbols)"

    def functions(self, part: str) -> Iterator[Symbol]:
        """Yield the functions with `part` in their names."""
        return (symbol for name, symbol in self.symbols.items() if symbol.function and part in name)

    def code(self, symbol: Symbol) -> bytes:
        """Return the instructions from a symbol on; b"" if the symbol lies outside of code.

        If a symbol has no size, as in assembly, its code ends at the next function.
        """
        at = bisect_right(self._starts, symbol.address) - 1
        if at < 0:
            return b""
        start = self._starts[at]
        return self._code[start][symbol.address - start :][: symbol.size or self._room(symbol)]

    def _room(self, symbol: Symbol) -> int:
        after = bisect_right(self._functions, symbol.address)
        return self._functions[after] - symbol.address if after < len(self._functions) else 0

    def find(self, name: str) -> Symbol:
        """Return the symbol with this name; KernelUnsuitable if there is none."""
        try:
            return self.symbols[name]
        except KeyError:
            raise KernelUnsuitable(f"the kernel has no {name}") from None


_ELF = b"\x7fELF"
_GZIP = b"\x1f\x8b"
"""The first bytes of a vmlinuz, as distributions compress it."""


def load(path: Path) -> KernelImage:
    """Return the symbols and the code of a kernel file; KernelUnsuitable if it can't be served."""
    try:
        with open(path, "rb", opener=at_once) as stream:
            return _load(stream)
    except OSError as error:
        raise KernelUnsuitable(f"{path}: {error.strerror or error}") from None
    except KernelUnsuitable as error:
        raise KernelUnsuitable(f"{path}: {error.message}") from None


def at_once(path: str, flags: int) -> int:
    """Open a file, but do not wait for the writer of a pipe; `load` refuses a pipe afterwards."""
    return os.open(path, flags | os.O_NONBLOCK)


def _load(stream: Any) -> KernelImage:
    # Imported here, because only this command needs pyelftools.
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        # Distributions install their kernels as gzip files.  The message `not an ELF file` would not help
        # their users.
        if stream.read(len(_GZIP)) == _GZIP:
            raise KernelUnsuitable("a gzip file: unpack it first, such as zcat FILE > vmlinux")
        # For a pipe, this raises OSError.
        size = stream.seek(0, os.SEEK_END)
        if not size:
            raise KernelUnsuitable("the file is empty: it has 0 bytes")
        stream.seek(0)
        if (first := stream.read(len(_ELF))) != _ELF:
            raise KernelUnsuitable(f"no ELF file: it begins with {first.hex(' ')}, not with {_ELF.hex(' ')}")
        elf = ELFFile(stream)
        if elf.elfclass != 64 or not elf.little_endian or elf["e_machine"] != "EM_PPC64":
            raise KernelUnsuitable("an ELF file, but not for ppc64le")
        return _image(elf, size)
    except OSError as error:
        raise KernelUnsuitable(f"not a file that can be read ({error.strerror or error})") from None
    except (ELFError, struct.error, ValueError, OverflowError, RecursionError):
        # Without the words of the library: they are about its own names of the fields.
        raise KernelUnsuitable("a damaged ELF file: its headers or sections have no sense") from None


def _image(elf: Any, size: int) -> KernelImage:
    """Return symbols and code from an ELF file of `size` bytes."""
    # The user may name any file. A damaged size in a header would make this process allocate gigabytes.
    if elf["e_shentsize"] != _SECTION_HEADER or elf["e_shoff"] + elf.num_sections() * _SECTION_HEADER > size:
        raise KernelUnsuitable("damaged: the section headers do not lie within the file")
    table = elf.get_section_by_name(".symtab")
    if table is None or not table["sh_size"]:
        raise KernelUnsuitable("stripped: it has no symbol table")
    names = _content(elf.get_section(table["sh_link"]), size)
    symbols = {symbol.name: symbol for symbol in _symbols(_content(table, size), names)}
    code = {
        section["sh_addr"]: _content(section, size)
        for section in elf.iter_sections("SHT_PROGBITS")
        if section["sh_flags"] & _ALLOCATED_CODE == _ALLOCATED_CODE
    }
    return KernelImage(symbols, code)


def _content(section: Any, size: int) -> bytes:
    """Return the bytes of a section; KernelUnsuitable if it does not lie within the file."""
    start, length = section["sh_offset"], section["sh_size"]
    if start + length > size:
        raise KernelUnsuitable("damaged: a section does not lie within the file")
    section.stream.seek(start)
    return bytes(section.stream.read(length))


def _symbols(table: bytes, names: bytes) -> Iterator[Symbol]:
    """Yield the defined symbols that may be functions."""
    for name, info, other, section, address, size in _SYMBOL.iter_unpack(table):
        # Symbols without a type count too: labels of assembly, such as plpar_hcall_trace, have none.
        if info & 0xF in (_FUNCTION, _UNTYPED) and section != _UNDEFINED and name:
            text = names[name : names.index(b"\0", name)].decode()
            yield Symbol(text, address, size, other, info & 0xF == _FUNCTION)
