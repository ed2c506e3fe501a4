"""The network between systems: its streams delay or lose bytes, and search them for secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from swpks.testing.simulation.pipes import Pipe, pipes

if TYPE_CHECKING:
    from random import Random

    from swpks.testing.simulation.life import Life
    from swpks.testing.simulation.trace import Tap


class Cable(trio.abc.Stream):
    """One end of a stream; its bytes arrive late, or never if the stream is cut before."""

    def __init__(self, inner: Pipe, name: str, net: Network) -> None:
        self._inner = inner
        self._name = name
        self._net = net
        self._closed = False

    def __repr__(self) -> str:
        return f"Cable({self._name})"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; BrokenResourceError if the stream was cut."""
        # The tap gets the bytes before the network may lose them: an attacker could have read them.
        self._net.tap.listen(self._name, bytes(data))
        await self._net.pass_on(self)
        with self._broken():
            await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return when `send_all` may be called."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return bytes that have arrived; BrokenResourceError if the stream was cut."""
        with self._broken():
            return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close this end."""
        self._closed = True
        self.cut()
        await trio.lowlevel.checkpoint()

    @contextmanager
    def _broken(self) -> Iterator[None]:
        """Turn ClosedResourceError into BrokenResourceError, unless the user has closed this end."""
        # A cut closes the pipes of both ends, and a closed pipe raises ClosedResourceError. In Trio that
        # error is for an end that its own user has closed. If a real connection breaks, both ends get
        # BrokenResourceError.
        try:
            yield
        except trio.ClosedResourceError:
            if self._closed:
                raise
            raise trio.BrokenResourceError("the stream was cut") from None

    def cut(self) -> None:
        """Close this end at once, without a checkpoint."""
        self._inner.close()


class Network:
    """The streams between systems.

    With `cut_one_in` N, one send in N cuts its stream; with 0, none does.
    """

    def __init__(self, chance: Random, tap: Tap) -> None:
        self.tap = tap
        self.cut_one_in = 0
        self.slowest = 0.01
        self.listeners: dict[str, Callable[[Cable], None]] = {}
        self._chance = chance
        self._wires: dict[Cable, Cable] = {}

    def __repr__(self) -> str:
        return f"Network({len(self.listeners)} listeners)"

    async def dial(self, address: str, life: Life, name: str) -> trio.abc.Stream:
        """Connect to a listener; OSError if there is none, or if the caller has crashed."""
        await trio.sleep(self._chance.uniform(0, self.slowest))
        listener = self.listeners.get(address)
        if listener is None or not life.alive:
            raise OSError(f"no server listens at {address}")
        ours, theirs = self.pair(f"{name} to {address}")
        life.at_end.append(ours.cut)
        listener(theirs)
        return ours

    def pair(self, name: str) -> tuple[Cable, Cable]:
        """Return the two ends of a new stream."""
        one, other = pipes()
        ours, theirs = Cable(one, f"{name}, forth", self), Cable(other, f"{name}, back", self)
        self._wires[ours], self._wires[theirs] = theirs, ours
        return ours, theirs

    async def pass_on(self, wire: Cable) -> None:
        """Wait as long as a message takes; BrokenResourceError if this send cuts the stream."""
        await trio.sleep(self._chance.uniform(0, self.slowest))
        if self.cut_one_in and not self._chance.randrange(self.cut_one_in):
            wire.cut()
            self._wires[wire].cut()
            raise trio.BrokenResourceError("the stream was cut")
