"""A scripted server over a real sans-I/O session. The test supplies its answers, right or wrong."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
import trio.testing

from hcall_abi.errors import SwpksError
from hcall_abi.frames import (
    MAX_BODY,
    Goodbye,
    HCall,
    Hello,
    HReturn,
    Open,
    Opened,
    Segment,
    Write,
)
from hcall_abi.proof import server_proof
from hcall_abi.session import Event, Role, Session
from hcall_client.calls import Authorization, get_config, raw_call, read_object, write_object
from hcall_client.channel import open_channel

NONCE = bytes(range(32))
HELLO = Hello(1, 1, MAX_BODY, 0, NONCE, "scripted")


class Closed(Exception):
    """The client closed the stream."""


def answer(call: HCall, status: int = 0, *registers: int, writes: tuple[Write, ...] = ()) -> HReturn:
    """Return an answer to a call, with r4 and the later registers as given."""
    return HReturn(call.tag, status, registers + (0,) * (9 - len(registers)), writes)


def out(call: HCall) -> Segment:
    """Return the segment that the call may write."""
    return next(Segment(*piece) for piece in call.segments if piece[2] & 2)


class Peer:
    """The server's end of a trio stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.session = Session(Role.SERVER)
        self._events: list[Event] = []

    async def greet(self, *, hello: Hello = HELLO, key: bytes | None = None, **opened: object) -> Open:
        """Send HELLO, receive OPEN, send OPENED; return the OPEN."""
        await self.send(hello)
        asked = await self.next()
        assert isinstance(asked, Open)
        proof = server_proof(key, hello.nonce, asked.nonce, asked.partition) if key else bytes(32)
        fields: dict = {"status": 0, "partition": 7, "ipl_count": 3, "proof": proof, "level": "FW1110"}
        await self.send(Opened(asked.tag, **(fields | opened)))
        return asked

    async def send(self, *frames: object) -> None:
        await self.raw(b"".join(self.session.send(frame) for frame in frames))  # type: ignore[arg-type]

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def next(self) -> Event:
        while not self._events:
            data = await self.stream.receive_some(65536)
            if not data:
                raise Closed
            self.session.receive_data(bytes(data))
            self._events += self.session.events()
        return self._events.pop(0)

    async def call(self) -> HCall:
        event = await self.next()
        assert isinstance(event, HCall)
        return event

    async def goodbye(self) -> Goodbye:
        event = await self.next()
        assert isinstance(event, Goodbye)
        return event

    async def aclose(self) -> None:
        await self.stream.aclose()


class Threaded:
    """The server's end of a plain socket, in its own thread."""

    def __init__(self, sock: socket.socket, script: Callable[[Peer], object]) -> None:
        self.sock = sock
        self.script = script
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self.error = error

    async def _serve(self) -> None:
        sock = trio.socket.from_stdlib_socket(self.sock)
        async with trio.SocketStream(sock) as stream:
            await self.script(Peer(stream))  # type: ignore[misc]


@contextmanager
def scripted(script: Callable[[Peer], object], size: int | None = None) -> Iterator[socket.socket]:
    """Return the client's end of a socket pair whose other end follows a script.

    An error of the script fails the test.
    """
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        if size:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    peer = Threaded(theirs, script)
    peer.thread.start()
    try:
        yield ours
    finally:
        ours.close()
        peer.thread.join(10)
        assert not peer.thread.is_alive()
        if peer.error:
            raise peer.error


# The client against this server, on Trio

KEY = bytes(32)
READ = read_object(Authorization(3), b"label")


@asynccontextmanager
async def against(script, **options):
    """A channel whose server follows a script. An error of the script fails the test."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Peer(theirs))
        async with open_channel(ours, **options) as channel:
            yield channel


async def refusing(script, **options):
    """Return the error of a channel that can't be opened."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Peer(theirs))
        with pytest.raises(SwpksError) as caught:
            async with open_channel(ours, **options):
                pytest.fail("the channel opened")
    return caught.value


def read_answer(call, data=b"data"):
    return answer(call, 0, len(data), 0, writes=(Write(out(call).address, data),))


def write_and_read(data):
    """Return a call that is as large as its answer."""
    request = write_object(Authorization(3), b"x", data)
    return raw_call(
        1, (), [*request.segments, get_config().segments[0]._replace(address=1 << 40, length=4096)]
    )
