"""Answers clients that ask where the data channel of a partition is (spec/console.md#where).

A client sends one line and gets one line, on STORE/run/where.sock.  This socket answers no other question. So
the code of a guest needs no access to the socket of commands, which belongs to the operator.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from hcall_abi.errors import SwpksError
from hcall_server.machine.logs import Log
from swpks.hmc.accepting import next_connection

MAX_QUESTIONS = 64
"""The most connections at once; one more waits in the queue of the socket."""
LONGEST_QUESTION = 256
"""The most bytes of a question, with its newline; the answer to a longer one is an error."""
SECONDS = 5.0
"""Seconds that a connection has in all."""

_ERROR = "error: "
_log = Log()


def answer_to(locate: Callable[[str], str], question: bytes) -> bytes:
    """Return the line that answers a question.

    If the question has no newline at its end, the line is an error.
    """
    if not question.endswith(b"\n"):
        return _line(f"{_ERROR}a question is one line of at most {LONGEST_QUESTION} bytes")
    try:
        asked = question.decode("utf-8").strip()
    except UnicodeDecodeError:
        return _line(f"{_ERROR}a question is text in UTF-8")
    try:
        return _line(locate(asked))
    except SwpksError as error:
        return _line(_ERROR + error.message)


def _line(text: str) -> bytes:
    """Return a text as one line; characters that would end the line are escaped."""
    # The answer repeats the question, and a guest may send any characters in it.
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return f"{shown}\n".encode("utf-8", "backslashreplace")


class WhereServer:
    """Answers questions on a listening socket until it is cancelled; its caller owns the socket."""

    def __init__(self, listener: socket.socket, locate: Callable[[str], str]) -> None:
        self._listener = listener
        self._locate = locate
        self._places = trio.Semaphore(MAX_QUESTIONS)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept questions and answer them."""
        self._listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                # The place is taken before the accept. If there is no place, a connection stays in the queue,
                # and its time does not run yet.
                await self._places.acquire()
                stream = await next_connection(self._listener, "question.not_accepted")
                nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Answer the question of one connection; drop a client that goes away or is too slow."""
        try:
            with trio.move_on_after(SECONDS):
                await stream.send_all(answer_to(self._locate, await _question(stream)))
        except trio.BrokenResourceError:
            pass
        except Exception as error:  # a bug in one answer must not end the console
            _log.error("question.failed", exc_info=error)
        finally:
            stream.socket.close()
            self._places.release()


async def _question(stream: trio.SocketStream) -> bytes:
    """Return the first line of a stream; it has no newline if it is cut off or too long."""
    received = b""
    while b"\n" not in received and len(received) < LONGEST_QUESTION:
        data = await stream.receive_some(LONGEST_QUESTION - len(received))
        if not data:
            return received.partition(b"\n")[0]
        received += data
    line, newline, _ = received.partition(b"\n")
    return line + newline
