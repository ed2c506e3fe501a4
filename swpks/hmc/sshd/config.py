"""The configuration of Debian's sshd for the door.  Pure."""

from __future__ import annotations

import shlex
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import door as rules
from swpks.hmc.sshd.shell import DoorPlaces

SECONDS_TO_LOGIN = 30
"""Seconds in which a client has to show its key."""
TRIES = 6
"""Keys that a client may offer on a connection."""
_SEEN_EVERY, _UNSEEN = 15, 3
"""Seconds between two questions whether the client is there; unanswered ones that end the connection."""


def text(places: DoorPlaces, login: str, host_key: Path, authorized_keys: Path) -> str:
    """Return the text of the configuration; OperatorError if sshd could not read one of the paths.

    sshd reads no other file: keys only, for one login, and each session runs the door's program.
    """
    settings = {
        "HostKey": _quoted(host_key),
        "AuthorizedKeysFile": _quoted(authorized_keys).replace("%", "%%"),
        "AllowUsers": login,
        "PermitRootLogin": "prohibit-password",
        "AuthenticationMethods": "publickey",
        "PubkeyAuthentication": "yes",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "HostbasedAuthentication": "no",
        "UsePAM": "no",
        # sshd's own check fails below a shared folder such as /tmp.  The door checks its folder and the file
        # itself: both belong to the user, and no other user may write there.
        "StrictModes": "no",
        "ForceCommand": shlex.quote(str(places.forced)),
        "DisableForwarding": "yes",
        "AllowAgentForwarding": "no",
        "AllowTcpForwarding": "no",
        "AllowStreamLocalForwarding": "no",
        "X11Forwarding": "no",
        "PermitTunnel": "no",
        "GatewayPorts": "no",
        "PermitUserEnvironment": "no",
        "PermitUserRC": "no",
        "PrintMotd": "no",
        "PrintLastLog": "no",
        "PidFile": "none",
        "LoginGraceTime": str(SECONDS_TO_LOGIN),
        "MaxAuthTries": str(TRIES),
        "ClientAliveInterval": str(_SEEN_EVERY),
        "ClientAliveCountMax": str(_UNSEEN),
        "UseDNS": "no",
        "LogLevel": "INFO",
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def _quoted(path: Path) -> str:
    found = str(path)
    if not found.isprintable() or any(each in found for each in "\"'\\"):
        message = f"{found!a}: sshd can't read this path; choose a store without quotes and backslashes in it"
        raise OperatorError(rules.DOOR_STORE, message, advised=True)
    return f'"{found}"'
