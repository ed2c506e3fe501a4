"""A data channel that follows its partition to another system (spec/protocol.md#goodbye).

    async with open_following(locate_at_async("store/run/where.sock", "lpar1")) as channel:
        await channel.call(write_object(who, b"label", b"data"))

When a partition has left its system, each session ends with GOODBYE 3. GOODBYE 3 promises that a call
without an answer has not run. So the channel asks for the new place, and opens a session there. It makes
these calls again, in their order. A caller only notices that its call takes longer.

Every other end promises nothing.  It ends the channel.  Each caller gets the error that a plain channel
raises, and nothing is repeated.
"""

# After GOODBYE 3: each call without an answer runs exactly once
#
# A partition moves to another system while its client has calls in flight. The client must not see this. It
# must not lose a call, because a guest's WRITE that is lost looks like a bug of the keystore. It must not
# make a call twice: a second WRITE is refused with H_RESOURCE, a second REMOVE with H_NOT_FOUND. So this
# module guarantees four things:
#
#   1. A call that has an answer is never sent again.
#   2. A call without an answer is sent again only if it has certainly not run.
#   3. Such calls are sent in the order in which the callers made them, and before every newer call.
#   4. If the partition is not found again, each such call raises SessionEnded with reason MIGRATED. That
#      error still says that the call has not run, so the caller may repeat it.
#
# The server makes guarantee 2 possible (spec/protocol.md#moves). From the freeze on, the source runs no call
# of the partition. When the partition leaves, the source drops the calls that wait. It sends the answers of
# all calls that ran, and then GOODBYE 3. If it cannot send an answer, it sends no GOODBYE 3. So the client
# needs no record of its own: the queue of unanswered calls in `Conversation` is the list of the calls that
# have not run.
#
# All other ends promise nothing. A broken connection may have lost an HCALL or an HRETURN, and the client
# cannot know which. The channel then ends, and nothing is repeated. `hcall_client.errors.in_flight` marks the
# errors of the calls that may have changed something.
#
# Guarantee 3 follows from one queue and one rule. `Conversation.end` finishes the unanswered calls in their
# order, and `_done` appends each to `_waiting`. Calls that are made between two sessions are appended too.
# `_stay` sends the whole queue before any other task can run: there is no checkpoint between the moment at
# which `_channel` is the new session and the moment at which the queue is empty.
#
# The search for the partition cannot break guarantee 1 or 2. No HCALL is sent before OPENED with status 0,
# so a failed attempt has run nothing, for every error. A session that opens and gets GOODBYE 3 at
# once is one more turn of the same loop.
#
# A caller that was cancelled has `wanted` false. Its call may have been sent and may run, as with a plain
# channel. But it is not sent again: its caller is gone, and nothing would read the answer.
#
# Another way was considered: the source could answer H_R_STATE during the whole freeze, and the guest would
# try again (spec/choices.md, C-36). But Linux turns H_R_STATE into -EIO and does not repeat a WRITE. Its wait
# for a flush fails at any error (spec/linux.md). So the source first holds calls for a second. If a held call
# gets no answer, this module repeats it. H_R_STATE remains only for holds that last longer.

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

