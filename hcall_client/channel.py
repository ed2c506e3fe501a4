"""The asynchronous data channel (Trio): calls from many tasks over one stream.

    async with open_channel("state/run/lpar1.sock") as channel:
        config = await channel.call(get_config())

The channel has two tasks: one sends, one receives.  So a caller can be cancelled at any moment, and no frame
is cut in two.  A pipeline larger than all buffers between the two ends cannot deadlock, because answers are
received while calls are sent.
"""

# Two tasks, and callers that may be cancelled
#
# A caller could send its own call and wait for the answer in one function. But a cancellation in the middle
# of a send would leave half a frame on the stream. The server could read no later frame. So callers never
# touch the stream. They put a frame into the conversation's buffer and wait for their `Pending`. One task
# sends the buffer, another one receives.
#
# Both tasks are shielded. A cancelled scope of the user must not stop a send in its middle. `_close` ends
# them, after it has given the GOODBYE half a second.
#
# An error of the stream ends the conversation, and each caller gets it from its own call. The tasks do not
# raise it: the nursery would cancel the block of the user, even if the block makes no call at that moment.

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import trio

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import Opened
from hcall_abi.mistakes import check_time_limit, of_caller
from hcall_abi.structures import Config
from hcall_client.calls import get_config
from hcall_client.connecting import connected, within
from hcall_client.conversation import HIGH_WATER, RECEIVE_SIZE, Conversation, OpenRequest, Pending, ticket_of
from hcall_client.errors import ConnectionLost, HcallError, OpenRefused
from hcall_client.mistakes import check_loop, check_own_loop, check_place, several
from hcall_client.opening import opening
from hcall_client.patience import Attempts, Patience
from hcall_client.request import Request
from hcall_client.results import result_of, results_of

T = TypeVar("T")

Target = str | os.PathLike[str] | tuple[str, int] | trio.abc.Stream
"""The address of the server: a Unix socket's path, a TCP host and port, or a connected stream."""

Locate = Callable[[], Target | Awaitable[Target]]
"""A function that returns the present place of a partition; it is called before each attempt.

A plain function must not block for long.  It may raise OSError or LookupError, if the place is not known yet.
"""

