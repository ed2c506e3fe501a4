"""Listening sockets: private Unix sockets, TCP, and those that a service manager passes.

This module does not use Trio.  `hcall_server.data_channel.listeners` accepts connections from its sockets.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from os.path import samestat
from pathlib import Path

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_abi.scarcity import scarcity_of
from hcall_server.machine import logs

BACKLOG = socket.SOMAXCONN
"""Connections that wait to be accepted: as many as the system allows (net.core.somaxconn).

A burst waits there for places (spec/protocol.md#sessions).  A connection in the queue costs the server no
descriptor and no memory."""

FIRST_PASSED = 3
"""Number of the first descriptor that a service manager passes (sd_listen_fds)."""

_log = logs.Log()


def listen_unix(path: Path) -> socket.socket:
    """Return a listening socket at `path`, mode 0600 from the first moment.

    A socket of an earlier server is removed.  That is safe, because the caller has the lock of the state.
    OperatorError for a path that is too long, or that another file has.  ScarcityError if the host lacks a
    resource.  After an error there is no socket at the path.
    """
    check_path(path)
    with ExitStack() as undo:
        try:
            remove_stale(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.callback(listener.close)
            listener.setblocking(False)
            _bind_private(listener, path)
            # The path exists after `bind`.  If `listen` fails, clients must not find a socket there.
            undo.callback(remove_quietly, path)
            listener.listen(BACKLOG)
        except OSError as error:
            place = f"can't listen at {path}"
            wrong = OperatorError(rules.SOCKET_FOLDER, f"{place}: {error.strerror or error}")
            raise scarcity_of(error, place) or wrong from None
        undo.pop_all()
    return listener


def check_path(path: Path) -> None:
    """Raise OperatorError if a path is too long for a socket."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise OperatorError(
            rules.SOCKET_PATH,
            f"socket path {path} has {len(os.fsencode(path))} bytes: "
            "choose a shorter --state or --store, or a shorter name",
        )


def _bind_private(listener: socket.socket, path: Path) -> None:
    """Bind with mode 0600 from the first moment.

    If the mode were set after `bind`, other users could connect before that.
    """
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)


class SocketFile:
    """The file of a socket that this server made.

    `remove` does nothing if another file is at its path by now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made = path.lstat()

    def remove(self) -> None:
        """Remove the file; the caller must call this before it closes the socket.

        After the close, another file could get the same inode number.  If the path names another socket by
        now, that socket stays.  An example: the state was moved away, and another server serves a new state
        here.
        """
        with suppress(OSError):
            if samestat(self._path.lstat(), self._made):
                self._path.unlink()


def remove_quietly(path: Path) -> None:
    """Remove a socket that has no listener any more; log a failure.

    If the socket stays, it does no harm: connections to it are refused, and the next `listen_unix` removes
    it.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("socket.left", path=str(path), reason=error.strerror or str(error))


def remove_stale(path: Path) -> None:
    """Remove a socket of a server that has ended; OperatorError if the path is another kind of file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a file and no socket"
        message = f"{path} is in the way of the server's socket: it is {found}; move it away, or remove it"
        raise OperatorError(rules.SOCKET_PLACE, message)
    path.unlink()


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one.  OperatorError if it can't be made."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:  # ValueError: the name is no valid name for DNS
        place, reason = f"can't listen at {host}, port {port}", getattr(error, "strerror", None) or error
        wrong = OperatorError(rules.SOCKET_ADDRESS, f"{place}: {reason}")
        raise scarcity_of(error, place) or wrong from None
    listener.setblocking(False)
    return listener


def passed_sockets(environment: Mapping[str, str], process: int) -> list[tuple[str, socket.socket]]:
    """Return the listening sockets that a service manager passed to this process, with their names.

    `environment` has LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds).  A socket without a name gets
    the name "".  OperatorError for a descriptor that was not passed, or is no listening stream socket of TCP
    or at a path.

    The caller must call this before the process opens a file.  If LISTEN_FDS is too large, that file could
    count as passed.
    """
    if environment.get("LISTEN_PID") != str(process):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not re.fullmatch(r"[0-9]{1,4}", count):
        raise OperatorError(rules.SOCKET_COUNT, f"LISTEN_FDS is {count!r}")
    names = environment["LISTEN_FDNAMES"].split(":") if environment.get("LISTEN_FDNAMES") else []
    if len(names) not in (0, int(count)):
        raise OperatorError(rules.SOCKET_NAMES, f"{len(names)} names for {count} sockets")
    names = [name if name != "unknown" else "" for name in names] or [""] * int(count)
    adopted: list[tuple[str, socket.socket]] = []
    try:
        for n, name in enumerate(names):
            adopted.append((name, _adopt(FIRST_PASSED + n)))
    except OperatorError:
        for _, each in adopted:
            each.detach()
        raise
    return adopted


def _adopt(descriptor: int) -> socket.socket:
    """Return the listening socket of a descriptor.

    Children of this process do not inherit it any more.
    """
    try:
        if not os.get_inheritable(descriptor):  # this process opened it: exec closes such descriptors
            message = f"descriptor {descriptor} was not passed to this process"
            raise OperatorError(rules.SOCKET_PASSED, message)
        passed = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OperatorError(
            rules.SOCKET_PASSED, f"descriptor {descriptor}: {error.strerror or error}"
        ) from None
    unfit = _unfit(passed)
    if unfit:
        passed.detach()
        raise OperatorError(rules.SOCKET_LISTENS, f"descriptor {descriptor} {unfit}")
    os.set_inheritable(descriptor, False)
    passed.setblocking(False)
    return passed


def _unfit(passed: socket.socket) -> str | None:
    """Return why a passed socket cannot be served, None if it can."""
    if passed.type != socket.SOCK_STREAM or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen"
    if passed.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        return f"is of family {passed.family.name}"
    # The mode of a path excludes other users.  An abstract name has no mode.
    if passed.family == socket.AF_UNIX and bound_path(passed) is None:
        return "has an abstract name, which every user of the host can connect to"
    return None


def bound_path(listener: socket.socket) -> Path | None:
    """Return the path of a Unix socket, None for an abstract name and for other families."""
    name = listener.getsockname() if listener.family == socket.AF_UNIX else None
    return Path(name) if isinstance(name, str) and name else None


def remove_stale_sockets(folder: Path, passed: Iterable[socket.socket]) -> None:
    """Remove the sockets in a folder that a killed server left; passed sockets stay.

    The caller has the lock of the state, so no other server listens at these sockets.
    """
    kept = [path for each in passed if (path := bound_path(each))]
    for path in folder.iterdir():
        if path.is_socket() and not any(_is_same(path, each) for each in kept):
            path.unlink()


def check_place(folder: Path, owner: str, passed: socket.socket) -> None:
    """Raise OperatorError if a passed socket is at a path that this server uses for another socket.

    `owner` is what the socket was passed for: a partition, "control" or "tcp".
    """
    path = bound_path(passed)
    if path and path.suffix == ".sock" and path.stem != owner and _is_same(path.parent, folder):
        message = f"the socket passed for {owner} stands at {path}, the place of the socket of {path.stem}"
        raise OperatorError(rules.SOCKET_PLACE, message)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist any more
        return False
