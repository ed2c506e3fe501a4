"""Accepts connections, with one task for each listening socket.

A partition's own socket exists while the partition is powered on.  A socket that a service manager passed
stays open while the server runs.  If its partition is powered off, OPEN at this socket is answered with
status 3.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio
from trio.lowlevel import wait_readable

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_server.data_channel.connection import Connection
from hcall_server.data_channel.lane import Lane
from hcall_server.data_channel.opening import ListenerFacts
from hcall_server.data_channel.reaper import reap
from hcall_server.data_channel.sockets import SocketFile, bound_path, listen_unix, remove_quietly
from hcall_server.data_channel.stream import SocketStream
from hcall_server.machine import logs
from hcall_server.machine.noise import PeerLog
from hcall_server.machine.sessions import Entrance

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition

PAUSE = 0.1
"""Seconds to wait if the system has no free descriptor."""

_log = logs.Log()


class KeyFiles(Protocol):
    """The store of access keys for clients; raises SwpksError if it can't be used."""

    def publish(self, name: str, key: bytes) -> None:
        """Write the key of the partition `name`."""

    def known(self, name: str) -> bytes | None:
        """Return the key that was written for a partition, None if there is none."""

    def names(self) -> list[str]:
        """Return the names of all partitions that a key was written for."""

    def forget(self, name: str) -> None:
        """Remove the key of a partition."""


