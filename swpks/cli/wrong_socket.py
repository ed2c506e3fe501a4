"""The error of a command whose --socket is of the wrong kind; it names the kind and the right option."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules.service import COMMAND_SOCKET
from hcall_client.other_ends import OtherEnd, end_at

if TYPE_CHECKING:
    from hcall_client.console import ConsoleUnreachable

SILENCE = 0.5
"""Seconds without a HELLO after which the kind of a socket is asked for.

A data channel greets within milliseconds.  A slow one is asked in vain: its command goes on.
"""
_PARTS = 4
"""The question takes at most this part of the timeout, twice."""
_USES = {
    OtherEnd.DATA: "swpks lpar NAME --socket {path}",
    OtherEnd.CONTROL: "swpks hmc --socket {path}",
    OtherEnd.CONSOLE: "swpks hmc --store {above}",
    OtherEnd.WHERE: "swpks qemu --where {path}",
    OtherEnd.MOBILITY: "it is for other systems alone",
    OtherEnd.STATE: "swpks hmc or swpks lpar NAME, with --state {path}",
    OtherEnd.STORE: "swpks hmc --store {path}",
}
"""The command that uses each kind; `above` is the folder of the folder of a socket."""


def check_data_socket(path: Path, timeout: float, name: str = "NAME") -> None:
    """Raise OperatorError if `path` shall be a data channel, but is known to be of another kind.

    No error for a path without a listener, or a server that is silent or has another protocol: the command
    itself reports these.
    """
    found = end_at(path, min(SILENCE, timeout / _PARTS))
    if found not in (None, OtherEnd.DATA, OtherEnd.OTHER):
        raise wrong_socket(path, found, OtherEnd.DATA, name)


def no_control_channel(path: Path, error: ConsoleUnreachable) -> SwpksError:
    """Return the error of a command if the path of its control channel is of another kind.

    If the kind is unknown, or no kind of swpks, it is `error` itself.
    """
    if error.found in (None, OtherEnd.OTHER):
        return error
    return wrong_socket(path, error.found, OtherEnd.CONTROL)


def wrong_socket(path: Path, found: OtherEnd, needed: OtherEnd, name: str = "NAME") -> OperatorError:
    """Return the error of a command whose socket is `found`, but has to be `needed`."""
    quoted, above = shlex.quote(str(path)), shlex.quote(str(path.parent.parent))
    use = f" ({_USES[found].format(path=quoted, above=above)})" if found in _USES else ""
    file = f"{name}.sock" if needed is OtherEnd.DATA else "control.sock"
    message = f"{path} is {found.value}{use}; this command needs {needed.value}: {_place(path, found, file)}"
    return OperatorError(COMMAND_SOCKET, message)


def _place(path: Path, found: OtherEnd, file: str) -> str:
    """Return --socket with the path of the right socket if it exists, else the socket's place in a state."""
    run = path / "run" if found in (OtherEnd.STATE, OtherEnd.FOLDER) else path.parent
    right = run / file
    return f"--socket {shlex.quote(str(right))}" if right.is_socket() else f"run/{file} of a system's state"
