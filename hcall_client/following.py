"""A data channel that follows its partition to another system (spec/protocol.md#goodbye).

    async with open_following(locate_at_async("store/run/where.sock", "lpar1")) as channel:
        await channel.call(write_object(who, b"label", b"data"))

When a partition has left its system, each session ends with GOODBYE 3.  That promises: a call without an
answer has not run.  So the channel asks again where the partition is, opens a session there, and makes
exactly these calls again, in their order.  Callers see a call that takes longer.

Every other end promises nothing.  It ends the channel, and each caller gets the error that a plain channel
raises.  Nothing is repeated then.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import trio

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_abi.mistakes import check_function, check_seconds, of_caller
from hcall_abi.structures import Config
from hcall_client.calls import get_config
from hcall_client.channel import Channel, Locate, reach, serving, settled
from hcall_client.conversation import OpenRequest, Pending, ticket_of
from hcall_client.errors import (
    CallTooLarge,
    HcallError,
    SessionEnded,
    has_moved,
    not_reached,
)
from hcall_client.mistakes import no_request, several
from hcall_client.moving import Moving, not_found_again
from hcall_client.patience import (
    MOVE_PATIENCE,
    ON_THE_WAY,
    Attempts,
    FirstAttempts,
    Patience,
    may_arrive,
)
from hcall_client.request import Request
from hcall_client.results import result_of, results_of
from hcall_client.where import Address, locate_at

T = TypeVar("T")

__tracebackhide__ = of_caller


class _Call(Generic[T]):
    """A call of the channel, which one session after the other may have sent; `wanted`: its caller waits."""

    def __init__(self, request: Request[T]) -> None:
        self.request = request
        self.pending = Pending(request.opcode)
        self.wanted = True


class FollowingChannel(Moving[Channel]):
    """The sessions of one partition, one after the other; made by `open_following`.

    It has the functions of `Channel`.  `moves` counts how often it has followed the partition.
    """

    def __init__(
        self, locate: Locate, opening: OpenRequest, patience: float | None, move_patience: float
    ) -> None:
        self._locate = locate
        self._opening = opening
        self._patience = patience
        self._move_patience = move_patience
        self._waiting: deque[_Call[Any]] = deque()  # calls without a session, in order
        self._was_open = False
        self._ended: SwpksError | None = None
        self._changed = trio.Event()
        self._limits: Config | None = None

    def __repr__(self) -> str:
        return f"FollowingChannel({self.moves} moves, {'over' if self._ended else 'open'})"

    @property
    def ended(self) -> SwpksError | None:
        """The error that ended the channel, or None while it lasts."""
        return self._ended

    async def wait_ended(self) -> SwpksError | None:
        """Wait until the channel is over and return the error that ended it."""
        while self._ended is None:
            await self._changed.wait()
        return self._ended

    async def call(self, request: Request[T]) -> T:
        """Make one h-call and return its result.

        Cancelled, the call may or may not have run; it is not repeated then.
        """
        call = self._start(request)
        await _awaited([call])
        return result_of(request, call.pending, self._complain)

    async def pipeline(self, requests: Iterable[Request[T]]) -> list[T | HcallError]:
        """Make many h-calls without waiting in between; they run in the order given.

        Returns a result or the refusal for each.  Raises the error that ends the channel.
        """
        calls: list[_Call[T]] = []
        try:
            for request in several(requests):
                await self._room()
                calls.append(self._start(request))
        except trio.Cancelled:
            _give_up(calls)
            raise
        await _awaited(calls)
        return results_of(((each.request, each.pending) for each in calls), self._complain)

    async def limits(self) -> Config:
        """Return GET_CONFIG's answer, asked for once on each system."""
        if self._limits is None:
            self._limits = await self.call(get_config())
        return self._limits

    def _start(self, request: Request[T]) -> _Call[T]:
        if self._ended is not None:
            raise self._ended
        if not isinstance(request, Request):
            raise no_request(request, "get_config()")
        call = _Call(request)
        if self._channel.ended is None:
            self._send(call)
        else:
            self._waiting.append(call)
        return call

    def _send(self, call: _Call[Any]) -> None:
        """Send a call in the present session."""
        try:
            sent = self._channel.submit(call.request)
        except CallTooLarge as error:
            call.pending.finish(None, error)
        else:
            sent.on_done = partial(self._done, call, sent)

    def _done(self, call: _Call[Any], sent: Pending) -> None:
        """Take the answer of a call, or the reason why there is none; GOODBYE 3 has it wait for a session."""
        if has_moved(sent.error):
            self._waiting.append(call)
        else:
            call.pending.finish(sent.answer, sent.error)

    def _complain(self, error: PeerError) -> None:
        self._channel.complain(error)

    async def _room(self) -> None:
        while self._ended is None and self._channel.ended is not None:
            await self._changed.wait()
        await self._channel.room()

    # The sessions, one after the other

    async def _follow(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep a session open, and open the next one after each GOODBYE 3, until another end comes."""
        error: SwpksError = SessionEnded(GoodbyeReason.DONE, "closed by this end")
        try:
            first = Patience(self._patience, trio.current_time)
            self._channel = await self._open(FirstAttempts(first, trio.current_time))
            while has_moved(found := await self._stay(task_status)):
                patience = Patience(self._move_patience, trio.current_time)
                self._channel = await self._open(Attempts(patience, may_arrive, ON_THE_WAY))
                self.moves += 1
                self._limits = None
            error = found or error
        except (OSError, SwpksError, LookupError) as lost:
            if not self._was_open:
                raise
            error = not_found_again(lost)
        finally:
            self._end(error)

    async def _open(self, attempts: Attempts) -> Channel:
        try:
            return await reach(self._locate, self._opening, attempts)
        except (OSError, SwpksError, LookupError) as error:
            raise not_reached(error, attempts.place) from error

    async def _stay(self, task_status: trio.TaskStatus[None]) -> SwpksError | None:
        """Keep the present session open for as long as it lasts; return its end."""
        async with serving(self._channel):
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                if call.wanted:
                    self._send(call)
            self._tell()
            if not self._was_open:
                self._was_open = True
                task_status.started()
            return await self._channel.wait_ended()

    def _end(self, error: SwpksError) -> None:
        self._ended = error
        while self._waiting:
            self._waiting.popleft().pending.finish(None, error)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def locate_at_async(path: str | os.PathLike[str], name: str) -> Callable[[], Awaitable[Address]]:
    """Return a function as `locate_at` does, whose question runs in a thread."""
    return partial(trio.to_thread.run_sync, locate_at(path, name), abandon_on_cancel=True)


@asynccontextmanager
async def open_following(
    locate: Locate,
    *,
    partition: int = 0,
    access_key: bytes | None = None,
    name: str = "hcall_client",
    patience: float | None = None,
    move_patience: float = MOVE_PATIENCE,
) -> AsyncIterator[FollowingChannel]:
    """Open a session where `locate` says, and follow the partition until the end of the block.

    As `open_channel`.  `locate` is asked before each attempt.  The partition may be on its way just then.  So
    the first opening looks for it for 5 seconds (`FIRST_PATIENCE`), or for `patience` if that is shorter.
    Then NotReached is raised, or the last refusal; both name the place.

    After GOODBYE 3 the channel tries for `move_patience` seconds to open the next session: it goes on if
    nobody answers at the place, or the partition has left it, or is not served there yet.  When that time is
    over, the calls without an answer have not run, and raise SessionEnded with reason MIGRATED.
    """
    check_function("locate", locate, 'open_following(locate_at_async("store/run/where.sock", "lpar1"))')
    check_seconds("patience", patience)
    check_seconds("move_patience", move_patience)
    following = FollowingChannel(locate, ticket_of(partition, access_key, name), patience, move_patience)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(following._follow)
            yield following
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _awaited(calls: list[_Call[T]]) -> None:
    """Wait until all calls have an answer, or an error; if cancelled, they are not repeated."""
    try:
        for call in calls:
            if not call.pending.done:
                await settled(call.pending)
    except trio.Cancelled:
        _give_up(calls)
        raise
    if calls:
        await trio.lowlevel.checkpoint()


def _give_up(calls: Iterable[_Call[Any]]) -> None:
    for call in calls:
        call.wanted = False