class Listeners:
    """The listening sockets of a server; the `Transport` of its machine.

    `folder` is the folder of private sockets, `keys` the store of access keys for clients.  A private socket
    that exists before `run` is served as soon as `run` begins; all others as soon as `begin` is called.
    """

    def __init__(self, folder: Path, keys: KeyFiles) -> None:
        self._folder = folder
        self._keys = keys
        self._serving: tuple[trio.Nursery, Machine, Lane] | None = None
        self._own: dict[str, _Listener] = {}
        self._passed: dict[str, Path | None] = {}
        self._common: list[_Listener] = []
        self._reserved: dict[str, socket.socket] = {}
        self._begun = False
        self._closed = False

    def publish_key(self, partition: Partition) -> None:
        """Write a partition's access key for its clients; do nothing if it has no key."""
        if partition.access_key:
            self._keys.publish(partition.name, partition.access_key)

    def known_key(self, name: str) -> bytes | None:
        """Return the access key that a partition's clients have, None if they have no key."""
        return self._keys.known(name)

    def known_names(self) -> list[str]:
        """Return the names of all partitions whose clients have a key."""
        return self._keys.names()

    def forget_key(self, name: str) -> None:
        """Remove the key that was stored under a name that no partition has any more."""
        self._keys.forget(name)

    def rename_passed(self, before: str, after: str) -> None:
        """Assign the socket that was passed for a partition to the partition's new name."""
        if before in self._passed:
            self._passed[after] = self._passed.pop(before)
        if before in self._reserved:
            self.close_passed(after)  # no partition had this name, so this socket has no clients
            self._reserved[after] = self._reserved.pop(before)

    def close_passed(self, name: str) -> None:
        """Close the socket that was passed for a partition, because the partition was deleted."""
        self._passed.pop(name, None)
        for listener in [each for each in self._common if each.owner == name]:
            self._common.remove(listener)
            listener.stop()
        reserved = self._reserved.pop(name, None)
        if reserved:
            reserved.close()

    async def run(
        self, machine: Machine, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept and serve connections, and end those past their deadline, until cancelled."""
        with closing(Lane(machine.turns)) as lane:
            await self._run(machine, lane, task_status)

    async def _run(self, machine: Machine, lane: Lane, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self._serving = nursery, machine, lane
            for listener in [*self._own.values(), *(self._common if self._begun else ())]:
                self._start(listener)
            nursery.start_soon(reap, machine)
            nursery.start_soon(machine.turns.run)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._serving = None

    def begin(self) -> None:
        """Serve the passed sockets and those of all partitions; until then their connections wait.

        The caller has activated the partitions that start by themselves.  A service manager starts a server
        at the first connection: its OPEN would otherwise be refused, because the partition is still off.
        """
        self._begun = True
        for listener in self._common:
            self._start(listener)

    def path(self, name: str) -> Path:
        """Return the path of a partition's private socket."""
        return self._folder / f"{name}.sock"

    @property
    def paths(self) -> dict[str, str]:
        """The paths of the open private sockets, by partition; passed sockets are included."""
        passed = {name: str(path) for name, path in self._passed.items() if path}
        return {name: str(self.path(name)) for name in self._own} | passed

    def address(self, name: str) -> str:
        """Return the address of a partition's private socket, such as "unix:/lab/run/a.sock".

        If the partition is powered off, its socket need not exist yet.  The result is then the address that
        `open` gives the socket.

        Return "" after `close_all`.  Return "" also if the socket was passed and has no path.
        """
        if self._closed:
            return ""
        passed = self._reserved.get(name)
        path = bound_path(passed) if passed else self._passed.get(name, self.path(name))
        return f"unix:{path}" if path else ""

    def open(self, partition: Partition) -> None:
        """Make a partition's private socket and serve it.

        If a socket was passed for the partition, serve that one instead.  OperatorError if the server stops,
        or if the socket can't be made.  ScarcityError if the host lacks a resource for it.
        """
        if self._closed:
            raise OperatorError(rules.STOP_SOCKETS, f"{partition.name} cannot be reached: the server stops")
        if partition.name in self._own or partition.name in self._passed:
            return
        if partition.name in self._reserved:
            self.adopt(self._reserved.pop(partition.name), partition)
            return
        path = self.path(partition.name)
        with ExitStack() as undo:
            listening = undo.enter_context(listen_unix(path))
            undo.callback(remove_quietly, path)
            listener = _Listener(listening, partition, path)
            undo.pop_all()
        self._own[partition.name] = listener
        self._start(listener)

    def close(self, partition: Partition) -> None:
        """Stop serving a partition's private socket and remove it."""
        found = self._own.pop(partition.name, None)
        if found:
            found.remove()
            found.stop()

    def adopt(self, passed: socket.socket, partition: Partition) -> None:
        """Serve a socket that was passed for one partition."""
        self._passed[partition.name] = bound_path(passed)
        self._share(_Listener(passed, partition))

    def reserve(self, passed: socket.socket, name: str) -> None:
        """Store a socket that was passed for a future partition; `open` will serve it."""
        self._reserved[name] = passed

    def share(self, common: socket.socket) -> None:
        """Serve a socket for all partitions.

        Each OPEN at it must name its partition, and must have a proof.
        """
        self._share(_Listener(common, None))

    def close_all(self) -> None:
        """Close all listening sockets for good, and remove the files of private sockets."""
        self._closed = True
        for listener in [*self._own.values(), *self._common]:
            listener.remove()
            listener.stop()
        self._own.clear()
        self._common.clear()

    def _share(self, listener: _Listener) -> None:
        self._common.append(listener)
        if self._begun:
            self._start(listener)

    def _start(self, listener: _Listener) -> None:
        if self._serving:
            nursery, machine, lane = self._serving
            nursery.start_soon(listener.accept, nursery, machine, lane)


class _Listener:
    """One listening socket, of one partition or of all (None).

    `path` is the path of a Unix socket that this server has made, None for any other socket.
    """

    def __init__(
        self, listening: socket.socket, partition: Partition | None, path: Path | None = None
    ) -> None:
        self._socket = listening
        self._partition = partition
        self._file = SocketFile(path) if path else None
        self._scope = trio.CancelScope()

    @property
    def owner(self) -> str | None:
        """The name of its partition, None for a listener of all partitions."""
        return self._partition.name if self._partition else None

    def remove(self) -> None:
        """Remove the file of the socket, if this server made it; call this before `stop`."""
        if self._file:
            self._file.remove()

    def stop(self) -> None:
        """Accept no more, and close the socket."""
        self._scope.cancel()
        # Trio has to forget the descriptor before it is closed, because another file may get its number at
        # once.
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

    def _is_closed(self) -> bool:
        return self._socket.fileno() < 0

    async def accept(self, nursery: trio.Nursery, machine: Machine, lane: Lane) -> None:
        """Accept connections until `stop`, each served by a task of its own.

        While all places of this listener are taken, further connections wait in the kernel's queue.
        """
        entrance, facts = Entrance(machine.limits.max_unopened), self._facts()
        log = PeerLog(machine.noise.of(facts.source), _log)
        with self._scope:
            while not self._is_closed():  # `stop` may be called before this task begins
                await wait_readable(self._socket)
                # This wait comes before the accept.  A connection in the kernel's queue needs no descriptor,
                # and the queue has the right order.
                await entrance.wait_place()
                # The reserve of descriptors must be whole first.  Otherwise a guest could take the descriptor
                # that the console needs for its next request.
                await machine.reserve.wait_whole()
                try:
                    accepted, _ = self._socket.accept()
                except (BlockingIOError, ConnectionError):
                    continue
                except OSError as error:
                    if self._is_closed():
                        return
                    log.error("connection.not_accepted", reason=error.strerror or str(error))
                    await trio.sleep(PAUSE)
                    continue
                if accepted.family != socket.AF_UNIX and not _tuned(accepted):
                    accepted.close()
                    continue
                # The connection is made here, and not in its task, because it must take its place before the
                # next accept.
                connection = Connection(machine, SocketStream(accepted), facts, entrance, lane)
                nursery.start_soon(connection.run)

    def _facts(self) -> ListenerFacts:
        # At a private Unix socket, the mode of the file (0600) decides who can connect.  So no proof is
        # needed there.  Clients of other partitions can reach every other listener.
        private = self._socket.family == socket.AF_UNIX and self._partition is not None
        return ListenerFacts(self._partition, demand_proof=not private, listener=_address(self._socket))


def _address(listening: socket.socket) -> str:
    """Return the address of a listening socket, for the log; "closed" if it is closed."""
    try:
        address = listening.getsockname()
    except OSError:
        return "closed"
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)


