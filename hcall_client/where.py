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
import time
from collections.abc import Callable
from pathlib import Path

from hcall_client.other_ends import OtherEnd, end_at, end_of_answer, end_of_file
from hcall_client.unix import with_path

Address = str | os.PathLike[str] | tuple[str, int]
"""The path of a Unix socket, or a TCP host and port."""

SECONDS = 5.0
"""How long the console may take to answer."""
_LONGEST = 4096
_PARTS = 10
"""After this part of the time without an answer, the kind of the socket is asked for.

A console answers from its memory, within milliseconds.  The question takes two such parts at most.
"""
_SILENT = "the console does not answer: its log says why, or whether it is stopped; or this is another socket"
_PLACE = "/run/where.sock"
_ANSWERS = (b"unix:", b"tcp:", b"error: ")
"""The first bytes of each answer of a console."""
_NO_FINDING = (None, OtherEnd.WHERE, OtherEnd.CLOSING)
"""A console that stops closes without an answer as well."""
_TCP = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")


class NotLocated(LookupError):
    """The console does not know where the partition is now; the text has its reason."""


def locate_at(path: str | os.PathLike[str], name: str, seconds: float = SECONDS) -> Callable[[], Address]:
    """Return a function that asks the console's where socket for the data channel of partition `name`.

    The function blocks for `seconds` at most. It raises NotLocated for an answer without an address, and
    OSError if the console can't be asked. If another kind of thing is at the path, it raises WrongSocket.
    """
    _check_asked(path, seconds)
    if not isinstance(name, str):
        raise TypeError(f"the name of a partition is text, not {type(name).__name__}")
    # A newline would end the question in the middle of the name.
    if "\n" in name:
        raise ValueError(f"the name of a partition has no newline: {name[:40]!r}")
    asked = os.fspath(path)

    def locate() -> Address:
        with socket.socket(socket.AF_UNIX) as asking:
            deadline = time.monotonic() + seconds
            asking.settimeout(seconds)
            try:
                asking.connect(asked)
            except TimeoutError:
                raise TimeoutError(errno.ETIMEDOUT, _SILENT, asked) from None
            except OSError as error:
                raise _not_asked(error, asked) from None
            try:
                asking.sendall(f"{name}\n".encode())
                return parse_address(_line(asking, asked, deadline, seconds / _PARTS))
            except TimeoutError:
                raise TimeoutError(errno.ETIMEDOUT, _SILENT, asked) from None
            except OSError as error:  # the console has ended meanwhile
                raise _not_asked(error, asked) from None

    return locate


def _check_asked(path: object, seconds: object) -> None:
    """Raise TypeError or ValueError for a path or a time that no question can have."""
    if not isinstance(path, str | os.PathLike):
        given = type(path).__name__
        raise TypeError(
            f'a where socket is at a path, not {given}: write locate_at("store/run/where.sock", "lpar1")'
        )
    if not os.fspath(path) or "\0" in os.fsdecode(path):
        raise ValueError("the path of a where socket is empty, or has a zero byte")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"seconds is a number of seconds, not {type(seconds).__name__}")


def _not_asked(error: OSError, path: str) -> OSError:
    """Return the error for a where socket that could not be asked.

    Its message has the path and the remedy.  Raises WrongSocket if another kind of thing is at the path.
    """
    _check(end_of_file(path), path)
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        _check(end_of_answer(b"", path), path)
    named = with_path(error, path)
    store = path.removesuffix(_PLACE) if path.endswith(_PLACE) else "STORE"
    if end_of_file(store) is OtherEnd.STATE:  # a console refuses the folder of a system as its store
        _check(OtherEnd.STATE, store)
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


def _line(asking: socket.socket, path: str, deadline: float, step: float) -> str:
    """Return the next line without its newline; "" if the stream ends before it.

    If no answer of a console comes within `step` seconds, this function finds out the kind of the socket.  It
    raises WrongSocket if the socket is no where socket.
    """
    asking.settimeout(step)
    try:
        received = asking.recv(_LONGEST)
    except TimeoutError:
        received = _check(end_at(path, step), path)
    else:
        if not received:
            _check(end_of_answer(b"", path), path)
            return ""
        if not any(received.startswith(each[: len(received)]) for each in _ANSWERS):
            # The answer to an HTTP request shows the kind. A web server may answer the line with the
            # partition's name by a page, and a page alone does not show the kind.
            found = end_at(path, step)
            _check(end_of_answer(received, path) if found in _NO_FINDING else found, path)
    while b"\n" not in received and len(received) < _LONGEST:
        asking.settimeout(max(deadline - time.monotonic(), 0.001))
        data = asking.recv(_LONGEST)
        if not data:
            return ""
        received += data
    return received.partition(b"\n")[0].decode("utf-8", "replace")


def _check(found: OtherEnd | None, path: str) -> bytes:
    """Raise WrongSocket for a kind that can't be a where socket.

    For an unknown kind, and for a kind that may be a where socket, return b"": no bytes were received.
    """
    if found in _NO_FINDING or found is None:
        return b""
    # `hcall_client.errors` is loaded for this error alone. Otherwise this file needs only the standard
    # library.
    from hcall_client.errors import WrongSocket

    right = f"{path}{_PLACE}" if found is OtherEnd.STORE else f"STORE{_PLACE}"
    beside = Path(path).with_name("where.sock")
    raise WrongSocket(path, found, OtherEnd.WHERE, str(beside) if beside.is_socket() else right)
