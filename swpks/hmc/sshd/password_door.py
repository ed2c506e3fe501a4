"""The door with passwords: an SSH server of asyncssh, for clients that know nothing else."""

# This is the only module of swpks that uses asyncio: there is no well-kept SSH server on Trio.  It imports
# asyncssh inside its functions, so the command can report that the extra is missing.
#
# A wrong password costs a second, and a connection has six.  Both bounds are needed: a client may ask on many
# connections at once, and those are bounded too.

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules import door as rules
from hcall_server.machine.logs import Log
from hcall_server.machine.noise import Allowance, PeerLog
from hcall_server.process.signals import hold_stop_signals, stop_signals
from swpks.hmc.sshd.children import adopt_orphans, end_orphans
from swpks.hmc.sshd.passwords import DELAY, TRIES, DoorPasswords
from swpks.hmc.sshd.session import DoorSessions
from swpks.hmc.sshd.shell import DoorPlaces

if TYPE_CHECKING:
    import asyncssh

MAX_CONNECTIONS = 64
"""Connections at once; one more ends the oldest that has not logged in."""
SECONDS_TO_LOGIN = 30
"""Seconds in which a client has to give its password."""
_SEEN_EVERY, _UNSEEN = 15, 3
"""Seconds between two questions whether the client is there; unanswered ones that end the connection."""

_log = Log()


def check_installed() -> None:
    """Raise OperatorError if asyncssh is not installed."""
    try:
        import asyncssh  # noqa: F401
    except ImportError as error:
        message = (
            f"--password-file needs asyncssh ({error}): install swpks[ssh], or leave the option out: then "
            "Debian's sshd serves keys"
        )
        raise OperatorError(rules.DOOR_PROGRAM, message, advised=True) from None


def run(
    listener: socket.socket,
    host_key: Path,
    places: DoorPlaces,
    passwords: DoorPasswords,
    ready: Callable[[], None],
) -> None:
    """Serve connections until a stop signal comes; then end every session."""
    adopt_orphans()
    try:
        asyncio.run(_serve(listener, host_key, PasswordDoor(places, passwords), ready))
    finally:
        end_orphans(())


async def _serve(
    listener: socket.socket, host_key: Path, door: PasswordDoor, ready: Callable[[], None]
) -> None:
    import asyncssh

    stopped: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def stop(number: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(number)

    for each in stop_signals():
        asyncio.get_running_loop().add_signal_handler(each, stop, each)
    acceptor = await asyncssh.listen(
        sock=listener,
        server_factory=door.server(),
        server_host_keys=[str(host_key)],
        process_factory=door.sessions.run,
        encoding=None,
        line_editor=False,
        public_key_auth=False,
        host_based_auth=False,
        gss_host=None,
        agent_forwarding=False,
        x11_forwarding=False,
        login_timeout=SECONDS_TO_LOGIN,
        keepalive_interval=_SEEN_EVERY,
        keepalive_count_max=_UNSEEN,
    )
    async with acceptor:
        reaper = asyncio.create_task(door.sessions.reap())
        ready()
        number = await stopped
        hold_stop_signals()
        _log.info("door.stopping", signal=number.name)
        door.abort()
        reaper.cancel()
        await door.sessions.end()


class PasswordDoor:
    """The connections of the door, and the check of their passwords."""

    def __init__(self, places: DoorPlaces, passwords: DoorPasswords) -> None:
        self.sessions = DoorSessions(places)
        self._passwords = passwords
        self._open: dict[Any, bool] = {}
        """The open connections, the oldest first, and whether each has logged in."""
        self._said = PeerLog(Allowance(time.monotonic), _log)

    def server(self) -> Callable[[], asyncssh.SSHServer]:
        """Return the factory of the object that asyncssh asks about a connection."""
        import asyncssh

        door = self

        class PasswordLogin(asyncssh.SSHServer):
            """Permits a login with a password, and nothing else: no forwarding, no keys."""

            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self._connection, self._wrong = conn, 0
                door.opened(conn)

            def connection_lost(self, exc: Exception | None) -> None:
                door.closed(self._connection)

            def auth_completed(self) -> None:
                door.logged_in(self._connection)

            def password_auth_supported(self) -> bool:
                return True

            async def validate_password(self, username: str, password: str) -> bool:
                if self._wrong >= TRIES:
                    return False
                accepted, self._wrong = await door.checked(username, password, self._wrong)
                if self._wrong >= TRIES:
                    self._connection.abort()
                return accepted

        return PasswordLogin

    def opened(self, connection: asyncssh.SSHServerConnection) -> None:
        """Note a connection.

        If there are too many, close the oldest that has not logged in: silent ones must not keep others out.
        """
        self._open[connection] = False
        if len(self._open) > MAX_CONNECTIONS:
            self._said.warning("login.not_served", reason=f"{MAX_CONNECTIONS} connections are open")
            silent = next(each for each, logged_in in self._open.items() if not logged_in)
            self.closed(silent)
            silent.abort()

    def logged_in(self, connection: asyncssh.SSHServerConnection) -> None:
        """Note that a connection has logged in."""
        if connection in self._open:
            self._open[connection] = True

    def closed(self, connection: asyncssh.SSHServerConnection) -> None:
        """Forget a connection."""
        self._open.pop(connection, None)

    async def checked(self, name: str, password: str, wrong: int) -> tuple[bool, int]:
        """Return whether a password is right, and the number of wrong ones so far."""
        if self._passwords.accept(name, password):
            return True, wrong
        # The log has no name: people type their password into the place of the name.
        self._said.warning("login.rejected", wrong=wrong + 1)
        await asyncio.sleep(DELAY)
        return False, wrong + 1

    def abort(self) -> None:
        """Close all connections at once."""
        for connection in tuple(self._open):
            connection.abort()
