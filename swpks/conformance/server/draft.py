"""An h-call before the judge sends it, right or wrong: registers and guest memory by argument name."""

from __future__ import annotations

import struct
from typing import Self

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, HCallSpec, Opcode
from hcall_abi.frames import HCall, Segment
from hcall_abi.statuses import REGISTERS

PAGE = 4096
_HEAD, _ENTRY = 88, 16
"""Bytes of an HCALL before its segment table, and of one entry of the table."""
NOWHERE = 0xDEAD_0000_0000
"""An address in no segment of any call."""


def auth_block(consumer: int, password: bytes = b"", *, version: int = 1, length: int | None = None) -> bytes:
    """Return an authorization block; `length` replaces the right length of the password."""
    # `hcall_abi.structures.build_auth` makes only right blocks, so the block is packed here.
    return struct.pack(">BB12xH", version, consumer, len(password) if length is None else length) + password


class Draft:
    """A call that is not sent yet: change `registers` and `memory` to make it wrong.

    Each argument has its own address, a multiple of 1 MiB, so that no two buffers touch.
    """

    def __init__(self, opcode: Opcode) -> None:
        self.spec: HCallSpec = CALLS[opcode]
        self.registers = {arg.name: 0 for arg in self.spec.args}
        self.memory: dict[str, Segment] = {}
        self.unused = 0
        """The value of the registers for which the call has no argument."""

    @classmethod
    def of(cls, opcode: Opcode, **values: int | bytes) -> Self:
        """Return a call with these arguments.

        For a buffer that the call reads, the value is its bytes.  For a buffer that the call writes, the
        value is its length.  Any other value is a number.
        """
        draft = cls(opcode)
        for name, value in values.items():
            draft.put(name, value)
        return draft

    def put(self, name: str, value: int | bytes, offset: int = 0) -> None:
        """Set one argument; a buffer begins `offset` bytes after the argument's address."""
        arg = self.spec.arg(name)
        # The buffers are far apart.  If a server confuses two registers, it finds no memory at the wrong
        # address.
        address = (arg.register << 20) + offset
        if isinstance(value, bytes):
            self._place(arg, Segment.read(address, value))
        elif arg.kind.writable and value:
            self._place(arg, Segment.written(address, value))
        else:
            self.registers[name] = value

    def _place(self, arg: Arg, segment: Segment) -> None:
        self.memory[arg.name] = segment
        self.registers[arg.name] = segment.address
        if arg.length is not None:
            self.registers[arg.length] = segment.length

    @property
    def body_size(self) -> int:
        """The bytes in the body of the call's frame."""
        pieces = [segment for segment in self.memory.values() if segment.length]
        return _HEAD + _ENTRY * len(pieces) + sum(len(segment.data) for segment in pieces)

    def go_on(self, registers: tuple[int, ...]) -> None:
        """Copy the continue token of a busy answer into the call; a call without a token stays as it is."""
        for arg in self.spec.args:
            if arg.kind is Kind.CONTINUE_TOKEN:
                self.registers[arg.name] = self.spec.output("token").of(registers)

    def output(self) -> int | None:
        """Return the address of the buffer that the call writes, None if it writes no buffer."""
        written = [arg for arg in self.spec.args if arg.kind.writable]
        return self.registers[written[0].name] if written else None

    def frame(self, tag: int) -> HCall:
        """Return the frame of the call."""
        values = (*self.registers.values(), *[self.unused] * REGISTERS)[:REGISTERS]
        segments = tuple(segment for segment in self.memory.values() if segment.length)
        return HCall(tag, int(self.spec.opcode), values, segments)

    def __str__(self) -> str:
        shown = ", ".join(f"{arg.name} {self._shown(arg)}" for arg in self.spec.args)
        return f"{self.spec.opcode.name}({shown})"

    def _shown(self, arg: Arg) -> str:
        """Return an argument's register as text: a number or an address.

        The text has no bytes of a buffer, because a buffer may have a password.
        """
        value = self.registers[arg.name]
        if arg.kind is Kind.LENGTH or (value < PAGE and arg.kind.is_number):
            return str(value)
        return f"0x{value:X}"
