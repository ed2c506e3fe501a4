"""The start of the door: checks, socket, user, files, and then one of the two servers."""

# The order
#
# All that can be wrong is checked before the socket is bound, and the socket is bound before root's rights
# are given up: port 22 needs them.  The files of the door are made afterwards, so they belong to the user.
# The ready line comes last.
#
# Several doors may serve one store, on different ports: they write the same files, one door after the other,
# and the file of the configuration is one for each address.

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcall_abi.addresses import host_and_port, is_loopback
from hcall_abi.errors import OperatorError
from hcall_abi.rules import door as rules
from hcall_server import __version__
from hcall_server.data_channel.sockets import listen_tcp
from hcall_server.files import replace_private
from hcall_server.machine.logs import Log
from swpks.hmc.sshd import account, config, layout, passwords
from swpks.hmc.sshd.shell import DoorPlaces

_PRIVILEGE = Path("/run/sshd")
"""The empty folder that sshd needs if root runs it; Debian's service makes it."""

Announce = Callable[[dict[str, Any]], None]

_log = Log()


@dataclass(frozen=True)
class DoorSettings:
    """The settings of a start, as on the command line."""

    store: Path
    listen: str
    password_file: Path | None = None
    user: str | None = None
    insecure_listen: bool = False


def address(text: str, *, insecure: bool) -> tuple[str, int]:
    """Return host and port of HOST:PORT; OperatorError for another form, or for a host beyond loopback."""
    place = host_and_port(text)
    if place is None:
        message = f"--listen {text!r} is no HOST:PORT; write 127.0.0.1:2222, or [::1]:2222"
        raise OperatorError(rules.DOOR_LISTEN, message, advised=True)
    host, port = place
    if not insecure and not is_loopback(host):
        message = f"--listen {text!r}: every host that reaches {host} could try to log in"
        advice = "take 127.0.0.1, or permit it by --insecure-listen"
        raise OperatorError(rules.DOOR_LISTEN, f"{message}; {advice}", advised=True)
    return host, port


def run(settings: DoorSettings, announce: Announce) -> None:
    """Run the door until a stop signal comes; OperatorError if it can't start."""
    host, port = address(settings.listen, insecure=settings.insecure_listen)
    user = account.choose(settings.user)
    store = settings.store.absolute()
    layout.check_store(store, user.user, user.name)
    secrets = _checked_passwords(settings.password_file)
    listener = listen_tcp(host, port)
    try:
        account.become(user)
        places = DoorPlaces(store)
        layout.make(places, user.name)
        ready = _ready(listener, places, user, settings)

        def announced() -> None:
            announce(ready)
            _log.info("door.ready", **ready)

        if secrets is None:
            _with_keys(listener, places, user, announced)
        else:
            from swpks.hmc.sshd import password_door

            password_door.run(listener, places.door / layout.HOST_KEY, places, secrets, announced)
    finally:
        listener.close()
    _log.info("door.stopped")


def _checked_passwords(path: Path | None) -> passwords.DoorPasswords | None:
    """Return the passwords, None for a door with keys; OperatorError if a program or library is missing."""
    if path is None:
        layout.check_programs(layout.SSHD)
        return None
    layout.check_programs("/usr/bin/setsid")
    from swpks.hmc.sshd import password_door

    password_door.check_installed()
    return passwords.read(path)


def _with_keys(
    listener: socket.socket, places: DoorPlaces, user: account.Account, ready: Callable[[], None]
) -> None:
    import trio

    from swpks.hmc.sshd import key_door

    if user.user == 0:
        with suppress(FileExistsError):
            _PRIVILEGE.mkdir(mode=0o755)
    host, port = listener.getsockname()[:2]
    keys = layout.authorized_keys(places)
    text = config.text(places, user.name, places.door / layout.HOST_KEY, keys)
    path = places.door / f"sshd_config.{host}.{port}"
    replace_private(path, text.encode())
    try:
        trio.run(key_door.serve, listener, str(path), ready)
    finally:
        with suppress(OSError):
            path.unlink()


def _ready(
    listener: socket.socket, places: DoorPlaces, user: account.Account, settings: DoorSettings
) -> dict[str, Any]:
    host, port = listener.getsockname()[:2]
    return {
        "version": __version__,
        "pid": os.getpid(),
        "store": str(places.store),
        "host": host,
        "port": port,
        "fingerprint": layout.fingerprint(places.door / layout.HOST_KEY),
        "user": user.name,
        "login": "keys" if settings.password_file is None else "passwords",
    }
