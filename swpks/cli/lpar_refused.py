"""The remedy for a refused OPEN: the right partition id, or the right access key."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.frames import OpenStatus
from hcall_client.open_advice import KEY_PLACE

if TYPE_CHECKING:
    from hcall_abi.control_views import SystemView
    from swpks.cli.lpar_sought import Sought


def advice(status: int, sought: Sought, system: SystemView | None, *, numbered: bool) -> str:
    """Return the remedy for a wrong key or a wrong partition id, "" for any other `status`.

    `system` is the partition's system, if it is known.  `numbered` says whether the command sent an id.
    """
    if status == OpenStatus.NOT_AUTHORISED:
        return _of_key(sought, system)
    if status == OpenStatus.NO_SUCH_PARTITION:
        return _of_id(sought, system) if numbered else _without_id(sought)
    return ""


def _of_id(sought: Sought, system: SystemView | None) -> str:
    at_socket = isinstance(sought.target, Path)
    leave = (
        "leave --partition out: a Unix socket serves one partition" if at_socket else "correct --partition"
    )
    if system is None:
        return f"partition {sought.number} is not served there; {_ids(sought)}; {leave}"
    known = ", ".join(f"{each.name} ({each.number})" for each in system.partitions) or "no partition"
    found = _named(system, sought.number)
    wrong = f"{sought.number} is the id of {found}" if found else f"there is no partition {sought.number}"
    return f"{wrong}: the system {system.name} has {known}; {leave}"


def _without_id(sought: Sought) -> str:
    if isinstance(sought.target, Path):
        return f"its partition is not served there any more; {_ids(sought)}"
    return f"the listener serves several partitions: add --partition N; {_ids(sought)}"


def _ids(sought: Sought) -> str:
    if sought.state is None:
        return "swpks hmc status shows the ids"
    return f"swpks hmc --state {shlex.quote(str(sought.state))} status shows the ids"


def _of_key(sought: Sought, system: SystemView | None) -> str:
    if isinstance(sought.target, Path):
        return _at_socket(sought.target, sought.key_file)
    folder = sought.state and sought.state / "access-keys"
    if sought.key_file is None and folder:
        return _of_state(sought, system, folder)
    right = KEY_PLACE if folder is None else str(folder / f"{_wanted(sought, system)}.key")
    owner = key_owner(sought.key_file, folder) if sought.key_file and folder else ""
    if owner and owner != _wanted(sought, system):
        return f"{sought.key_file} is the access key of {owner}: --access-key-file {shlex.quote(right)}"
    whose = f"partition {sought.number}" if sought.number else "the partition"
    return (
        f"{sought.key_file} is not the access key of {whose}: name by --access-key-file a copy of "
        f"{right} of the server; if --partition is right, the file belongs to another partition, or is "
        "older than the last `swpks hmc rotate-key NAME`"
    )


def _at_socket(socket: Path, file: Path | None) -> str:
    """Return the advice for a wrong access key at the Unix socket of a partition."""
    leave = "a Unix socket needs no access key: leave --access-key-file out"
    if file is None:
        return leave
    # By the layout of a state, the keys are in a folder beside that of the socket.
    folder = socket.absolute().parent.parent / "access-keys"
    owner = key_owner(file, folder)
    if owner and owner != socket.stem:
        return f"{file} is the access key of {owner}, and this is the socket of {socket.stem}; {leave}"
    whose = "the partition" if owner else socket.stem
    return f"{file} is not the access key of {whose}, or is older than its last rotate-key; {leave}"


def _of_state(sought: Sought, system: SystemView | None, folder: Path) -> str:
    """Return the advice for a key that the command took from the state folder.

    The command took the key of the partition that has the name NAME.
    """
    file, owner = folder / f"{sought.name}.key", _named(system, sought.number)
    if owner and owner != sought.name:
        return (
            f"{sought.number} is the id of {owner}, and the access key is that of {sought.name}: leave "
            f"--partition out, or name {folder / f'{owner}.key'} by --access-key-file"
        )
    return (
        f"the server does not take the access key in {file}: if --tcp names another system than "
        f"{sought.state}, name by --access-key-file a copy of {KEY_PLACE} of that system"
    )


def _wanted(sought: Sought, system: SystemView | None) -> str:
    """Return the name of the partition whose id the command sent.

    If that name is not known, return the command's NAME.
    """
    return _named(system, sought.number) or sought.name


def _named(system: SystemView | None, number: int) -> str:
    found = (each.name for each in (system.partitions if system else ()) if each.number == number)
    return next(found, "")


def key_owner(file: Path, folder: Path) -> str:
    """Return the partition whose access key is in `file`, "" if no key in the folder is equal."""
    with suppress(OSError):
        given = file.read_text("ascii", "replace").strip().lower()
        for each in sorted(folder.glob("*.key")):
            with suppress(OSError):
                if each.read_text("ascii", "replace").strip().lower() == given:
                    return each.stem
    return ""
