"""Accepting connections of clients at a socket of the console."""

from __future__ import annotations

import socket

import trio
from trio.lowlevel import wait_readable

from hcall_abi.scarcity import scarcity_of
from hcall_server.machine.logs import Log, explained

RETRY_SECONDS = 0.1
"""How long to wait when the system gives no more connections."""

_log = Log()


async def next_connection(listener: socket.socket, refused: str) -> trio.SocketStream:
    """Return the next connection; a failure is the log event `refused`, and is retried."""
    while True:
        await wait_readable(listener)
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        except OSError as error:
            found = scarcity_of(error)
            _log.warning(refused, **(explained(found) if found else {"reason": error.strerror}))
            await trio.sleep(RETRY_SECONDS)
            continue
        return trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
