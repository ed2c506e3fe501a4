"""The socket of a false TPM with faults: a thread answers each connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.components.swtpm import PATIENCE

Play = Callable[[socket.socket, threading.Event], None]
"""Plays one connection.  The event is set when the test is over: a play waits for it, or for the client."""


@contextlib.contextmanager
def false_tpm(folder: Path, play: Play) -> Iterator[str]:
    """Listen at a socket during a block; yield its path."""
    path, over = str(folder / "false"), threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, play, over), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            assert not thread.is_alive()


def _serve(listener: socket.socket, play: Play, over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE)
                play(connection, over)


def answering(*answers: bytes) -> Play:
    """Answer the first command correctly, the next ones with these bytes, then close the connection."""

    def play(connection: socket.socket, _over: threading.Event) -> None:
        for each in (answer(0, tag=0x8001), *answers):
            command_of(connection)
            connection.sendall(each)

    return play


def command_of(connection: socket.socket) -> bytes:
    """Receive one whole command."""
    header = connection.recv(10, socket.MSG_WAITALL)
    if len(header) < 10:
        raise OSError("the client is gone")
    size = struct.unpack(">HII", header)[1]
    return header + connection.recv(size - 10, socket.MSG_WAITALL)


def silence(connection: socket.socket, over: threading.Event) -> None:
    """Keep the connection open until the test ends, without an answer."""
    over.wait(PATIENCE)


def trickle(connection: socket.socket, over: threading.Event) -> None:
    """Send the bytes of an answer singly, each within the time-out of one read."""
    command_of(connection)
    for byte in answer(0, bytes(3000)):
        connection.sendall(bytes([byte]))
        if over.wait(0.01):
            return


def answer(code: int, body: bytes = b"", *, tag: int = 0x8002) -> bytes:
    """Return the bytes of an answer."""
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def made(handle: int) -> bytes:
    """Return the answer to a command that makes an object in the TPM."""
    return answer(0, struct.pack(">II", handle, 0) + bytes(5))
