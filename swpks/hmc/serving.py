"""Serves commands: each command has one connection and sends one request (spec/console.md#the-wire)."""

# A command that goes away
#
# `head` in `swpks hmc recover | head` ends, or a person presses Ctrl-C. Three kinds of work may be under way:
#
#   1. A verb that is forwarded to a system. It has been sent; its answer is dropped.
#   2. A line. It may have several steps, such as the records of a file. It runs to its end, because a
#      cancelled line would leave some steps done, without a report. Its output is dropped. A file that it
#      asks for is an error of the line.
#   3. A job that is followed, or an overview that is watched. The job belongs to the console, so only the
#      following ends. Otherwise the connections of commands that are gone would take every place while a job
#      waits for its system.
#
# So the end of the input cancels a handler only if its last message was the progress of a job, or an
# overview. A second task reads the connection all the time, because only a read finds the end.
#
# Places
#
# 32 commands are served at once. A command that follows a job may hold its place for hours. Commands that
# watch hold theirs for days, so they may have a part of the places only (`orders.MAX_WATCHERS`). The server
# never takes a place from a command that has sent its request. A command that has sent none loses its place
# to the next command: otherwise 32 silent connections would lock out the operator for the 10 seconds of a
# request.

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import trio
from trio.lowlevel import wait_readable

from hcall_abi.errors import OperatorError, PeerError
from hcall_abi.rules import hmc as rules
from hcall_server.console.caller import file_refused
from hcall_server.console.jobs import Job
from hcall_server.machine.logs import Log, explained
from swpks.hmc import wire
from swpks.hmc.accepting import next_connection

MAX_CONNECTIONS = 32
"""Commands served at once.  One more ends the oldest connection without a request, or waits in the queue."""

REQUEST_SECONDS = 10.0
"""Seconds that a command has to send its request."""

SEND_SECONDS = 10.0
"""Seconds that a command has to read one message."""

FILE_SECONDS = 60.0
"""Seconds that a command has for a file: it may be a pipe that another program writes."""

GRACE_SECONDS = 2.0
"""Seconds that a request under way has when the console stops."""

PIECE = 1 << 16
"""The most bytes of one receive call."""

_log = Log()


class RequestHandler(Protocol):
    """Carries out the requests of commands."""

    async def handle(self, request: wire.WireRequest, caller: WireCaller) -> bytes:
        """Carry out a request; return the last message to the command."""

    def stopped(self, request: wire.WireRequest) -> bytes:
        """Return the last messages to a command that still waits when the console stops."""

    def failed(self, request: wire.WireRequest) -> bytes:
        """Return the last messages to a command whose request met a bug of the console."""