import trio

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_abi.mistakes import check_function, check_time_limit, of_caller
from hcall_abi.structures import Config
from hcall_client.calls import get_config
from hcall_client.channel import Channel, Locate, reach, serving, settled
from hcall_client.conversation import OpenRequest, Pending, ticket_of
from hcall_client.errors import (
    CallTooLarge,
    HcallError,
    SessionEnded,
    has_moved,
)
from hcall_client.mistakes import check_loop, check_own_loop, no_request, several
from hcall_client.moving import Moving, not_found_again
from hcall_client.no_place import check_locate
from hcall_client.opening import opening
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
    """A call of the channel, which several sessions may send in turn.

    `wanted` is true while the caller waits for the answer.
    """

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
        self._loop = trio.lowlevel.current_trio_token()
        # GOODBYE 3 fills this queue in the order of the old session; `_start` appends newer calls.
        self._waiting: deque[_Call[Any]] = deque()  # calls without a session, in order
        self._was_open = False
        self._ended: SwpksError | None = None
        self._changed = trio.Event()
        # The next system may have another firmware level, so the answer is dropped at each move.
        self._limits: Config | None = None

    def __repr__(self) -> str:
        return f"FollowingChannel({self.moves} moves, {'over' if self._ended else 'open'})"

    @property
    def ended(self) -> SwpksError | None:
        """The error that ended the channel, or None while it lasts."""
        return self._ended

    async def wait_ended(self) -> SwpksError | None:
        """Wait until the channel is over and return the error that ended it."""
        check_own_loop(self._loop)
        while self._ended is None:
            await self._changed.wait()
        return self._ended

    async def call(self, request: Request[T]) -> T:
        """Make one h-call and return its result.

        If the caller is cancelled, the call may or may not have run; it is not repeated.
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
            # The caller was cancelled, so no task will read the answers. Calls that it has started must not
            # be sent again to the next system.
            _give_up(calls)
            raise
        await _awaited(calls)
        return results_of(((each.request, each.pending) for each in calls), self._complain)

    async def limits(self) -> Config:
        """Return the answer of the first GET_CONFIG on the present system."""
        if self._limits is None:
            self._limits = await self.call(get_config())
        return self._limits

    def _start(self, request: Request[T]) -> _Call[T]:
        check_own_loop(self._loop)
        if self._ended is not None:
            raise self._ended
        if not isinstance(request, Request):
            raise no_request(request, "get_config()")
        call = _Call(request)
        # `ended` is set before the unanswered calls are moved to `_waiting`, in one step without a
        # checkpoint. So a new call can never stand before an older one.
        if self._channel.ended is None:
            self._send(call)
        else:
            self._waiting.append(call)
        return call

    def _send(self, call: _Call[Any]) -> None:
        """Send a call in the present session."""
        try:
            sent = self._channel.submit(call.request)
        # The next server may accept smaller bodies than the last one. The call has not been sent, so
        # only this call fails.
        except CallTooLarge as error:
            call.pending.finish(None, error)
        else:
            sent.on_done = partial(self._done, call, sent)

    def _done(self, call: _Call[Any], sent: Pending) -> None:
        """Finish a call with its answer or its error.  After GOODBYE 3, queue it for the next session."""
        if has_moved(sent.error):
            self._waiting.append(call)
        else:
            call.pending.finish(sent.answer, sent.error)

    def _complain(self, error: PeerError) -> None:
        self._channel.complain(error)

    async def _room(self) -> None:
        # Between two sessions nothing bounds `_waiting`, so a pipeline adds no calls to it then.
        while self._ended is None and self._channel.ended is not None:
            await self._changed.wait()
        await self._channel.room()

    # The sessions, one after the other

    async def _follow(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Open a session, and after each GOODBYE 3 the next session.

        Any other end of a session ends the channel.
        """
        error: SwpksError = SessionEnded(GoodbyeReason.DONE, "closed by this end; open another channel")
        try:
            first = Patience(self._patience, trio.current_time)
            self._channel = await self._open(FirstAttempts(first, trio.current_time))
            # Only GOODBYE 3 repeats this loop. After any other end a call may have run.
            while has_moved(found := await self._stay(task_status)):
                patience = Patience(self._move_patience, trio.current_time)
                self._channel = await self._open(Attempts(patience, may_arrive, ON_THE_WAY))
                self.moves += 1
                self._limits = None
            error = found or error
        except (OSError, SwpksError, LookupError) as lost:
            # Before the first session is open, the caller waits in `nursery.start`, which raises this error.
            if not self._was_open:
                raise
            error = not_found_again(lost)
        finally:
            self._end(error)

    async def _open(self, attempts: Attempts) -> Channel:
        try:
            return await reach(self._locate, self._opening, attempts)
        except (OSError, SwpksError, LookupError) as error:
            from hcall_client.unreached import not_reached  # here, because only a failure needs it

            raise not_reached(error, attempts.place) from error

    async def _stay(self, task_status: trio.TaskStatus[None]) -> SwpksError | None:
        """Run the present session until it ends, and return the error that ended it."""
        async with serving(self._channel):
            # The queue is replaced first: if this session gets GOODBYE 3 at once, `_done` fills the new
            # queue. Nothing is awaited until the old queue is sent. So no newer call can be sent before
            # these.
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                if call.wanted:
                    self._send(call)
            self._wake()
            if not self._was_open:
                self._was_open = True
                task_status.started()
            return await self._channel.wait_ended()

    def _end(self, error: SwpksError) -> None:
        self._ended = error
        while self._waiting:
            self._waiting.popleft().pending.finish(None, error)
        self._wake()

    def _wake(self) -> None:
        # The next change needs a new event, because a Trio event can't be reset.
        self._changed.set()
        self._changed = trio.Event()


def locate_at_async(path: str | os.PathLike[str], name: str) -> Callable[[], Awaitable[Address]]:
    """Return an asynchronous form of `locate_at`: the function asks the console in a worker thread."""
    # `abandon_on_cancel`: the function ends by its own timeout, and a cancelled caller must not wait
    # for it.
    return partial(trio.to_thread.run_sync, locate_at(path, name), abandon_on_cancel=True)


@opening
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

    The parameters are those of `open_channel`.  `locate` is called before each attempt.  The partition may be
    moving at that moment.  So the first opening looks for it for 5 seconds (`FIRST_PATIENCE`), or for
    `patience` if that is shorter.  Then it raises NotReached or the last refusal; both name the place.

    After GOODBYE 3 the channel tries for `move_patience` seconds to open the next session. It repeats the
    attempt in three cases: no server listens at the place, the partition has left it, or the partition is
    not served there yet. When the time is over, each call without an answer raises SessionEnded with reason
    MIGRATED. It has not run.
    """
    check_function("locate", locate, 'open_following(locate_at_async("store/run/where.sock", "lpar1"))')
    check_locate(locate, "open_following")
    check_time_limit("patience", patience)
    check_time_limit("move_patience", move_patience)
    check_loop("open_following", "swpks.FollowingBlockingChannel(locate)")
    following = FollowingChannel(locate, ticket_of(partition, access_key, name), patience, move_patience)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(following._follow)
            yield following
        # Trio would wrap an exception of the block in a group. The caller of `open_following` need not
        # know that there is a nursery, so the exception is raised outside of it.
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _awaited(calls: list[_Call[T]]) -> None:
    """Wait until all calls have an answer, or an error.

    If the caller is cancelled, no call is repeated.
    """
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
