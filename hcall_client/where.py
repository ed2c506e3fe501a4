"""Asks the console where the data channel of a partition is (spec/console.md#where).

    locate = locate_at("store/run/where.sock", "lpar1")
    locate()                                                # "/srv/a/run/lpar1.sock"

The client sends one line, the name of the partition, and receives one line.  It needs no other access to the
console, and gets no other data.  This module needs no other package.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable

from hcall_client.unix import with_path

Address = str | os.PathLike[str] | tuple[str, int]
"""The path of a Unix socket, or a TCP host and port."""

SECONDS = 5.0
"""How long the console may take to answer."""
_LONGEST = 4096
_SILENT = "the console does not answer: its log says why, or whether it is stopped"
_PLACE = "/run/where.sock"
_TCP = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")


class NotLocated(LookupError):
    """The console does not know where the partition is now; the text has its reason."""


def locate_at(path: str | os.PathLike[str], name: str, seconds: float = SECONDS) -> Callable[[], Address]:
    """Return a function that asks the console's where socket for the data channel of partition `name`.

    The function blocks for `seconds` at most.  It raises NotLocated for an answer without an address, and
    OSError if the console can't be asked.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a partition is text, not {type(name).__name__}")
    # A newline would end the question in the middle of the name.
    if "\n" in name:
        raise ValueError(f"the name of a partition has no newline: {name[:40]!r}")
    asked = os.fspath(path)

    def locate() -> Address:
        with socket.socket(socket.AF_UNIX) as asking:
            # The timeout holds for connect, send and each receive alone. The console ends a connection
            # after 5 seconds itself (spec/console.md#where).
            asking.settimeout(seconds)
            try:
                asking.connect(asked)
            except TimeoutError:
                raise TimeoutError(errno.ETIMEDOUT, _SILENT, asked) from None
            except OSError as error:
                raise _not_asked(error, asked) from None
            try:
                asking.sendall(f"{name}\n".encode())
                return parse_address(_line(asking))
            except TimeoutError:
                raise TimeoutError(errno.ETIMEDOUT, _SILENT, asked) from None
            except OSError as error:  # the console has ended meanwhile
                raise _not_asked(error, asked) from None

    return locate


def _not_asked(error: OSError, path: str) -> OSError:
    """Return the error of a where socket with its path, and the remedy."""
    named = with_path(error, path)
    store = path.removesuffix(_PLACE) if path.endswith(_PLACE) else "STORE"
    if named.errno in (errno.ENOENT, errno.ECONNREFUSED):
        remedy = f"no console serves this socket; to start one: swpks hmc serve --store {store}"
    elif named.errno == errno.EACCES:
        remedy = f"the socket belongs to another user: run this program as the owner of {store}"
    else:
        return named
    return OSError(named.errno, f"{named.strerror or named}; {remedy}", path)


def parse_address(text: str) -> Address:
    """Return the address in ``unix:PATH`` or ``tcp:HOST:PORT``; NotLocated for every other text."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return rest
    found = _TCP.fullmatch(rest) if kind == "tcp" else None
    # The console sends its reason after "error: ".
    if found is None:
        raise NotLocated(text.removeprefix("error: ") or "the console has not answered")
    return found[1] or found[2], int(found[3])


def _line(asking: socket.socket) -> str:
    """Return the next line without its newline; "" if the stream ends before it."""
    received = b""
    while b"\n" not in received and len(received) < _LONGEST:
        data = asking.recv(_LONGEST)
        if not data:
            return ""
        received += data
    return received.partition(b"\n")[0].decode("utf-8", "replace")
