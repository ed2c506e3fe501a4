"""The kind of the thing at the path of a socket: by its file, and by its answer."""

# Why the first bytes of an answer decide, and not the name of the file
#
# A path can be a link, or a name of the operator's own.  So the answer decides.  A data channel sends its
# HELLO first.  All other kinds wait for the client, and a request of HTTP makes each of them answer: the
# control channel with a problem in HTTP, a console with JSON, its where socket with "error: ".  A web server
# answers in HTTP too, but without a problem.
#
# A mobility channel closes the connection of a client without a token.  Many other programs do so too.  Only
# if a connection is closed without an answer, the name of the file decides.
#
# The request is sent only if no HELLO has come in time.  A data channel that is slow sends its HELLO later,
# and logs the request as a broken rule.  So the request has a connection that is used for nothing else.

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from enum import Enum
from pathlib import Path

from hcall_client.unix import connect_unix

_REQUEST = b"GET / HTTP/1.1\r\nHost: swpks\r\nConnection: close\r\n\r\n"
_DATABASE = "console.sqlite"
_PROCESSOR = "service-processor"
_PROBLEM = b"application/problem+json"
"""In the head of each error of the control channel, which is the only answer to `_REQUEST`."""


class OtherEnd(Enum):
    """The kinds of things at a path, as an error names them."""

    DATA = "the data channel of a partition"
    CONTROL = "the control channel of a system"
    CONSOLE = "the socket of a management console"
    WHERE = "the where socket of a management console"
    MOBILITY = "the mobility channel of a system"
    WEB = "the socket of a web server"
    CLOSING = "a socket that closes without an answer, such as a mobility channel"
    OTHER = "a socket of another program"
    STATE = "the state folder of a system"
    STORE = "the store of a management console"
    FOLDER = "a folder"
    FILE = "a file and no socket"


_OTHERS = {"control", "mobility", "console", "where"}
"""Names of sockets in a folder `run` that are no data channels."""
_FIRST_BYTES = {
    b"HCAL": OtherEnd.DATA,
    b"HTTP/": OtherEnd.WEB,
    b"{": OtherEnd.CONSOLE,
    b"error: ": OtherEnd.WHERE,
}
"""The first bytes of each answer.  `hcall_abi.frames` has the first ones too, and loads construct."""


def end_at(path: str | os.PathLike[str], seconds: float) -> OtherEnd | None:
    """Return the kind of the file or socket at a path.

    None if the path does not exist, or the socket does not answer.

    Waits twice `seconds` at most: for a HELLO, and for the answer to a request.
    """
    if found := end_of_file(path):
        return found
    try:
        sock = connect_unix(path)
    except OSError:  # no listener, or a full queue: the command itself meets the same error
        return None
    with sock:
        sock.settimeout(seconds)
        if (greeting := _received(sock)) is not None:
            # If a server closes before any request, it is about to stop, and its kind is not known.
            return end_of_answer(greeting, path) if greeting else None
        with suppress(OSError):
            sock.sendall(_REQUEST)
        answer = _received(sock)
    return None if answer is None else end_of_answer(answer, path)


def asked_end(place: str | os.PathLike[str] | tuple[str, int], seconds: float) -> OtherEnd | None:
    """Return the kind of the server at a place that has sent no HELLO; None if it does not answer.

    Waits `seconds` at most: for the answer to a request on a new connection.
    """
    try:
        sock = socket.create_connection(place, seconds) if isinstance(place, tuple) else connect_unix(place)
    except OSError:
        return None
    with sock:
        sock.settimeout(seconds)
        with suppress(OSError):
            sock.sendall(_REQUEST)
        answer = _received(sock)
    return None if answer is None else end_of_answer(answer, "" if isinstance(place, tuple) else place)


def data_sockets(run: Path) -> list[Path]:
    """Return the sockets of partitions in the folder `run` of a system; none for another folder."""
    try:
        found = sorted(run.glob("*.sock")) if (run / "control.sock").is_socket() else []
        return [each for each in found if each.stem not in _OTHERS and each.is_socket()]
    except OSError:
        return []


def _received(sock: socket.socket) -> bytes | None:
    """Return the first bytes, b"" for the end of the stream, None for silence."""
    try:
        return sock.recv(4096)
    except TimeoutError:
        return None
    except OSError:
        return b""


def end_of_file(path: str | os.PathLike[str]) -> OtherEnd | None:
    """Return the kind of a folder, or of a file that is no socket; None for all else."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
    if not stat.S_ISDIR(mode):
        return None if stat.S_ISSOCK(mode) else OtherEnd.FILE
    if Path(path, _DATABASE).is_file():
        return OtherEnd.STORE
    return OtherEnd.STATE if Path(path, _PROCESSOR).exists() else OtherEnd.FOLDER


def end_of_answer(answer: bytes, path: str | os.PathLike[str]) -> OtherEnd:
    """Return the kind of a socket by the first bytes of its answer.

    No bytes mean that the server has closed the connection without an answer.
    """
    if not answer:
        with suppress(OSError):
            return OtherEnd.MOBILITY if Path(path).resolve().name == "mobility.sock" else OtherEnd.CLOSING
    if answer.startswith(b"HTTP/") and _PROBLEM in answer:
        return OtherEnd.CONTROL
    return next((end for first, end in _FIRST_BYTES.items() if answer.startswith(first)), OtherEnd.OTHER)
