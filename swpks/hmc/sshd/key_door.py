"""The door with keys: Debian's sshd serves each connection (spec/console.md#the-ssh-door)."""

# Why one sshd for each connection
#
# `sshd -D` would listen and fork itself.  But its sessions outlive its stop, it takes no port 0, and a port
# below 1024 needs root for its whole life.  So this process owns the socket, and starts `sshd -i` for each
# connection, as inetd does.  It costs no more: a listening sshd starts itself anew for each connection too.
# Each sshd is a child of this process, so a stop ends all sessions at once.

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import IO, cast

import trio

from hcall_server.machine.logs import Log
from hcall_server.machine.noise import Allowance, PeerLog
from hcall_server.process.signals import hold_stop_signals, stop_signals
from swpks.hmc.accepting import next_connection
from swpks.hmc.sshd.children import REAP_SECONDS, adopt_orphans, end_orphans, reap
from swpks.hmc.sshd.layout import SSHD

MAX_CONNECTIONS = 64
"""Connections at once; further ones wait in the queue of the socket."""
_LINES = 32
"""Lines of one sshd that are logged."""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

_log = Log()


async def serve(listener: socket.socket, configuration: str, ready: Callable[[], None]) -> None:
    """Serve connections until a stop signal comes; then end every session."""
    door = KeyDoor(listener, configuration)
    adopt_orphans()
    try:
        with trio.open_signal_receiver(*stop_signals()) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.accept, nursery)
                nursery.start_soon(door.reap)
                ready()
                number = await anext(aiter(signals))
                hold_stop_signals()
                _log.info("door.stopping", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()
    finally:
        end_orphans(())


class KeyDoor:
    """Accepts connections and gives each to an sshd with this configuration file."""

    def __init__(self, listener: socket.socket, configuration: str) -> None:
        self._listener = listener
        self._command = [SSHD, "-i", "-e", "-f", configuration]
        self._places = trio.Semaphore(MAX_CONNECTIONS)
        self._own: set[int] = set()
        self._said = PeerLog(Allowance(time.monotonic), _log)

    async def accept(self, nursery: trio.Nursery) -> None:
        """Accept connections until cancelled."""
        while True:
            await self._places.acquire()
            stream = await next_connection(self._listener, "login.not_accepted")
            nursery.start_soon(self._serve, stream)

    async def reap(self) -> None:
        """Collect ended processes of running sessions, until cancelled."""
        while True:
            await trio.sleep(REAP_SECONDS)
            reap(self._own)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            process = self._started(stream)
        except OSError as error:
            self._said.warning("login.not_served", reason=error.strerror or str(error))
        else:
            await self._watch(process)
        finally:
            self._places.release()

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of an sshd, then end the rest of its session."""
        try:
            await self._ended(process)
        finally:
            # Nothing waits between these lines: no other task starts a process before the orphans are gone.
            process.kill()
            process.wait()
            self._own.discard(process.pid)
            end_orphans(self._own)

    def _started(self, stream: trio.SocketStream) -> subprocess.Popen[bytes]:
        """Return the sshd of a connection.  Popen and the note of its id are one step for `end_orphans`."""
        try:
            # sshd shares the open socket, and expects one that blocks.
            os.set_blocking(stream.socket.fileno(), True)
            process = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=stream.socket.fileno(),
                stdout=stream.socket.fileno(),
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        finally:
            stream.socket.close()
        self._own.add(process.pid)
        return process

    async def _ended(self, process: subprocess.Popen[bytes]) -> None:
        """Log the lines of an sshd until it ends.  It holds the pipe as long as it lives."""
        rest, lines = b"", 0
        errors = cast(IO[bytes], process.stderr)
        descriptor = os.dup(errors.fileno())
        errors.close()
        async with trio.lowlevel.FdStream(descriptor) as stream:
            while data := await stream.receive_some(4096):
                *whole, rest = (rest + data)[-4096:].split(b"\n")
                for line in whole:
                    lines += 1
                    if lines <= _LINES:
                        self._said.info("sshd.reported", text=line.decode("utf-8", "replace").strip())