def _tuned(accepted: socket.socket) -> bool:
    """Set the options of a TCP connection for small frames; False if the connection has ended."""
    try:
        # An answer is a small frame.  With Nagle's algorithm it would wait for an ACK of the client.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except OSError:
        return False
    return True


def assign(
    passed: list[tuple[str, socket.socket]], partitions: list[str]
) -> tuple[dict[str, socket.socket], list[socket.socket], socket.socket | None]:
    """Return the passed sockets: private ones by partition, those for all ("tcp"), and that for "control".

    A socket's name may be that of a systemd unit (`_owner`).  OperatorError for a name that fits nothing.
    """
    private: dict[str, socket.socket] = {}
    common: list[socket.socket] = []
    control: socket.socket | None = None
    names = set(partitions)
    alone = partitions[0] if len(passed) == len(partitions) == 1 else None
    for name, listener in passed:
        owner = _owner(name, names, alone)
        if owner == "control" and control is None:
            if listener.family != socket.AF_UNIX:
                raise OperatorError(rules.SOCKET_CONTROL, f"the socket passed as {name!r} is none of Unix")
            control = listener
        elif owner == "tcp":
            common.append(listener)
        elif owner in names and owner not in private:
            private[owner] = listener
        else:
            raise OperatorError(rules.SOCKET_OWNER, f"a socket was passed under the name {name!r}")
    return private, common, control


def _owner(name: str, partitions: set[str], alone: str | None) -> str | None:
    """Return what a passed socket is for: a partition, "control" or "tcp"; None if its name fits none.

    The name is tried as it is, then without the suffix ".socket" of a unit, then without the prefix "swpks-"
    too.

    If there is one partition and one socket, `alone` is the name of the partition.  In this case an empty
    name, or the unit of the service itself (`swpks.socket`), means the partition.
    """
    unit = name.removesuffix(".socket")
    for each in (name, unit, unit.removeprefix("swpks-")):
        if each in partitions or each in ("control", "tcp"):
            return each
    return alone if unit in ("", "swpks") else None