__tracebackhide__ = of_caller
_EXAMPLE = 'open_channel("state/run/lpar1.sock")'
PATIENCE = 0.5
"""Seconds that a closing channel waits to send its last bytes, and a broken one for a GOODBYE."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Channel:
    """An open session with one partition; made by `open_channel`.

    A call raises HcallError if it is refused.  After the end of the session it raises the error that ended
    it (a PeerError such as SessionEnded).
    """

    def __init__(self, stream: trio.abc.Stream, conversation: Conversation, opened: Opened) -> None:
        self._stream = stream
        self._conversation = conversation
        self._opened = opened
        self._loop = trio.lowlevel.current_trio_token()
        # `_work` is set if there are bytes to send. `_taken` is set when the sender has taken bytes out of
        # the buffer. `_over` is set when the session has ended, `_sent` when the sender has returned.
        self._work = trio.Event()
        self._taken = trio.Event()
        self._over = trio.Event()
        self._sent = trio.Event()
        self._sender = trio.CancelScope(shield=True)
        self._receiver = trio.CancelScope(shield=True)
        self._limits: Config | None = None

    def __repr__(self) -> str:
        return f"Channel(partition {self.partition}, {'over' if self.ended else 'open'})"

    @property
    def partition(self) -> int:
        """The partition's id."""
        return self._opened.partition

    @property
    def ipl_count(self) -> int:
        """How many IPLs the partition has had, this one included."""
        return self._opened.ipl_count

    @property
    def level(self) -> str:
        """The emulated firmware level's name, such as FW1110."""
        return self._opened.level

    @property
    def ended(self) -> SwpksError | None:
        """The error that ended the session, or None while it lasts."""
        return self._conversation.ended

    async def wait_ended(self) -> SwpksError | None:
        """Wait until the session is over and return the error that ended it."""
        check_own_loop(self._loop)
        await self._over.wait()
        return self.ended

    async def call(self, request: Request[T]) -> T:
        """Make one h-call and return its result.

        If the caller is cancelled, the call may or may not have run; the channel stays usable.
        """
        pending = self.submit(request)
        await settled(pending)
        return result_of(request, pending, self.complain)

    async def pipeline(self, requests: Iterable[Request[T]]) -> list[T | HcallError]:
        """Make many h-calls without waiting in between; they run in the order given.

        Returns a result or the refusal for each.  Raises the error that ends the session.
        """
        sent: list[tuple[Request[T], Pending]] = []
        for request in several(requests):
            await self.room()
            sent.append((request, self.submit(request)))
        # Answers come in order, so the answer of the last call is the last answer.
        if sent:
            await settled(sent[-1][1])
        return results_of(sent, self.complain)

    async def limits(self) -> Config:
        """Return the answer of the channel's first GET_CONFIG; its `used_space` is not updated later."""
        if self._limits is None:
            self._limits = await self.call(get_config())
        return self._limits

    def submit(self, request: Request[Any]) -> Pending:
        """Queue a call for sending; raises the error that ended the session, or CallTooLarge."""
        check_own_loop(self._loop)
        pending = self._conversation.submit(request)
        self._work.set()
        return pending

    async def room(self) -> None:
        """Wait until few bytes wait to be sent, or the session is over."""
        # If a pipeline is produced faster than the server takes it, this loop bounds its memory.
        while len(self._conversation.outgoing) > HIGH_WATER and not self._conversation.ended:
            await self._taken.wait()

    def advise(self, remedies: Mapping[int | None, str]) -> None:
        """Add remedies to the ends of the session, by the reason of GOODBYE; None is an end without one."""
        self._conversation.remedies = remedies

    def complain(self, error: PeerError) -> None:
        """End the session because an answer breaks a rule."""
        self._conversation.complain(error)
        self._note()

    def _note(self) -> None:
        """Wake the tasks that wait for a change of the conversation."""
        if self._conversation.outgoing:
            self._work.set()
        if self._conversation.ended:
            self._over.set()
            self._work.set()
            self._taken.set()

    # The channel's two tasks.  An error in them ends the conversation; it never cancels the caller.
    # Both are shielded: no cancellation from outside may cut a frame in two.  `_close` ends them.

    async def _send_all(self) -> None:
        with self._sender:
            while self._conversation.outgoing or not self._conversation.ended:
                if not self._conversation.outgoing:
                    await self._work.wait()
                # The new event is made before the buffer is taken. If bytes are queued during the send, they
                # set the new event, and the next round does not wait. The same is true for `_taken`.
                self._work = trio.Event()
                data = self._conversation.take_outgoing()
                self._taken.set()
                self._taken = trio.Event()
                try:
                    await self._stream.send_all(data)
                # A server closes at once after its GOODBYE. So the send may fail before the receiver has read
                # the GOODBYE.
                except _BROKEN:
                    await self._await_goodbye()
        self._sent.set()

    async def _await_goodbye(self) -> None:
        """After a failed send, read a GOODBYE that the server may have sent before it closed."""
        with trio.move_on_after(PATIENCE):
            await self._over.wait()
        self._conversation.outgoing.clear()
        self._conversation.end(ConnectionLost("the connection broke while sending"))
        self._note()

    async def _receive_all(self) -> None:
        with self._receiver:
            while not self._conversation.ended:
                try:
                    self._conversation.receive(bytes(await self._stream.receive_some(RECEIVE_SIZE)))
                except _BROKEN:
                    self._conversation.end(ConnectionLost("the connection broke while receiving"))
                # The waiting tasks are woken after an error too: callers and the sender wait for the end of
                # the session.
                self._note()

    async def _close(self) -> None:
        """Send GOODBYE, for at most `PATIENCE` seconds, and end the two tasks."""
        self._conversation.goodbye()
        self._note()
        # A dead server takes nothing, so the wait is bounded.
        with trio.move_on_after(PATIENCE, shield=True):
            await self._sent.wait()
        self._sender.cancel()
        self._receiver.cancel()


async def settled(pending: Pending) -> None:
    """Wait until a call has an answer, or an error because none will come."""
    if pending.done:
        # Trio's rule: an async function yields in every case, so that a loop of calls can be cancelled.
        await trio.lowlevel.checkpoint()
        return
    done = trio.Event()
    pending.on_done = done.set
    await done.wait()


async def _receive(stream: trio.abc.Stream, patience: Patience) -> bytes:
    """Return the next bytes; TimeoutError if none come in time.

    A pause of this process uses almost none of the time.
    """
    while True:
        # The wait is cut into pieces: in one long wait, `patience` could not see a pause of this process.
        look = patience.look()
        with trio.move_on_after(math.inf if look is None else look):
            return bytes(await stream.receive_some(RECEIVE_SIZE))


async def place_of(locate: Locate) -> Target:
    """Call `locate`, wait for its result if it is asynchronous, and return the place."""
    found = locate()
    return await found if isinstance(found, Awaitable) else found


