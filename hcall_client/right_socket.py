"""Finds out early that a place is no data channel: WrongSocket with its kind, and not a timeout."""

# A data channel sends its HELLO within milliseconds after the connect. All other servers wait for the client.
# So a silent server is asked for its kind on a second connection (`hcall_client.other_ends`). A slow data
# channel is asked in vain, and logs the request as a broken rule; the client goes on to wait for its HELLO.

from __future__ import annotations

import os
import socket
from pathlib import Path

from hcall_client.errors import WrongSocket
from hcall_client.other_ends import OtherEnd, asked_end, data_sockets, end_of_file
from hcall_client.patience import Patience
from hcall_client.unix import connect_unix

SILENCE = 0.5
"""Seconds without a HELLO after which the kind of a server is asked for."""
_PARTS = 4
"""The wait for the HELLO, and the question, take at most this part of the timeout each."""
_MAY_GREET = (None, OtherEnd.DATA, OtherEnd.CLOSING)
"""A data channel whose server stops closes without an answer as well."""
_FOLDERS = (OtherEnd.STATE, OtherEnd.STORE, OtherEnd.FOLDER)

Place = str | os.PathLike[str] | tuple[str, int]


def connect_data(path: str | os.PathLike[str]) -> socket.socket:
    """Connect as `connect_unix` does; WrongSocket for a folder, or for a file that is no socket."""
    try:
        return connect_unix(path)
    except ConnectionRefusedError:
        check_found(end_of_file(path), path)
        raise


def silence(patience: Patience) -> float:
    """Return the seconds to wait for a HELLO before `check_silent`, and for each of its questions."""
    part = patience.share(_PARTS)
    patience.expect_wait()
    return SILENCE if part is None else min(part, SILENCE)


def check_silent(place: Place, seconds: float) -> None:
    """Ask a server that has sent no HELLO for its kind; WrongSocket if it can't be a data channel.

    Waits `seconds` at most.
    """
    # In the folder of a system, the name of the file decides: under load, a data channel may greet late.
    if not isinstance(place, tuple) and Path(place) in data_sockets(Path(place).parent):
        return
    check_found(asked_end(place, seconds), place)


def check_found(found: OtherEnd | None, place: Place) -> None:
    """Raise WrongSocket for a kind that can't be a data channel."""
    if found in _MAY_GREET or found is None:
        return
    if isinstance(place, tuple):
        raise WrongSocket(
            f"{place[0]}:{place[1]}", found, OtherEnd.DATA, "the ready line of a server has its address (tcp)"
        )
    path = Path(place)
    near = data_sockets(path / "run" if found in _FOLDERS else path.parent)
    right = ", ".join(map(str, near)) or "DIR/run/NAME.sock, where DIR is the state folder of a system"
    raise WrongSocket(str(path), found, OtherEnd.DATA, right)
