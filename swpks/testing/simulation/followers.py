"""A guest that uses `open_following`, and checks each answer against the only right one.

No other guest uses its label, so the right answer is known.  A call that runs twice, never, or out of order
has another answer.
"""

# Why this guest is needed. If another guest gets no answer, the outcome of its call is unknown, and the
# checker allows both outcomes. So the checker would not find a channel that repeats lost calls. The promise
# to this guest is exact: each call runs once, in its order, or the channel ends.

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import trio

from hcall_abi.errors import SwpksError
from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.calls import Authorization
from hcall_client.errors import HcallError
from hcall_client.following import FollowingChannel, open_following
from hcall_client.request import Request
from hcall_server.console.whereabouts import place_of
from swpks.testing.simulation.desk import Desk
from swpks.testing.simulation.guests import ANSWERS, NOT_RUN, OTHERS, PATIENCE, SIZE
from swpks.testing.simulation.histories import Answer, Did
from swpks.testing.simulation.sites import Site, Surroundings
from swpks.testing.simulation.trace import MARK

AT_ONCE = (1, 1, 2, 4)
"""The numbers of calls that are made at once; one of these is drawn."""


class CountedCall(NamedTuple):
    """A call on a follower's label; no two writes have the same data."""

    did: Did
    data: bytes = b""

    def request(self, label: bytes) -> Request[Any]:
        """Return the call in the form that the channel takes."""
        who = Authorization(OTHERS)
        if self.did is Did.WRITE:
            return calls.write_object(who, label, self.data)
        if self.did is Did.REMOVE:
            return calls.remove_object(who, label)
        return calls.read_object(who, label, SIZE)

    def outcome(self, held: bytes | None) -> tuple[Answer | bytes, bytes | None]:
        """Return the right answer to the call, and the label's object after the call.

        `held` is the label's object before the call.
        """
        if self.did is Did.WRITE:
            return (Answer.DONE, self.data) if held is None else (Answer.TAKEN, held)
        if held is None:
            return Answer.ABSENT, None
        return (Answer.DONE, None) if self.did is Did.REMOVE else (held, held)


class BrittleStream(trio.abc.Stream):
    """A client's end of a connection that breaks at the time `breaks`; later answers are lost."""

    # Sends still work after the break. So the server runs calls, and their answers are lost. This is the hard
    # case.

    def __init__(self, inner: trio.abc.Stream, breaks: float) -> None:
        self._inner = inner
        self._breaks = breaks

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return when `send_all` may be called."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return bytes that have arrived; BrokenResourceError after the connection has broken."""
        with trio.move_on_at(self._breaks):
            return await self._inner.receive_some(max_bytes)
        raise trio.BrokenResourceError("the connection broke")

    async def aclose(self) -> None:
        """Close this end."""
        await self._inner.aclose()


class Follower:
    """A guest that follows the partition `name`; `moves` counts the moves that it followed."""

    def __init__(self, name: str, desk: Desk, sites: Mapping[str, Site], around: Surroundings) -> None:
        self.key = b""
        self.over = False
        self.moves = 0
        self._name = name
        self._desk = desk
        self._sites = sites
        self._trace = around.trace
        self._chance = around.chance(f"follower {name}")
        self._visits = 0
        self._written = 0

    def __repr__(self) -> str:
        return f"Follower({self._name!r}, {self.moves} moves)"

    async def run(self, pace: float) -> None:
        """Open one channel after the other and make calls, until `over` is set."""
        while not self.over:
            try:
                async with open_following(self._locate, access_key=self.key, patience=1.0) as channel:
                    self._visits += 1
                    try:
                        await self._talk(channel, b"follower %d" % self._visits, pace)
                    finally:
                        self.moves += channel.moves
            except (OSError, SwpksError, LookupError) as error:
                self._trace.note("follower", f"its channel has ended: {error}")
            await trio.sleep(self._chance.uniform(0.2, 1.0))

    def _locate(self) -> trio.abc.Stream:
        """Return a connection to the system that serves the partition according to the console."""
        console = self._desk.console
        if console is None:
            raise OSError("the console is dead")
        try:
            place = place_of(console.systems, self._name)
        except SwpksError as error:
            raise LookupError(error.message) from None
        stream, _ = self._sites[place.system.where].connect(self._name)
        lasts = self._chance.expovariate(1 / 2) if self._chance.random() < 0.5 else math.inf
        return BrittleStream(stream, trio.current_time() + lasts)

    async def _talk(self, channel: FollowingChannel, label: bytes, pace: float) -> None:
        """Make calls on a new label, and check each answer; return at an IPL, which may lose changes."""
        # Each channel has a new label: the last calls of an ended channel may have run or not.
        held: bytes | None = None
        ipl = channel.ipl_count
        while not self.over:
            made = [self._wish() for _ in range(self._chance.choice(AT_ONCE))]
            with trio.move_on_after(PATIENCE) as waiting:
                answers = await channel.pipeline([each.request(label) for each in made])
            if waiting.cancelled_caught or channel.ipl_count != ipl:
                return
            for call, found in zip(made, answers, strict=True):
                held = self._judged(call, found, held)
            await trio.sleep(self._chance.expovariate(1 / pace))

    def _wish(self) -> CountedCall:
        did = self._chance.choice((Did.WRITE, Did.WRITE, Did.REMOVE, Did.READ))
        self._written += did is Did.WRITE
        return CountedCall(did, MARK + b"number %d" % self._written if did is Did.WRITE else b"")

    def _judged(self, call: CountedCall, found: object, held: bytes | None) -> bytes | None:
        """Return the object of the label after a call; a wrong answer is a failure of the simulation."""
        if isinstance(found, HcallError) and found.status in NOT_RUN:
            return held
        right, after = call.outcome(held)
        answer = _answer_of(found)
        self._trace.note("follower", f"{call.did.value} {call.data!r} -> {answer!r}")
        if answer != right:
            message = f"{call.did.value} {call.data!r} has the answer {answer!r} and not {right!r}"
            self._trace.fail(f"a guest that follows its partition: {message}")
        return after


def _answer_of(found: object) -> object:
    if isinstance(found, HcallError):
        return ANSWERS.get(Status(found.status), found)
    return found.data if isinstance(found, calls.ObjectRead) else Answer.DONE
