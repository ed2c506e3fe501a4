"""A real server process on real Unix sockets.  Tests kill it, stop it, and start it again.

Its functions block, so that tests with and without an event loop can use them.  A start takes a fraction of a
second: it waits for the line that the server writes when every socket listens.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_abi.mistakes import UnknownName, check_text, listed
from hcall_abi.rules.console import POWER_RUNNING
from swpks.testing.at_caller import async_block, at_caller
from swpks.testing.options import check_own_options, check_words, faults_of
from swpks.testing.own_process import NotRunning, OwnProcess, ServerFailed, check_command, run_swpks
from swpks.testing.server_snapshot import start_snapshot

if TYPE_CHECKING:
    from hcall_abi.control_views import PartitionView
    from hcall_client.blocking import BlockingChannel
    from hcall_client.channel import Channel
    from hcall_client.console import BlockingConsole, ConsoleRequest

__all__ = ["ServerFailed", "ServerProcess"]


_OWN = {
    "--state": "its folder is the member `state`; for another one, write ServerProcess(FOLDER)",
    "--ready-fd": "the fields of the ready line are the member `ready`",
}
"""The options that the process object sets, and the remedies."""
_ONE = ("lpar1:64",)
"""The partitions of a server without a snapshot, if none are given."""
_AGAIN = "write start(), and open another session"


class NoSuchPartition(UnknownName, FileNotFoundError):
    """The server has no socket for a partition of this name now.

    It is a FileNotFoundError too: programs that wait for a socket catch that.
    """


class ServerDown(NotRunning, ConnectionRefusedError):
    """The server has run, and does not run now.

    It is a ConnectionRefusedError too: programs that wait for a server catch that.
    """


_ENDS: dict[int | None, str] = {
    GoodbyeReason.IPL_OR_POWER_OFF: "each IPL and each power-off ends all sessions: open another one by "
    "connect() or connect_blocking()",
    GoodbyeReason.SERVER_STOPPING: _AGAIN,
    None: f"if the test has killed the server: {_AGAIN}",
}


class ServerProcess(OwnProcess):
    """A `swpks serve` process over one state folder.

    `partitions` are NAME:KBYTES as on the command line; `options` are further options.  `snapshot` is the
    file of a portable snapshot: the first start loads it into the new state.  `ready` has the fields that the
    server wrote to --ready-fd.  WrongOption for a text in place of a list.
    """

    @at_caller
    def __init__(
        self,
        state: Path,
        partitions: Sequence[str] = _ONE,
        options: Sequence[str] = (),
        snapshot: Path | str | None = None,
        passphrase: str | None = None,
    ) -> None:
        super().__init__(state)
        self.state = state
        self._to_load = start_snapshot(snapshot, passphrase)
        if self._to_load and partitions is _ONE:
            partitions = ()
        self.partitions = list(check_words("partitions", partitions, '["lpar1:64"]'))
        self.options = list(check_words("options", options, '["--firmware", "FW950"]'))
        check_own_options(self.options, _OWN)

    @property
    def command(self) -> list[str]:
        """The words of the command line after `swpks`."""
        named = [word for partition in self.partitions for word in ("--partition", partition)]
        return ["serve", "--state", str(self.state), *named, *self.options]

    @property
    def _sockets(self) -> list[Path]:
        """The sockets of the console and of the partitions in `partitions`."""
        names = (re.split("[:,]", each)[0] for each in self.partitions)
        return [self.control_socket, *map(self.socket, names)]

    @at_caller
    def socket(self, name: str = "lpar1") -> Path:
        """Return the path of a partition's Unix socket; the partition need not exist."""
        check_text("the name of a partition", name)
        return self.state / "run" / f"{name}.sock"

    @property
    def control_socket(self) -> Path:
        """The path of the control channel's Unix socket."""
        return self.socket("control")

    @at_caller
    def access_key(self, name: str = "lpar1") -> bytes:
        """Return the access key of a partition, which its clients need over TCP."""
        keys = self.state / "access-keys"
        known = sorted(path.stem for path in keys.glob("*.key"))
        self._check_name(name, known)
        if name not in known:
            raise NoSuchPartition(f"the server has no key of {name!r}; it has those of {listed(known)}")
        return bytes.fromhex((keys / f"{name}.key").read_text("ascii"))

    @at_caller
    def start(self) -> ServerProcess:
        """Start the server and wait until it is ready; ServerFailed if it does not become ready.

        The first start loads the snapshot, if one was given.
        """
        self.spawn()
        if self._to_load:
            try:
                self._to_load.load(self.state, self.console)
            except ServerFailed:
                self.kill()
                raise
            self._to_load = None
        return self

    @at_caller
    def restart(self) -> ServerProcess:
        """Stop the server if it runs, and start it again on the same state."""
        if self.pid is not None:
            self.stop()
        return self.start()

    @at_caller
    def connect(self, name: str = "lpar1") -> AbstractAsyncContextManager[Channel]:
        """Open an asynchronous session with a partition, for the length of a block."""
        self._check_served(name)
        return self._connect(name)

    @async_block
    async def _connect(self, name: str) -> AsyncIterator[Channel]:
        from hcall_client.channel import open_channel

        async with open_channel(self.socket(name), name="test") as channel:
            channel.advise(_ENDS)
            yield channel

    @at_caller
    def connect_blocking(self, name: str = "lpar1", timeout: float = 20.0) -> BlockingChannel:
        """Open a blocking session with a partition."""
        from hcall_client.blocking import BlockingChannel

        self._check_served(name)
        channel = BlockingChannel.connect(self.socket(name), name="test", timeout=timeout)
        channel.advise(_ENDS)
        return channel

    @at_caller
    def run(self, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run another `swpks` command for this state, such as ``run("hmc", "ipl", "lpar1")``.

        The command gets the state in SWPKS_STATE, and `data` as its standard input.
        """
        return run_swpks(list(arguments), data, SWPKS_STATE=str(self.state))

    @at_caller
    def hmc(self, *arguments: str) -> str:
        """Run `swpks hmc` with these words, such as ``hmc("power", "lpar1", "off")``; return its output.

        ServerFailed if the command fails, ServerDown if the server has ended.
        """
        check_command(arguments)
        self._check_running()
        done = self.run("hmc", *arguments)
        if done.returncode:
            raise ServerFailed(f"swpks hmc {' '.join(arguments)}: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    @property
    @at_caller
    def console(self) -> BlockingConsole:
        """A client of the server's control socket, such as ``console.call(power_off("lpar1"))``."""
        from hcall_client.console import BlockingConsole

        self._check_running()
        return BlockingConsole(self.control_socket)

    @at_caller
    def ipl(self, name: str = "lpar1") -> None:
        """Restart a partition: its sessions end, and its passwords are cleared."""
        from hcall_client.console import ipl

        self._ask(ipl(name))

    @at_caller
    def set_faults(self, *faults: str, name: str = "lpar1") -> None:
        """Give a partition a fault plan, such as ``set_faults("READ_OBJECT=H_BUSY,nth=2")``.

        Without arguments, remove the plan.
        """
        from hcall_client.console import set_faults

        self._ask(set_faults(name, faults_of(faults)))

    def _ask(self, request: ConsoleRequest[PartitionView]) -> None:
        """Make a request on the control socket; ServerFailed if the server refuses it."""
        self._check_running()
        try:
            self.console.call(request)
        except SwpksError as error:
            message, known = f"{request.verb.operation} {request.name}: {error}", ""
            if error.rule is POWER_RUNNING:
                known = f"; {self._on(request.name)}"
            elif request.name not in self._names():
                known = f"; the partitions are {listed(self._names())}"
            raise ServerFailed(message + known) from None

    def _on(self, name: str) -> str:
        return f'{name} is powered off: write hmc("power", "{name}", "on") first'

    def _names(self) -> list[str]:
        """Return the names of the partitions that have a socket."""
        # `control` and `mobility` are sockets of the server, not of a partition. But if the ready line has
        # "mobility", a partition has that name.
        names = {path.stem for path in self.socket().parent.glob("*.sock")} - {"control"}
        return sorted(names - ({"mobility"} - self.ready.get("sockets", {}).keys()))

    def _check_served(self, name: str) -> None:
        """Raise the errors of `_check_name` if the name has no socket, ServerDown if the server has ended."""
        check_text("the name of a partition", name)
        self._check_running()
        self._check_name(name, self._names())

    def _check_running(self) -> None:
        """Raise ServerDown if the server has ended, NotRunning if it was never started."""
        if self._process is None and not self._names():
            raise NotRunning("the server was never started: write start() first")
        ended = self._process is not None and self.pid is None
        if ended and self._starter == os.getpid():  # a forked process can't know whether the server runs
            raise ServerDown("the server does not run: write start() first")

    def _check_name(self, name: str, known: Sequence[str]) -> None:
        """Raise NoSuchPartition if the running server has no partition of this name.

        NotRunning if this object never started a server, and `known` is empty.  If `known` is not empty,
        another server uses the same folder, and the name is not checked.
        """
        check_text("the name of a partition", name)
        if self._process is None and not known:
            raise NotRunning("the server was never started: write start() first")
        if self.pid is not None and name not in known:
            if name in self.ready.get("partitions", ()):  # it has no socket while it is off
                raise NoSuchPartition(self._on(name))
            mark = f"@pytest.mark.swpks_server(partitions={[*self.partitions, f'{name}:64']})"
            message = f"the server has no partition {name!r}; it has {listed(known)}"
            raise NoSuchPartition(f"{message}: name one of them, or write {mark}")
