"""Listening sockets: private Unix sockets, TCP, and those that a service manager hands over.

Nothing here needs Trio; `hcall_server.data_channel.listeners` accepts from what is made here.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules

BACKLOG = socket.SOMAXCONN
"""Connections that wait to be accepted: as many as the system allows (net.core.somaxconn).

A burst waits there for places (spec/protocol.md#sessions).  A connection in the queue costs the server no
descriptor and no memory."""

FIRST_PASSED = 3
"""Number of the first descriptor that a service manager passes (sd_listen_fds)."""


def listen_unix(path: Path) -> socket.socket:
    """Return a listening socket at `path`, mode 0600 from the first moment.

    What an earlier server left there is removed: the caller holds the lock of the state, so nobody
    serves it.  Raises OperatorError for a path that is too long or taken by something else.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise OperatorError(
            rules.SOCKET_PATH,
            f"socket path {path} has {len(os.fsencode(path))} bytes: choose a shorter --state or name",
        )
    remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OperatorError(rules.SOCKET_FOLDER, f"can't listen at {path}: {error.strerror}") from None
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def remove_stale(path: Path) -> None:
    """Remove a socket of a server that is gone; OperatorError when something else is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OperatorError(rules.SOCKET_PLACE, f"{path} is in the way")
    path.unlink()


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one.  OperatorError when it can't be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OperatorError(rules.SOCKET_ADDRESS, f"can't listen at {host}, port {port}: {reason}") from None
    listener.setblocking(False)
    return listener


def passed_sockets(environment: Mapping[str, str], process: int) -> list[tuple[str, socket.socket]]:
    """Return the listening sockets that a service manager passed to this process, with their names.

    `environment` holds LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds); an unnamed one is
    called "".  Raises OperatorError for a descriptor that is no listening stream socket.
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
    return [(name, _adopt(FIRST_PASSED + n)) for n, name in enumerate(names)]


def _adopt(descriptor: int) -> socket.socket:
    """Return the listening socket behind a descriptor, no longer inherited by children."""
    try:
        os.set_inheritable(descriptor, False)
        passed = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OperatorError(rules.SOCKET_PASSED, f"descriptor {descriptor}: {error.strerror}") from None
    listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if passed.type != socket.SOCK_STREAM or not listening:
        passed.detach()
        raise OperatorError(rules.SOCKET_LISTENS, f"descriptor {descriptor} does not listen")
    passed.setblocking(False)
    return passed
