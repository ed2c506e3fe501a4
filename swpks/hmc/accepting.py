"""Accepts connections of clients on a listening socket of the console."""

from __future__ import annotations

import socket

import trio
from trio.lowlevel import wait_readable

from hcall_abi.scarcity import scarcity_of
from hcall_server.machine.logs import Log, explained

RETRY_SECONDS = 0.1
"""Seconds to wait if the operating system refuses a connection, such as for lack of descriptors."""

_log = Log()


async def next_connection(listener: socket.socket, refused: str) -> trio.SocketStream:
    """Return the next connection.

    A failure is logged as an event with the name `refused`, and the accept is tried again.
    """
    while True:
        await wait_readable(listener)
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue  # the client has closed before `accept`
        except OSError as error:
            # The listener stays readable, so without a pause this loop would use a whole processor.
            found = scarcity_of(error)
            _log.warning(refused, **(explained(found) if found else {"reason": error.strerror}))
            await trio.sleep(RETRY_SECONDS)
            continue
        return trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
