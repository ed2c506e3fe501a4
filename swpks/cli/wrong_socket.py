"""The error of a command whose socket is of another kind: the kind, and the option that is meant."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules.service import COMMAND_SOCKET
from hcall_client.errors import NotReached, WrongSocket
from hcall_client.other_ends import OtherEnd, end_at
from hcall_client.where import locate_at

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
_FILES = {
    OtherEnd.DATA: ("{name}.sock", "DIR", "the state folder of a system"),
    OtherEnd.CONTROL: ("control.sock", "DIR", "the state folder of a system"),
    OtherEnd.WHERE: ("where.sock", "STORE", "the store of a console"),
}
"""The file of each needed kind in a folder `run`; the word for the folder above, and its meaning."""
SOCKET = "--socket "
"""The option of most commands, with the text between it and the path."""


def check_data_socket(path: Path, timeout: float, name: str = "NAME") -> None:
    """Raise OperatorError if `path` is known to be something else than a data channel.

    If nothing listens at the path, or the server is silent or has another protocol, there is no error here.
    The command itself reports these cases.
    """
    found = end_at(path, min(SILENCE, timeout / _PARTS))
    if found not in (None, OtherEnd.DATA, OtherEnd.OTHER):
        raise wrong_socket(path, found, OtherEnd.DATA, name)


def check_where_socket(path: Path, name: str) -> None:
    """Raise an error if a path can't be the where socket of a console, or if it does not answer in time.

    No error if the console is down, or does not know the partition.  Both may change soon, and the command
    waits for that.
    """
    try:
        locate_at(path, name)()
    except WrongSocket as error:
        # If no console listens at STATE/run/where.sock, the finding is about the folder STATE.
        found = path.parent.parent if error.found is OtherEnd.STATE and not path.is_dir() else path
        raise wrong_socket(found, error.found, OtherEnd.WHERE, name, "--where ") from None
    except TimeoutError as error:
        raise NotReached(f"{path}: {error.strerror or error}") from None
    except (OSError, LookupError):
        return


def no_control_channel(path: Path, error: ConsoleUnreachable) -> SwpksError:
    """Return the error of a command whose request got no answer from a control channel.

    If the path is a socket of another kind of swpks, the error names the kind.  Otherwise it is `error`
    itself.
    """
    if error.found in (None, OtherEnd.OTHER):
        return error
    return wrong_socket(path, error.found, OtherEnd.CONTROL)


def without_listener(path: Path, timeout: float) -> OperatorError | None:
    """Return the error for a control socket without a listener, if a server runs in its folder.

    This is a wrong path: often the socket of a partition that is powered off.  Returns None if no server
    answers at the control channel beside the path.
    """
    from swpks.cli.lpar_reach import PATIENCE, system_at

    control = path.with_name("control.sock")
    if path.name == control.name or not control.is_socket():
        return None
    system = system_at(control, min(timeout, PATIENCE))
    if system is None:
        return None
    found = next((each for each in system.partitions if f"{each.name}.sock" == path.name), None)
    place = f"is the place of {OtherEnd.DATA.value} ({found.name}, power {found.power})" if found else ""
    message = (
        f"{path} {place or 'has no listener'}; the server of {system.name} runs; this command needs "
        f"{OtherEnd.CONTROL.value}: {SOCKET}{shlex.quote(str(control))}"
    )
    return OperatorError(COMMAND_SOCKET, message)


def wrong_socket(
    path: Path, found: OtherEnd, needed: OtherEnd, name: str = "NAME", option: str = SOCKET
) -> OperatorError:
    """Return the error of a command for a socket of another kind than the needed one.

    `option` is the option that the user gave, with the text between it and the path.
    """
    quoted, above = shlex.quote(str(path)), shlex.quote(str(path.parent.parent))
    use = f" ({_USES[found].format(path=quoted, above=above)})" if found in _USES else ""
    file, word, meaning = _FILES[needed]
    run = path / "run" if found in (OtherEnd.STATE, OtherEnd.STORE, OtherEnd.FOLDER) else path.parent
    right = run / file.format(name=name)
    place = shlex.quote(str(right))
    if not right.is_socket():
        place = f"{word}/run/{right.name}, where {word} is {meaning}"
    message = f"{path} is {found.value}{use}; this command needs {needed.value}: {option}{place}"
    return OperatorError(COMMAND_SOCKET, message)
