"""The mobility channel: encrypted frames between two systems, over any Trio stream (spec/migration.md).

A frame is a length of two bytes, and as many bytes.  The first frame is the introduction, in the clear.  Two
frames of the handshake follow, and then transport messages of Noise.  The first of these is empty: it proves
that the source has answered this handshake, and is no recording of an earlier one.

A connection that breaks, or ends between two frames, is a `LineLost`.  Everything else that is wrong is
a PeerError with its rule.  After an error the channel is of no use: the caller closes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import trio
from trio.lowlevel import checkpoint

from hcall_abi.bounds import MAX_FINAL
from hcall_abi.errors import PeerError
from hcall_abi.rules import migration as rules
from hcall_server.mobility.messages import (
    INTRODUCTION,
    Attempt,
    Final,
    Message,
    decode,
    encode,
    read_introduction,
)
from hcall_server.mobility.noise import (
    HANDSHAKE_SIZE,
    KEY_SIZE,
    MAX_MESSAGE,
    MAX_TEXT,
    TAG_SIZE,
    Ciphers,
    Handshake,
    NotProven,
)

OPEN_SECONDS = 5.0
"""How long introduction and handshake may take together."""
FRAME_SECONDS = 10.0
"""How long one frame may take, from its first byte to its last."""
FINAL_SECONDS = 30.0
"""How long a partition may take on its way, from its header to the empty message."""

Entropy = Callable[[int], bytes]
_LENGTH = 2


class LineLost(Exception):
    """The other end is gone, or cannot be reached any more; it says nothing about the attempt."""


class LineClosed(LineLost):
    """The other end has closed the connection between two frames."""


class MobilityChannel:
    """An open channel.  Tasks may send at the same time; one task receives."""

    def __init__(self, frames: _Frames, ciphers: Ciphers) -> None:
        self._frames = frames
        self._ciphers = ciphers
        self._sending = trio.Lock()

    def __repr__(self) -> str:
        return "MobilityChannel()"

    async def prove(self) -> None:
        """Send the empty message that ends the handshake."""
        await self._send(b"")

    async def demand_proof(self) -> None:
        """Wait for that message; PeerError for any other one."""
        if await self._receive():
            raise PeerError(rules.MOBILITY_FORM, "the handshake does not end with its proof")

    async def send(self, message: Message) -> None:
        """Send a message."""
        async with self._sending:
            await self._send(encode(message))

    async def send_final(
        self, generation: int, plaintext: bytes, before_end: Callable[[], Awaitable[object]] = checkpoint
    ) -> None:
        """Send a partition: its header, its bytes, and an empty message.  PeerError if it is too large.

        `before_end` is awaited before the empty message: without that, the partition has not arrived.
        """
        if len(plaintext) > MAX_FINAL:
            raise PeerError(rules.MOBILITY_SIZE, f"the partition has {len(plaintext)} bytes")
        async with self._sending:
            await self._send(encode(Final(generation, len(plaintext))))
            for at in range(0, len(plaintext), MAX_TEXT):
                await self._send(plaintext[at : at + MAX_TEXT])
            await before_end()
            await self._send(b"")

    async def receive(self) -> Message:
        """Wait for the next message, without a bound until its first byte comes."""
        return decode(await self._receive())

    async def receive_final(self, final: Final, ahead: Callable[[bytes], None] = lambda _: None) -> bytes:
        """Return the bytes of a partition behind its header; nothing is kept of one that is too large.

        `ahead` gets them before the empty message has come: it may read them, and may not use them.
        """
        if final.total > MAX_FINAL:
            raise PeerError(rules.MOBILITY_SIZE, f"the partition has {final.total} bytes")
        pieces = bytearray()
        with in_time(FINAL_SECONDS, "the partition"):
            while len(pieces) < final.total:
                piece = await self._receive()
                if not piece:
                    raise PeerError(rules.MOBILITY_FORM, "the partition is shorter than its header says")
                pieces += piece
            if len(pieces) == final.total:
                ahead(bytes(pieces))
            if len(pieces) > final.total or await self._receive():
                raise PeerError(rules.MOBILITY_FORM, "the partition is longer than its header says")
        return bytes(pieces)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._frames.aclose()

    async def _send(self, text: bytes) -> None:
        await self._frames.send(self._ciphers.send.encrypt(text))

    async def _receive(self) -> bytes:
        frame = await self._frames.receive(TAG_SIZE, MAX_MESSAGE)
        with _proven("a message does not open: it is forged, repeated, or not in its order"):
            return self._ciphers.receive.decrypt(frame)


async def open_channel(stream: trio.abc.Stream, attempt: Attempt, entropy: Entropy) -> MobilityChannel:
    """Open the channel of an attempt as its source."""
    frames = _Frames(stream)
    handshake = Handshake(True, attempt.token, attempt.prologue(), entropy(KEY_SIZE))
    with in_time(OPEN_SECONDS, "the handshake"):
        await frames.send(attempt.introduction())
        await frames.send(handshake.write_first())
        try:
            answer = await frames.receive(HANDSHAKE_SIZE, HANDSHAKE_SIZE)
        except LineClosed:  # a target gives no reason to a peer without a proof
            raise PeerError(rules.MOBILITY_PROVEN, "the target does not know this attempt") from None
        with _proven("the target does not hold the token of this attempt"):
            handshake.read_second(answer)
        opened = MobilityChannel(frames, handshake.split())
        await opened.prove()
    return opened


async def answer_channel(
    stream: trio.abc.Stream, find: Callable[[UUID, int], Attempt | None], entropy: Entropy
) -> tuple[MobilityChannel, Attempt]:
    """Open a channel as the target; `find` returns the attempt of a UUID and an epoch, if it is expected."""
    frames = _Frames(stream)
    with in_time(OPEN_SECONDS, "the handshake"):
        size = INTRODUCTION.sizeof()
        uuid, epoch = read_introduction(await frames.receive(size, size))
        first = await frames.receive(HANDSHAKE_SIZE, HANDSHAKE_SIZE)
        attempt = find(uuid, epoch)
        if attempt is None:
            raise PeerError(rules.MOBILITY_PROVEN, f"attempt {epoch} of {uuid} is not expected")
        handshake = Handshake(False, attempt.token, attempt.prologue(), entropy(KEY_SIZE))
        with _proven("the source does not hold the token of this attempt"):
            handshake.read_first(first)
        await frames.send(handshake.write_second())
        opened = MobilityChannel(frames, handshake.split())
        await opened.demand_proof()
    return opened, attempt


class _Frames:
    """Frames over a stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._came = bytearray()

    async def send(self, frame: bytes) -> None:
        """Send one frame.  If it is interrupted, the rest of the stream has no meaning."""
        with in_time(FRAME_SECONDS, "a message that is sent"), _lost():
            await self._stream.send_all(len(frame).to_bytes(_LENGTH, "big") + frame)

    async def receive(self, least: int, most: int) -> bytes:
        """Return the next frame, which has `least` to `most` bytes."""
        if not self._came and not await self._more():
            raise LineClosed("the other end has closed the connection")
        with in_time(FRAME_SECONDS, "a message that is received"):
            await self._until(_LENGTH)
            length = int.from_bytes(self._came[:_LENGTH], "big")
            if not least <= length <= most:
                raise PeerError(rules.MOBILITY_FORM, f"a frame of {length} bytes has no place here")
            await self._until(_LENGTH + length)
        frame = bytes(self._came[_LENGTH : _LENGTH + length])
        del self._came[: _LENGTH + length]
        return frame

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _until(self, size: int) -> None:
        while len(self._came) < size:
            if not await self._more():
                raise PeerError(rules.MOBILITY_FORM, "the connection ends within a message")

    async def _more(self) -> bool:
        with _lost():
            came = await self._stream.receive_some(_LENGTH + MAX_MESSAGE)
        self._came += came
        return bool(came)


@contextmanager
def in_time(seconds: float, what: str) -> Iterator[None]:
    """Bound a block; PeerError if it takes longer."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise PeerError(rules.MOBILITY_TIME, f"{what} takes longer than {seconds:g} seconds")


@contextmanager
def _proven(message: str) -> Iterator[None]:
    try:
        yield
    except NotProven:
        raise PeerError(rules.MOBILITY_PROVEN, message) from None


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise LineLost("the connection is broken") from None
