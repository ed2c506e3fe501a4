"""A gdb stub over a stream: registers, memory, breakpoints, step and continue.

One task uses it.  The guest must be stopped when a method is called.  It is stopped between `start` and the
first `resume`, and from each stop to the next `resume`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Literal, NamedTuple

import trio

from swpks.qemu import rsp
from swpks.qemu.errors import StubError
from swpks.qemu.registers import GuestRegister, included, is_little_endian, register_map
from swpks.qemu.rsp import Sign

RECEIVE_SIZE = 64 * 1024
RESENDS = 3
"""Tries to send a packet that the other end reports as damaged."""
INSTRUCTION = 4
"""The kind of a breakpoint in Z packets: the size of the instruction in bytes."""
DEFAULT_PACKET = 1024
"""Bytes of a packet that every stub accepts."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Stop(NamedTuple):
    """A stop of the guest: the thread that has stopped, and the signal.

    A thread of the stub is a processor of the guest.
    """

    thread: bytes
    signal: int


class Ended(NamedTuple):
    """The machine has ended; `status` is its exit status, None if the stub reported none."""

    status: int | None


class Stub:
    """QEMU's gdb stub.  Every method raises StubError if the stub refuses a request or is gone."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._decoder = rsp.Decoder()
        self._events: deque[rsp.Event] = deque()
        self._acknowledge = True
        self._chunk = DEFAULT_PACKET // 4
        self._registers: Mapping[str, GuestRegister] = {}
        self._thread = b""

    async def start(self) -> None:
        """Agree on the protocol, and read the list of registers.

        From here on, addresses of memory are real addresses.
        """
        features = await self.ask(b"qSupported:multiprocess+;vContSupported+;xmlRegisters=powerpc")
        offered = features.split(b";")
        size = next((each[11:] for each in offered if each.startswith(b"PacketSize=")), b"400")
        # A packet has a command, and two hexadecimal digits for each byte of memory.  Half of the packet size
        # leaves no room for the command, so a chunk is a quarter.
        self._chunk = max(int(size, 16) // 4, 1)
        # A socket pair loses no bytes, so acknowledgements would only double the number of packets.
        if b"QStartNoAckMode+" in offered:
            await self._demand(b"QStartNoAckMode")
            self._acknowledge = False
        # Buffers of h-calls are real addresses. Without this mode, the stub would translate them with the
        # page table of the processor that stopped.
        await self._demand(b"Qqemu.PhyMemMode:1")
        target = await self._document("target.xml")
        files = [await self._document(name) for name in included(target)]
        self._registers = register_map(files or [target])
        if not {"pc", "lr", "msr", "r3"} <= self._registers.keys():
            raise StubError("the stub's machine is no PowerPC: pc, lr, msr and r3 are not all there")

    async def stopped(self) -> Stop:
        """Return the stop in which the guest is now; StubError if the machine has ended."""
        reply = _stop_reply(await self.ask(b"?"))
        if isinstance(reply, Ended):
            raise StubError("the machine has ended")
        self._thread = b""
        return reply

    async def resume(self) -> Stop | Ended:
        """Let all processors of the guest run until one stops; Ended if the machine is gone."""
        return await self._run(b"vCont;c")

    async def step(self, thread: bytes) -> Stop | Ended:
        """Run one instruction of one thread; a breakpoint on that instruction is ignored."""
        return await self._run(b"vCont;s:" + thread)

    async def select(self, thread: bytes) -> None:
        """Choose the thread whose registers `read` and `write` use."""
        if thread and thread != self._thread:
            await self._demand(b"Hg" + thread)
            self._thread = thread

    async def read(self, *names: str) -> list[int]:
        """Return registers of the chosen thread as unsigned numbers."""
        order = await self._byte_order()
        return [int.from_bytes(await self._raw(name), order) for name in names]

    async def write(self, values: Mapping[str, int]) -> None:
        """Set registers of the chosen thread, given as unsigned numbers."""
        order = await self._byte_order()
        for name, value in values.items():
            register = self._registers[name]
            raw = value.to_bytes(register.size, order)
            await self._demand(b"P%x=%s" % (register.number, raw.hex().encode()))

    async def read_memory(self, address: int, length: int) -> bytes:
        """Return bytes of the guest's real memory."""
        out = bytearray()
        while len(out) < length:
            count = min(self._chunk, length - len(out))
            piece = _unhex(await self.ask(b"m%x,%x" % (address + len(out), count)))
            if len(piece) != count:
                raise StubError(f"memory at 0x{address + len(out):X} cannot be read: {len(piece)} bytes came")
            out += piece
        return bytes(out)

    async def write_memory(self, address: int, data: bytes) -> None:
        """Change bytes of the guest's real memory."""
        for at in range(0, len(data), self._chunk):
            piece = data[at : at + self._chunk]
            await self._demand(b"M%x,%x:%s" % (address + at, len(piece), piece.hex().encode()))

    async def set_breakpoint(self, address: int) -> None:
        """Stop the guest before the instruction at a virtual address.

        A breakpoint that was set twice has to be cleared twice.
        """
        await self._demand(b"Z0,%x,%x" % (address, INSTRUCTION))

    async def clear_breakpoint(self, address: int) -> None:
        """Undo one `set_breakpoint`."""
        await self._demand(b"z0,%x,%x" % (address, INSTRUCTION))

    async def ask(self, request: bytes) -> bytes:
        """Send a packet and return the answer; StubError if the answer is an error (E and two digits)."""
        await self._send(request)
        answer = await self._receive(request)
        if len(answer) == 3 and answer[:1] == b"E" and answer[1:].isalnum():
            raise StubError(f"the stub refuses {_shown(request)} with {_shown(answer)}")
        return answer

    async def _demand(self, request: bytes) -> None:
        answer = await self.ask(request)
        if answer != b"OK":
            raise StubError(f"the stub answers {_shown(request)} with {_shown(answer)}, not OK")

    async def _run(self, request: bytes) -> Stop | Ended:
        # When a thread stops, the stub selects it, so an earlier choice is void.
        self._thread = b""
        try:
            await self._send(request)
            return _stop_reply(await self._receive(None))
        except StubGone:
            return Ended(None)

    async def _document(self, name: str) -> bytes:
        """Return a file of the stub, read piece by piece."""
        document = b""
        while True:
            at = b"%x,%x" % (len(document), self._chunk)
            answer = await self.ask(b"qXfer:features:read:" + name.encode() + b":" + at)
            document += answer[1:]
            if answer[:1] != b"m":
                break
        if answer[:1] != b"l":
            raise StubError(f"the stub has no {name}")
        return document

    async def _raw(self, name: str) -> bytes:
        register = self._registers[name]
        raw = _unhex(await self.ask(b"p%x" % register.number))
        if len(raw) != register.size:
            raise StubError(f"register {name} has {len(raw)} bytes, not {register.size}")
        return raw

    async def _byte_order(self) -> Literal["little", "big"]:
        """Return the present byte order of registers.

        It is read each time: the kernel starts big-endian in its prom_init, and changes MSR[LE] later.
        """
        return "little" if is_little_endian(await self._raw("msr")) else "big"

    async def _send(self, payload: bytes) -> None:
        packet = rsp.encode(payload)
        await self._write(packet)
        for _ in range(RESENDS if self._acknowledge else 0):
            sign = await self._next()
            if sign is Sign.ACK:
                return
            if sign is not Sign.NACK:
                raise StubError(f"the stub neither takes {_shown(payload)} nor refuses it")
            await self._write(packet)
        if self._acknowledge:
            raise StubError(f"the stub cannot read {_shown(payload)}")

    async def _receive(self, request: bytes | None) -> bytes:
        """Return the payload of the next packet; if a packet is damaged, ask the stub to send it again."""
        while True:
            event = await self._next()
            if isinstance(event, bytes):
                if self._acknowledge:
                    with contextlib.suppress(StubGone):  # a stub that ends needs no acknowledgement
                        await self._write(b"+")
                # While the guest runs, the stub may send text of its monitor (O and hexadecimal digits). Such
                # a packet is no stop reply, so it is skipped.
                if request is None and event[:1] == b"O" and event != b"OK":
                    continue
                return event
            if event is Sign.DAMAGED and self._acknowledge:
                await self._write(b"-")
            elif event is Sign.DAMAGED:
                raise StubError("a packet came damaged over a stream that loses nothing")

    async def _next(self) -> rsp.Event:
        while not self._events:
            try:
                data = await self._stream.receive_some(RECEIVE_SIZE)
            except _BROKEN:
                data = b""
            if not data:
                raise StubGone
            self._decoder.receive(bytes(data))
            self._events.extend(self._decoder.events())
        return self._events.popleft()

    async def _write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except _BROKEN:
            raise StubGone from None


class StubGone(StubError):
    """The stub has closed its end of the stream: QEMU has ended."""

    def __init__(self) -> None:
        super().__init__("the gdb stub is gone: QEMU has ended")


def _stop_reply(reply: bytes) -> Stop | Ended:
    """Return the content of a stop reply: `Txx` with a thread, `Sxx` without, `W` or `X` at the end."""
    try:
        if reply[:1] in (b"W", b"X"):
            return Ended(int(reply[1:3], 16))
        if reply[:1] in (b"T", b"S"):
            pairs = (pair.partition(b":") for pair in reply[3:].split(b";"))
            threads = [value for key, _, value in pairs if key == b"thread"]
            return Stop(threads[0] if threads else b"", int(reply[1:3], 16))
    except ValueError:
        pass
    raise StubError(f"{_shown(reply)} is no stop reply")


def _unhex(answer: bytes) -> bytes:
    try:
        return bytes.fromhex(answer.decode("ascii"))
    except ValueError:
        raise StubError("an answer that should be hexadecimal is not") from None


def _shown(packet: bytes) -> str:
    """Return the start of a packet for a message: its command, no bytes of a buffer."""
    return repr(packet.split(b":")[0].split(b"=")[0][:40].decode("ascii", "replace"))
