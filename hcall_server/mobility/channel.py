"""The mobility channel: encrypted frames between two systems, over any Trio stream (spec/migration.md).

`open_channel` and `answer_channel` return an open `MobilityChannel`.  Its methods raise LineLost if the
connection breaks, or ends between two frames.  For every other fault they raise PeerError with a rule.
After an error the channel is of no use: the caller closes it.
"""

# The mobility channel: the bytes between source and target
#
# A live migration has one connection, from the source to the target. It carries the store, the passwords of
# the consumers, and the words that decide who serves the partition. It must guarantee four things:
#
#   1. Both ends mean the same attempt: UUID, epoch, source and target. Another system can't take part in it.
#   2. A peer without the token of the attempt learns nothing, and changes nothing.
#   3. A message is received once, whole, and in its order, or the connection ends.
#   4. The end of a connection says nothing about the attempt. The records of custody decide, and the source
#      dials again.
#
# Three words carry the move. Each means that something is durable, so the sender commits before it sends:
#
#   FROZEN    At the source, before FINAL ends. No call of the partition runs from here on, so the bytes that
#             follow are its last state.
#   PREPARED  From the target: it has a sealed copy of exactly this generation. It may not serve it.
#   RELEASED  At the source, after PREPARED; the word on the wire is ACTIVATE. From here on only the
#             target can own the partition.
#
# FINAL is the header, the bytes of the partition, and an empty message. The bytes may be sent while FROZEN is
# committed: nothing changes the partition any more. This makes the freeze shorter. The empty message waits
# for the commit. Without it, the target has received nothing. So PREPARED never precedes FROZEN.
#
# There is no pre-copy. A virtual machine copies memory while the guest runs, because gigabytes would take too
# long in the freeze. A store has 128 KiB at most (C-139). So the whole transfer is a few messages, and
# rounds of copies would save little.
#
# Why Noise NNpsk0: the two systems share no certificate authority and no long-lived keys. They share one
# secret, the token, 32 random bytes that the console gives to both ends for one attempt. NNpsk0 is the
# pattern for exactly that. Both ends prove the token, and the keys of each connection are new. So a token
# that leaks after the move opens no recorded connection. TLS with a pre-shared key needs Python 3.13
# (C-142). TLS with certificates would need an authority that both systems trust.
#
# The order of frames on a connection:
#
#     introduction    source    in clear: version, UUID and epoch. So the target finds the token
#     handshake 1     source    fails at the target if token, epoch or a system differs (the prologue)
#     handshake 2     target    proves the token to the source
#     proof           source    an empty transport message, see below
#     messages        both      one transport message each
#
# The target can't know from handshake 1 alone that the source is alive: an attacker may have recorded it.
# Only the source of this handshake can encrypt under the new keys. So the target acts on nothing before the
# proof.

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
"""Seconds for the introduction and the handshake together."""
FRAME_SECONDS = 10.0
"""Seconds for one frame, from its first byte to its last."""
FINAL_SECONDS = 30.0
"""Seconds for a partition at the target, from its header to the empty message."""

Entropy = Callable[[int], bytes]
_LENGTH = 2


class LineLost(Exception):
    """The connection has ended or is broken.  This says nothing about the attempt."""


class LineClosed(LineLost):
    """The other end has closed the connection between two frames."""


class MobilityChannel:
    """An open channel.  Tasks may send at the same time; one task receives."""

    def __init__(self, frames: _Frames, ciphers: Ciphers) -> None:
        self._frames = frames
        self._ciphers = ciphers
        # The pieces of a partition must stay together: the target expects no other message between them.
        self._sending = trio.Lock()

    def __repr__(self) -> str:
        return "MobilityChannel()"

    async def prove(self) -> None:
        """Send the empty message that ends the handshake."""
        await self._send(b"")

    async def demand_proof(self) -> None:
        """Wait for the message of `prove`; PeerError for any other one."""
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

        `before_end` is awaited before the empty message.  Without the empty message the partition does not
        count as received.
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
        """Wait for the next message.  There is no time limit for its first byte."""
        return decode(await self._receive())

    async def receive_final(self, final: Final, ahead: Callable[[bytes], None] = lambda _: None) -> bytes:
        """Return the bytes that follow the header of a partition; PeerError at once if it is too large.

        `ahead` gets these bytes early, before the empty message that ends them has come.  It may parse
        them, but must not act on them.
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
            # Parse now, while the source commits.  So the parsing does not make the freeze longer.
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
        except LineClosed:  # the target closes without a reason if the peer has no proof
            raise PeerError(rules.MOBILITY_PROVEN, "the target does not know this attempt") from None
        with _proven("the target does not hold the token of this attempt"):
            handshake.read_second(answer)
        opened = MobilityChannel(frames, handshake.split())
        await opened.prove()
    return opened


async def answer_channel(
    stream: trio.abc.Stream, find: Callable[[UUID, int], Attempt | None], entropy: Entropy
) -> tuple[MobilityChannel, Attempt]:
    """Open a channel as the target.  `find` returns the expected attempt of a UUID and an epoch, or None."""
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
        # There is no deadline for the first byte: between two messages a connection may be idle for as long
        # as the attempt needs.
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
    """Bound the time of a block; PeerError if the block takes longer."""
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
