"""The errors of a partition that is not reached: the reason in plain words, the place, and the remedy.

They are `NotReached`, and the OSError that programs catch who wait for a server.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.scarcity import scarcity_of
from hcall_client.errors import ConnectionLost, NotReached, printable, with_message
from hcall_client.other_ends import OtherEnd, data_sockets, end_of_file
from hcall_client.unix import connect_unix, shown

_REASONS: Mapping[int | None, str] = {
    errno.ENOENT: "no socket is there",
    errno.ECONNREFUSED: "no server listens there",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EACCES: "the socket, or a folder above it, is closed to this user",
    errno.EHOSTUNREACH: "there is no way to this host",
    errno.ENETUNREACH: "there is no way to this host",
    errno.ETIMEDOUT: "the host does not answer",
}
"""The reason in words, by the error number; other errors keep the words of the operating system."""
_NO_SERVER = (errno.ENOENT, errno.ECONNREFUSED, None)
"""Error numbers of a place without a listener; None is that of Trio, which tries several addresses."""


class NoConnection(NotReached, OSError):
    """No connection to the place of a data channel was made; `errno` is that of the cause."""

    def __init__(self, message: str, reason: str, cause: OSError) -> None:
        super().__init__(message)
        self.errno, self.strerror, self.filename = cause.errno, reason, cause.filename


class NoSocket(NoConnection, FileNotFoundError):
    """There is no socket at the path of a data channel."""


class NoListener(NoConnection, ConnectionRefusedError):
    """No server listens at the place of a data channel."""


class NoFolder(NoConnection, NotADirectoryError):
    """A part of the path of a data channel is a file."""


class NoAccess(NoConnection, PermissionError):
    """This user has no access to the socket of a data channel."""


_KINDS = (
    (FileNotFoundError, NoSocket),
    (ConnectionRefusedError, NoListener),
    (PermissionError, NoAccess),
    (NotADirectoryError, NoFolder),
)


def not_reached(error: Exception, place: object) -> Exception:
    """Return the error of an opening that failed, with the place of the last attempt.

    A refusal and the end of a session keep their types.  NotReached is raised if the place is unknown, or if
    no server listens there.  A timeout stays a TimeoutError.  A shortage of this process stays as it is.
    """
    # These have the place already, or say nothing about it.
    if isinstance(error, OperatorError | NotReached) or (
        isinstance(error, OSError) and scarcity_of(error) is not None
    ):
        return error
    where = f" (at {_place_text(place)})" if place is not None else ""
    # The type stays, because callers catch OpenRefused and look at its status.
    if isinstance(error, SwpksError):
        lost = isinstance(error, ConnectionLost) and where
        advice = "; its log says why, or it is another program's" if lost else ""
        return with_message(error, error.message + where + advice)
    if isinstance(error, TimeoutError):
        advice = "; its log says why, or whether it is stopped" if where else ""
        changed: Exception = TimeoutError(f"{error}{where}{advice}")
    elif isinstance(error, OSError) and place is not None:
        changed = _of_place(error, place, where)
    else:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        path = getattr(error, "filename", None)
        changed = NotReached(f"{reason}{(path and f' (at {path})') or ''}{_advice(error)}")
    changed.__cause__ = error
    return changed


def _of_place(error: OSError, place: object, where: str) -> NotReached:
    """Return the NotReached for an OSError at a place; its type is that of the OSError too."""
    reason, remedy = _reason(error, place), _remedy(error, place)
    other = NoConnection if error.errno is not None else NoListener  # Trio's error has no number
    kind = next((changed for known, changed in _KINDS if isinstance(error, known)), other)
    return kind(f"{reason}{where}{remedy and '; '}{remedy}", reason, error)


def _reason(error: OSError, place: object) -> str:
    if isinstance(error, socket.gaierror):
        return "no address of this host is known"
    if error.errno == errno.ENAMETOOLONG and isinstance(place, str | os.PathLike):
        size = len(os.fsencode(place))
        return f"the path has {size} bytes, and the path of a socket has {LONGEST_SOCKET_PATH} at most"
    # Trio tried each address of a host.
    if error.errno is None:
        return _REASONS[errno.ECONNREFUSED]
    return _REASONS.get(error.errno, error.strerror or str(error))


def _remedy(error: OSError, place: object) -> str:
    if not isinstance(place, str | os.PathLike):
        if isinstance(error, socket.gaierror):
            return "correct the name of the host"
        return "the ready line of the server has its address (tcp)" if error.errno in _NO_SERVER else ""
    if error.errno == errno.ENAMETOOLONG:
        return "use a shorter folder, or a symbolic link to it (swpks.testing.short_path makes one)"
    if error.errno == errno.EACCES:
        return "run this program as the user of the server"
    if error.errno in _NO_SERVER:
        return _start(Path(place))
    return "the path is wrong: the data channel of a partition is DIR/run/NAME.sock"


def _start(path: Path) -> str:
    """Return the way to a server that listens at a path: power a partition on, or start its system."""
    host, _, port = str(path).partition(":")
    if port.isdecimal() and "/" not in host:
        return f"for a TCP listener, write the tuple ({host!r}, {port})"
    run, state = path.parent, shlex.quote(str(path.parent.parent))
    if _listens(run / "control.sock"):
        others = ", ".join(each.stem for each in data_sockets(run) if _listens(each))
        return (
            f"the system there serves {others or 'no partition'}, and {path.stem} is powered off or unknown: "
            f"swpks hmc --state {state} power {shlex.quote(path.stem)} on"
        )
    if run.name == "run" and end_of_file(run.parent) is OtherEnd.STATE:
        return f"its system does not run: start it by swpks serve --state {state}"
    return "start the server of its system, such as swpks serve --state DIR"


def _listens(path: Path) -> bool:
    try:
        connect_unix(path).close()
    except OSError:
        return False
    return True


def _advice(error: Exception) -> str:
    """Return the remedy for a partition that was not found; "" if the error already has a remedy."""
    if isinstance(error, LookupError):
        line = "lssyscfg -r lpar -m SYSTEM -F name,state"
        return f"; at the console, {line} lists the partitions, and those that run"
    return ""


def _place_text(place: object) -> str:
    if isinstance(place, str | os.PathLike):
        return printable(shown(place))
    return f"{place[0]}:{place[1]}" if isinstance(place, tuple) else type(place).__name__
