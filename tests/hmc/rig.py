"""A server of commands on a real socket. The test supplies its handler."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio.testing

from hcall_server.data_channel.sockets import listen_unix
from swpks.hmc import wire
from swpks.hmc.serving import CommandServer, WireCaller

Work = Callable[[WireCaller], Awaitable[bytes]]
LINE = b'{"line": ["lshmc"]}\n'


class StandIn:
    """A handler that runs a function of the test."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def handle(self, request: wire.WireRequest, caller: WireCaller) -> bytes:
        """Run the function."""
        return await self._work(caller)

    def stopped(self, request: wire.WireRequest) -> bytes:
        """Return the message for a command that a stop ends."""
        return wire.say("stopped") + wire.exit_status(1)

    def failed(self, request: wire.WireRequest) -> bytes:
        """Return the message for a command that has failed."""
        return wire.say("failed") + wire.exit_status(1)


class Rig:
    """A server on a socket."""

    def __init__(self, path: Path, server: CommandServer, scope: trio.CancelScope) -> None:
        self.path = path
        self.server = server
        self.stop = scope.cancel
        self.streams: list[trio.SocketStream] = []

    async def connect(self, data: bytes = b"") -> Raw:
        """Return a connection that has sent these bytes."""
        stream = await trio.open_unix_socket(self.path)
        self.streams.append(stream)
        await stream.send_all(data)
        return Raw(stream)


class Raw:
    """The other end of a connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = wire.LineBuffer()
        self._lines: list[bytes] = []

    async def next(self) -> dict[str, Any] | None:
        """Return the next message, None at the end."""
        while not self._lines:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._lines += self._buffer.feed(data)
        found: dict[str, Any] = json.loads(self._lines.pop(0))
        return found

    async def rest(self) -> list[dict[str, Any]]:
        """Return all messages up to the end."""
        found = []
        while (message := await self.next()) is not None:
            found.append(message)
        return found


@asynccontextmanager
async def served(folder: Path, work: Work) -> AsyncIterator[Rig]:
    """For a block, a server whose handler runs `work`."""
    listener = listen_unix(folder / "s")
    server = CommandServer(listener, StandIn(work))
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await server.run(task_status=task_status)

        await nursery.start(run)
        rig = Rig(folder / "s", server, scope)
        yield rig
        scope.cancel()
        for stream in rig.streams:
            stream.socket.close()
    listener.close()


async def done(caller: WireCaller) -> bytes:
    """Write a word, and end."""
    await caller.say("done")
    return wire.exit_status(0)


def run(function: Callable[[], Awaitable[None]]) -> None:
    """Run a test. Its clock jumps to the next deadline."""
    trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0.05))