class WireCaller:
    """The command at the other end of a connection; a `LineCaller` of `hcall_server.console.caller`."""

    def __init__(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        self._stream = stream
        self._scope = scope
        self._sending = trio.Lock()
        self._replies: list[wire.FileReply] = []
        self._replied = trio.Event()
        self._replied.set()
        self._gone = False
        self._following = False

    async def read(self, path: str, limit: int) -> bytes:
        """Ask the command for a file that its command line names; return the content.

        OperatorError if the command sends no content, or more than `limit` bytes.
        """
        reply = await self._ask(path, wire.read(path, limit))
        content = reply.content
        if content is None or len(content) > limit:
            raise OperatorError(
                rules.HMC_FILE, f"{path}: the command sent no content, or more than {limit} bytes"
            )
        return content

    async def write(self, path: str, content: bytes, *, replace: bool) -> None:
        """Ask the command to write a file that its command line names.

        OperatorError if the command does not write the file.
        """
        reply = await self._ask(path, wire.write(path, content, replace=replace))
        if not reply.written:
            raise OperatorError(rules.HMC_FILE, f"{path}: the command did not write it")

    async def test(self, path: str, *, replace: bool) -> None:
        """Raise OperatorError if the command already knows that it can't write a file."""
        reply = await self._ask(path, wire.test(path, replace=replace))
        if not reply.writable:
            raise OperatorError(rules.HMC_FILE, f"{path}: the command can't write it")

    async def say(self, text: str) -> None:
        """Ask the command to print lines; drop them if the command is gone."""
        self._following = False
        await self.send(wire.say(text))

    async def progress(self, job: Job) -> None:
        """Send the progress of a job to the command; end the handler if the command is gone."""
        await self._follow(wire.progress(job))

    async def report(self, text: str) -> None:
        """Ask the command to print a line of an endless output; end the handler if the command is gone."""
        await self._follow(wire.say(text))

    async def _follow(self, message: bytes) -> None:
        # The flag is set before the send: the send may wait, and the command may go away meanwhile.
        self._following = True
        await self.send(message)
        if self._gone:
            self._scope.cancel()
            await trio.lowlevel.checkpoint()

    def unfollow(self) -> None:
        """End the handler if it only follows a job; the job goes on."""
        if self._following:
            self._scope.cancel()

    async def send(self, message: bytes) -> None:
        """Send a message; if the command does not read it in time, treat the command as gone."""
        # A line may send from two tasks, because one of them reports that the other waits. Their messages
        # must not mix.
        async with self._sending:
            if self._gone:
                return
            with trio.move_on_after(SEND_SECONDS) as scope:
                try:
                    await self._stream.send_all(message)
                except trio.BrokenResourceError:
                    self.leave()
            if scope.cancelled_caught:
                self.leave()

    def take(self, reply: wire.FileReply) -> None:
        """Pass the command's reply to the waiting question about a file; PeerError if none waits."""
        # `_replied` is set while no question waits, also before the first one. So a reply without a question
        # is found here.
        if self._replied.is_set():
            raise PeerError(rules.HMC_WIRE, "a reply without a question about a file")
        self._replies.append(reply)
        self._replied.set()

    def leave(self) -> None:
        """Note that the command is gone."""
        self._gone = True
        self._replied.set()
        self.unfollow()

    async def _ask(self, path: str, message: bytes) -> wire.FileReply:
        self._following = False
        # An earlier question may have timed out. Its late reply must not count as the answer to this
        # question.
        self._replies.clear()
        self._replied = trio.Event()
        await self.send(message)
        if not self._gone:
            with trio.move_on_after(FILE_SECONDS):
                await self._replied.wait()
        if not self._replies:
            raise OperatorError(rules.HMC_FILE, f"{path}: the command is gone, or does not answer")
        reply = self._replies.pop()
        if reply.error is not None:
            raise file_refused(reply.error)
        return reply


class CommandServer:
    """Accepts commands on a listening socket until it is cancelled; its caller owns the socket.

    When no more commands are accepted, `ended` is called.  It closes the socket: otherwise a command that
    comes during the stop would wait without an answer.
    """

    def __init__(
        self, listener: socket.socket, handler: RequestHandler, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._listener = listener
        self._handler = handler
        self._ended = ended
        self._places = trio.Semaphore(MAX_CONNECTIONS)
        self._running: dict[_Conversation, None] = {}
        self.grace = GRACE_SECONDS

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept commands until cancelled; then give the running requests `grace` seconds to end."""
        self._listener.setblocking(False)
        async with trio.open_nursery() as connections:
            task_status.started()
            try:
                while True:
                    await self._make_room()
                    stream = await next_connection(self._listener, "command.not_accepted")
                    conversation = _Conversation(stream, self._handler)
                    self._running[conversation] = None
                    connections.start_soon(self._serve, conversation)
            finally:
                self._ended()
                self._stop()

    def hurry(self) -> None:
        """End all present requests at once.

        If the server is cancelled later, the requests that run at that time end at once too.
        """
        self.grace = 0.0
        self._stop()

    def _stop(self) -> None:
        deadline = trio.current_time() + self.grace
        for each in self._running:
            each.stop(deadline)

    async def _make_room(self) -> None:
        """Wait for a free place.

        If a command comes and no place is free, end the oldest command that has not sent a request.
        """
        if not self._places.value:
            await wait_readable(self._listener)
            idle = next((each for each in self._running if not each.asked), None)
            if idle:
                idle.end()
        await self._places.acquire()

    async def _serve(self, conversation: _Conversation) -> None:
        # The shield keeps the request alive when `run` is cancelled. `run` then sets a deadline for it.
        with trio.CancelScope(shield=True):
            try:
                await conversation.run()
            except PeerError as error:
                _log.warning("command.rejected", **explained(error))
            except Exception as error:
                _log.error("command.failed", exc_info=error)
            finally:
                self._running.pop(conversation)
                conversation.close()
                self._places.release()


class _Conversation:
    """One connection of a command: its request, the replies about files, and its end."""

    def __init__(self, stream: trio.SocketStream, handler: RequestHandler) -> None:
        self._stream = stream
        self._handler = handler
        self._buffer = wire.LineBuffer()
        self._lines: list[bytes] = []
        self._asking = trio.CancelScope()
        self._work = trio.CancelScope()
        self.asked = False
        """Whether the command has sent its request."""
        self._caller = WireCaller(stream, self._work)

    async def run(self) -> None:
        """Read the request and answer it; PeerError if the command breaks the rules of the wire."""
        try:
            request = await self._request()
        except PeerError as error:
            await self._caller.send(wire.say(str(error)) + wire.exit_status(1))
            raise
        if request is not None:
            await self._answer(request)

    def end(self) -> None:
        """End the connection of a command that has sent no request."""
        self._asking.cancel()

    def close(self) -> None:
        """Close the connection."""
        self._stream.socket.close()

    def stop(self, deadline: float) -> None:
        """End the request because the console stops.

        A request that follows a job ends at once, any other one at the deadline.
        """
        self._work.deadline = min(self._work.deadline, deadline)
        self._caller.unfollow()

    async def _request(self) -> wire.WireRequest | None:
        self._asking.deadline = trio.current_time() + REQUEST_SECONDS
        with self._asking:
            line = await self._line()
        if self._asking.cancelled_caught:
            late = trio.current_time() >= self._asking.deadline
            limit = f"within {REQUEST_SECONDS:g} seconds" if late else "before others needed its place"
            raise PeerError(rules.HMC_WIRE, f"no request {limit}")
        self.asked = True
        return None if line is None else wire.request_of(line)

    async def _answer(self, request: wire.WireRequest) -> None:
        last = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear)
            with self._work:
                try:
                    last = await self._handler.handle(request, self._caller)
                except Exception as error:  # the command has to get an answer after a bug too
                    _log.error("command.failed", exc_info=error)
                    last = self._handler.failed(request)
            # `last` is empty only if the work was cancelled: the console stops, or the command is gone.
            await self._caller.send(last or self._handler.stopped(request))
            nursery.cancel_scope.cancel()

    async def _hear(self) -> None:
        """Pass on the command's replies about files, until the command goes away."""
        try:
            while (line := await self._line()) is not None:
                self._caller.take(wire.reply_of(line))
        except PeerError as error:
            _log.warning("command.rejected", **explained(error))
        self._caller.leave()

    async def _line(self) -> bytes | None:
        """Return the next line, None at the end of the input."""
        while not self._lines:
            try:
                data = await self._stream.receive_some(PIECE)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._lines += self._buffer.feed(data)
        return self._lines.pop(0)
