"""Readers of the event stream, over a Unix socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

ID = "0123456789abcdef0123456789abcdef"
OTHER_ID = "f" * 32
CONSOLE = {"id": ID, "name": "hmc1"}
OTHER = {"id": OTHER_ID, "name": "hmc2"}


def request(
    console: str | None = None, method: str = "GET", target: str = "/v1/events", *, last: bool = False
) -> bytes:
    """Return a request for a stream, as the console with this id or as a spectator.

    With `last` it is the last request of its connection.
    """
    header = f"swpks-console: {console}\r\n" if console is not None else ""
    header += "connection: close\r\n" if last else ""
    return f"{method} {target} HTTP/1.1\r\nhost: swpks\r\n{header}\r\n".encode()


class Streamed:
    """An open event stream, after the head of its answer."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.head = b""
        self._rest = b""
        self._over = False
        self._early: list[dict[str, Any]] = []

    async def begin(self) -> None:
        """Read the head of the answer."""
        self.head = await self._until(b"\r\n\r\n")

    async def lines(self) -> bytes:
        """Return the next lines of the stream, up to a blank one; b"" at its end."""
        size = int(await self._until(b"\r\n") or b"0", 16)
        if not size:
            return b""
        while len(self._rest) < size + 2:
            await self._more()
        chunk, self._rest = self._rest[:size], self._rest[size + 2 :]
        return chunk

    async def events(self) -> list[dict[str, Any]]:
        """Return the next events without heartbeats; [] at the end."""
        if early := self._early:
            self._early = []
            return early
        with trio.fail_after(20):
            while chunk := await self.lines():
                if found := [event_of(block) for block in chunk.split(b"\n\n") if block.strip(b":")]:
                    return found
        return []

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next event of a kind; skip the events before it."""
        while found := await self.events():
            for place, event in enumerate(found):
                if event["kind"] == kind:
                    self._early = found[place + 1 :]
                    return event
        raise AssertionError(f"the stream ended without {kind}")

    async def rest(self) -> list[str]:
        """Return the kinds of all events up to the end of the stream."""
        kinds = []
        while found := await self.events():
            kinds += [each["kind"] for each in found]
        return kinds

    async def _until(self, end: bytes) -> bytes:
        with trio.fail_after(20):
            while end not in self._rest and not self._over:
                await self._more()
        found, _, self._rest = self._rest.partition(end)
        return found

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        self._over = not data
        self._rest += data
        if self._over:
            self._rest += b"0\r\n\r\n"


def event_of(block: bytes) -> dict[str, Any]:
    """Return the event of some lines; check that the lines and their JSON agree."""
    number, kind, data = block.decode().split("\n")
    event: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert (number, kind) == (f"id: {event['number']}", f"event: {event['kind']}")
    return event


@asynccontextmanager
async def streamed(path: str, console: str | None = None) -> AsyncIterator[Streamed]:
    """An open stream, as the console with this id or as a spectator."""
    async with await trio.open_unix_socket(path) as stream:
        reader = Streamed(stream)
        await stream.send_all(request(console))
        await reader.begin()
        yield reader
