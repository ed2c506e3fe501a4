"""The way to other systems: the listener of the mobility channel, and connections to other listeners.

`run/mobility.sock` or a TCP port (spec/service.md#sockets).  The first connection loads the package
`mobility`.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from pathlib import Path

import trio
from trio.lowlevel import wait_readable

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from hcall_server.control_channel.loading import loaded
from hcall_server.data_channel.sockets import SocketFile, listen_tcp, listen_unix
from hcall_server.machine.logs import Log
from hcall_server.machine.machine import Machine
from hcall_server.service.settings import UNIX, parse_listen

NAME = "mobility"
SOCKET = f"{NAME}.sock"
PAUSE = 0.1
"""Seconds to wait if the host has no descriptor for another connection."""

_log = Log()


class SocketPeers:
    """The connections of a server to other systems, and from them.  It listens as soon as it is made.

    `wanted` is "unix" for a socket in `folder`, or "tcp:HOST:PORT".  OperatorError or ScarcityError if this
    system cannot listen at the address.

    It does not listen on a Unix socket if the path is too long.  It does not listen either if the path is
    `taken` by a partition of an older release.  It still reaches other systems then.
    """

    def __init__(self, folder: Path, wanted: str, *, taken: bool = False) -> None:
        self.address = ""
        """Where other systems find this one, "" if it does not listen."""
        self._listener: socket.socket | None = None
        self._file: SocketFile | None = None
        self._scope = trio.CancelScope()
        self._loaded = False
        if wanted == UNIX:
            self._listen_unix(folder / SOCKET, taken=taken)
        else:
            host, port = parse_listen(wanted, "mobility")
            self._listener = listen_tcp(host, port)
            port = self._listener.getsockname()[1]
            self.address = f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"

    def __repr__(self) -> str:
        return f"SocketPeers({self.address or 'does not listen'})"

    async def dial(self, address: str) -> trio.abc.Stream:
        """Return a connection to another system; OSError if it is not reached."""
        if address.startswith("unix:"):
            return await trio.open_unix_socket(address.removeprefix("unix:"))
        return await trio.open_tcp_stream(*parse_listen(address, "address"))

    async def run(self, machine: Machine) -> None:
        """Accept connections of other systems until `close`; each ends with the machine at the latest."""
        listener = self._listener
        if listener is None:
            return
        with self._scope:
            while listener.fileno() >= 0:
                await wait_readable(listener)
                # While the console's imports run, the freed descriptors are for them.  An accept would take
                # one.
                await machine.reserve.wait_whole()
                try:
                    accepted, _ = listener.accept()
                except (BlockingIOError, ConnectionError):
                    continue
                except OSError as error:
                    _log.error("migration.not_accepted", reason=error.strerror or str(error))
                    await trio.sleep(PAUSE)
                    continue
                await self._serve(machine, accepted)

    def close(self) -> None:
        """Accept no more, and remove the socket."""
        self._scope.cancel()
        if self._file:
            self._file.remove()
        if self._listener and self._listener.fileno() >= 0:
            trio.lowlevel.notify_closing(self._listener)
            self._listener.close()

    def _listen_unix(self, path: Path, *, taken: bool) -> None:
        size = len(os.fsencode(path))
        if taken or size > LONGEST_SOCKET_PATH:
            reason = f"{path} is that of a partition" if taken else f"socket path {path} has {size} bytes"
            _log.warning("migration.not_listening", reason=reason)
            return
        self._listener = listen_unix(path)
        self._file = SocketFile(path)
        self.address = f"unix:{path}"

    async def _serve(self, machine: Machine, accepted: socket.socket) -> None:
        """Begin to serve a connection; the first one waits until the package `mobility` is loaded."""
        try:
            if not self._loaded:
                await loaded(_load, machine.reserve)
                self._loaded = True
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        except Exception as error:  # only this connection fails, and the other end dials again
            if not isinstance(error, OSError) or error.errno not in (errno.ECONNRESET, errno.EINVAL):
                _log.error("migration.not_loaded", exc_info=error)
            accepted.close()
            return
        except trio.Cancelled:
            accepted.close()
            raise
        machine.run_beside(partial(machine.migrations.serve, stream))


def _load() -> None:
    """Import the package `mobility`; runs in a thread."""
    import hcall_server.mobility.migrations  # noqa: F401
