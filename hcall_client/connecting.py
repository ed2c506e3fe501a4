"""Connects to a data channel with Trio: a path, a TCP host and port, or a connected stream."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from hcall_abi.mistakes import WrongType, of_caller
from hcall_client.mistakes import check_place
from hcall_client.patience import TOO_LATE, Patience
from hcall_client.right_socket import Place, check_silent, connect_data, silence

__tracebackhide__ = of_caller


async def connected(place: Place | trio.abc.Stream, patience: Patience, example: str) -> trio.abc.Stream:
    """Return a stream to a data channel; WrongSocket if a server of another kind is at the place."""
    # `locate` may have returned anything, also the socket of another channel.
    given: object = place
    try:
        check_place(place, trio.abc.Stream, example)
    except WrongType:
        if isinstance(given, socket.socket):
            given.close()
        raise
    if isinstance(place, trio.abc.Stream):
        return place
    if isinstance(place, tuple):
        # Trio resolves the name in a thread and tries the addresses itself. So this is one wait, without
        # looks at the clock.
        with within(patience.rest()):
            stream = await trio.open_tcp_stream(*place)
    else:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(connect_data(place)))
    try:
        await _await_greeting(stream, place, patience)
    # BaseException: Cancelled is one, and a stream that is left open takes a place at the server.
    except BaseException:
        stream.socket.close()
        raise
    return stream


async def _await_greeting(stream: trio.SocketStream, place: Place, patience: Patience) -> None:
    """Wait a short time for the first bytes; if there are none, raise WrongSocket for another kind."""
    seconds = silence(patience)
    with trio.move_on_after(seconds) as scope:
        await trio.lowlevel.wait_readable(stream.socket.fileno())
    if scope.cancelled_caught:
        await trio.to_thread.run_sync(check_silent, place, seconds, abandon_on_cancel=True)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError if the block takes more than `seconds`; None means no limit."""
    with trio.move_on_after(math.inf if seconds is None else seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimeoutError(TOO_LATE)
