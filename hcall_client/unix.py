"""Connects to a Unix socket without a wait in the kernel, so that the caller's own timeout holds."""

from __future__ import annotations

import errno
import os
import socket

from hcall_abi.bounds import LONGEST_SOCKET_PATH

_TOO_LONG = (
    f"the path has {{}} bytes, and that of a socket {LONGEST_SOCKET_PATH} at most; use a shorter folder, or "
    "a symbolic link to it"
)
_SHOWN = 160
"""Most characters of a path in an error."""


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for an error; a very long one without its middle."""
    text = os.fsdecode(path)
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]}...{text[-half:]}"


def connect_unix(path: str | os.PathLike[str]) -> socket.socket:
    """Return a connected, non-blocking socket; never waits.

    Raises OSError with the path. If the queue of the server is full, its errno is EAGAIN (`is_full`).
    Trio's `open_unix_socket` is not used: at EAGAIN it returns a stream that is connected to nothing.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(os.fspath(path))
    except OSError as error:
        sock.close()
        raise with_path(error, path) from None
    # A path of another type raises TypeError, and Ctrl-C raises KeyboardInterrupt. Neither may leave an open
    # descriptor.
    except BaseException:
        sock.close()
        raise
    return sock


def with_path(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Return an error of a socket with the path of the socket, which Python leaves out."""
    if error.errno is None:  # a path that is too long
        return OSError(errno.ENAMETOOLONG, _TOO_LONG.format(len(os.fsencode(path))), shown(path))
    return OSError(error.errno, error.strerror, os.fspath(path))


def is_full(error: BaseException) -> bool:
    """Whether the queue of a Unix socket was full: the server runs, and has received nothing from the client.

    A Unix socket without a server answers ECONNREFUSED, and a full queue answers EAGAIN.  So ECONNREFUSED is
    never a reason to wait.
    """
    return isinstance(error, OSError) and error.errno == errno.EAGAIN