async def reach(locate: Locate, opening: OpenRequest, attempts: Attempts) -> Channel:
    """Return a channel whose tasks do not run yet.  Each attempt calls `locate` anew.

    The caller runs the tasks by `serving`.
    """
    while True:
        try:
            attempts.ask()
            place = await place_of(locate)
            attempts.go_to(place)
            stream = await connected(place, attempts.patience, _EXAMPLE)
            return await _attempt(stream, opening, attempts.patience)
        except (OSError, OpenRefused, PeerError, LookupError) as error:
            await trio.sleep(attempts.pause_after(error))


async def _reached(target: Target, opening: OpenRequest, patience: Patience) -> Channel:
    """Return a channel as `reach` does; an error names the place and the remedy."""
    try:
        return await reach(lambda: target, opening, Attempts(patience))
    except (OSError, PeerError, OpenRefused) as error:
        from hcall_client.unreached import not_reached  # here, because only a failure needs it

        raise not_reached(error, target) from None


async def _attempt(stream: trio.abc.Stream, opening: OpenRequest, patience: Patience) -> Channel:
    """Open a session over a stream; if that fails, close the stream."""
    conversation = Conversation(opening)
    try:
        return Channel(stream, conversation, await _greet(stream, conversation, patience))
    # BaseException is caught, because Cancelled is one. A stream that stays open takes a place at the server.
    except BaseException:
        await _close_at_once(stream)
        raise


async def _close_at_once(stream: trio.abc.Stream) -> None:
    """Close a stream; do not raise Cancelled, which would replace the caller's error."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)


async def _greet(stream: trio.abc.Stream, conversation: Conversation, patience: Patience) -> Opened:
    """Exchange HELLO, OPEN and OPENED, and return the OPENED.

    If the session ends meanwhile, raise the error that ended it.
    """
    while conversation.opened is None and conversation.ended is None:
        try:
            conversation.receive(await _receive(stream, patience))
            if outgoing := conversation.take_outgoing():
                with within(patience.rest()):
                    await stream.send_all(outgoing)
        # TimeoutError is an OSError. The next clause would take it for a broken connection.
        except TimeoutError:
            raise
        except _BROKEN:
            conversation.end(ConnectionLost("the connection broke while it was being opened"))
    if conversation.opened is None or conversation.ended is not None:
        raise conversation.ended or ConnectionLost()
    return conversation.opened


@opening
async def open_channel(
    target: Target,
    *,
    partition: int = 0,
    access_key: bytes | None = None,
    name: str = "hcall_client",
    patience: float | None = None,
) -> AsyncIterator[Channel]:
    """Connect, open a session with a partition, and close it at the end of the block.

    `partition` 0 means the only partition of the listener.  With `access_key` the client proves that it
    holds the key, and refuses a server that cannot prove the same (ServerNotProven).  Raises OpenRefused
    with the server's status, another PeerError for a server that breaks the protocol, and OSError
    (NotReached or TimeoutError too) where there is no server.  WrongSocket if another kind of thing is at
    the place.

    `patience` is the time limit of the opening in seconds; TimeoutError is raised after it.  Within the
    limit, the client repeats an attempt if the server has no free place for a session.  At the limit it
    raises the last refusal (spec/protocol.md#waiting).  None means no time limit: the client waits for a
    full queue without end, and raises a refusal at once.  If the target is a connected stream, there is only
    one attempt.
    """
    check_place(target, trio.abc.Stream, _EXAMPLE)
    check_time_limit("patience", patience)
    check_loop("open_channel", "swpks.BlockingChannel.connect(path)")
    opening = ticket_of(partition, access_key, name)
    patient = Patience(patience, trio.current_time)
    # A connected stream can be used once, so there is no second attempt.
    if isinstance(target, trio.abc.Stream):
        channel = await _attempt(target, opening, patient)
    else:
        channel = await _reached(target, opening, patient)
    async with serving(channel):
        yield channel


@asynccontextmanager
async def serving(channel: Channel) -> AsyncIterator[None]:
    """Run the tasks of a channel around a block, and close its stream."""
    try:
        async with _tasks(channel):
            yield
    finally:
        await _close_at_once(channel._stream)


@asynccontextmanager
async def _tasks(channel: Channel) -> AsyncIterator[None]:
    """Run the channel's two tasks around a block.

    An exception of the block is raised as it is, and not in a group: a caller need not know of the tasks.
    """
    tasks = AsyncExitStack()
    with trio.CancelScope() as cover:
        nursery = await tasks.enter_async_context(trio.open_nursery())
        tasks.push_async_callback(channel._close)
        nursery.start_soon(channel._receive_all)
        nursery.start_soon(channel._send_all)
        try:
            yield
        finally:
            # The block may have raised.  From here nothing may raise Cancelled in place of that exception.
            # The exception must not pass through the nursery, which would wrap it in a group.
            cover.shield = True
            await tasks.aclose()
