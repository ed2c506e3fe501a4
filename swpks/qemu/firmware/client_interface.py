"""A call of the firmware's client interface from outside (IEEE 1275, section 6.3).

The guest has stopped at the first instruction of its boot loader, whose r5 is the address of the interface.
A call gives the firmware a block of 32-bit cells: name, number of arguments, number of results, arguments,
results.  Small blocks go below the loader's stack pointer.  Longer texts get memory from the firmware's own
service `claim`.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Sequence

from swpks.qemu.errors import FirmwareUnsuitable
from swpks.qemu.stub import Ended, Stop, Stub

CELL = 4
CELL_MASK = 0xFFFFFFFF
STACK_ROOM = 0x400
"""Bytes below the stack pointer that a call may use: the block, and a frame for the firmware."""
FRAME = 0x100
PAGE = 0x1000

_SAVED = (*(f"r{number}" for number in range(32)), "lr", "pc", "ctr", "cr", "xer")
"""Registers that the firmware may change.  The loader expects no call here, so all are restored."""


def status_of(cell: int) -> int:
    """Return the signed number that a cell of 32 bits holds, such as the status of an h-call."""
    return (cell + (1 << 31)) % (1 << 32) - (1 << 31)


Handle = Callable[[Stop], Awaitable[None]]
"""The action at a stop of the guest during a call."""


class CallCut(Exception):
    """A call from outside does not return: the machine was reset (`stop`) or has ended."""

    def __init__(self, stop: Stop | Ended) -> None:
        super().__init__("the machine was reset or has ended in the middle of a call from outside")
        self.stop = stop


class ClientInterface:
    """The client interface at address `entry`; usable while the guest stands at its loader's entry.

    `handle` is called for each stop of the guest during a call.  Every method raises CallCut if the call
    does not return, and FirmwareUnsuitable if the firmware reports a failure.
    """

    def __init__(self, stub: Stub, stop: Stop, entry: int, handle: Handle) -> None:
        self._stub = stub
        self._thread = stop.thread
        self._entry = entry
        self._handle = handle

    async def interpret(self, script: str) -> int:
        """Have Forth text run; return the one number that it leaves on the stack, as a cell."""
        text = " ".join(script.split()).encode() + b"\0"
        size = (len(text) + PAGE - 1) & -PAGE
        (at,) = await self._call("claim", [0, size, PAGE], 1)
        if at == CELL_MASK:
            raise FirmwareUnsuitable(f"it has no {size} bytes of memory for the keystore's words")
        await self._stub.write_memory(at, text)
        number, caught = await self._call("interpret", [at], 2)
        await self._call("release", [at, size], 0)
        if caught:
            raise FirmwareUnsuitable(f"its Forth refuses the keystore's words with 0x{caught:X}")
        return number

    async def set_property(self, name: str, value: bytes) -> None:
        """Set a property of the device tree's root."""
        (root,) = await self._call("finddevice", [b"/\0"], 1)
        (size,) = await self._call("setprop", [root, name.encode() + b"\0", value, len(value)], 1)
        if size != len(value):
            raise FirmwareUnsuitable(f"it does not set the property {name} of the device tree's root")

    async def _call(self, name: str, arguments: Sequence[int | bytes], results: int) -> list[int]:
        """Call a service; arguments that are bytes are replaced by their address."""
        stub = self._stub
        await stub.select(self._thread)
        saved = dict(zip(_SAVED, await stub.read(*_SAVED), strict=True))
        at = (saved["r1"] & CELL_MASK) - STACK_ROOM & -16
        block = _block(at, name.encode() + b"\0", arguments, results)
        if len(block) > STACK_ROOM // 2:
            raise ValueError(f"{len(block)} bytes of arguments do not fit below the stack")
        before = await stub.read_memory(at, len(block))
        await stub.write_memory(at, block)
        await stub.write({"r3": at, "lr": saved["pc"], "pc": self._entry, "r1": at - FRAME})
        await self._until(saved["pc"], at - FRAME)
        (failed,) = await stub.read("r3")
        place = at + CELL * (3 + len(arguments))
        cells = struct.unpack(f">{results}I", await stub.read_memory(place, CELL * results))
        await stub.write_memory(at, before)
        await stub.write(saved)
        if failed & CELL_MASK:
            raise FirmwareUnsuitable(f"it has no client service {name}, or the service failed")
        return list(cells)

    async def _until(self, address: int, stack: int) -> None:
        """Serve the guest until the call returns to an address."""
        while True:
            stop = await self._stub.resume()
            if isinstance(stop, Ended):
                raise CallCut(stop)
            await self._stub.select(stop.thread)
            if stop.thread == self._thread and await self._stub.read("pc", "r1") == [address, stack]:
                return
            await self._handle(stop)


def _block(at: int, name: bytes, arguments: Sequence[int | bytes], results: int) -> bytes:
    """Return the bytes of a call's argument block, to be written at `at`: first the cells, then all texts."""
    texts = b""
    end = at + CELL * (3 + len(arguments) + results)

    def place(text: bytes) -> int:
        nonlocal texts
        address = end + len(texts)
        texts += text + bytes(-len(text) % CELL)
        return address

    name_at = place(name)
    cells = [place(each) if isinstance(each, bytes) else each for each in arguments]
    head = (name_at, len(cells), results, *cells, *([0] * results))
    return struct.pack(f">{len(head)}I", *head) + texts
