"""A real server process on real Unix sockets, to be killed, stopped and started again by tests.

It is synchronous, so that tests of both channels can use it.  A start takes a fraction of a second.  It waits
for the line that the server writes when every socket listens.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import SwpksError
from hcall_abi.faults import parse_fault
from swpks.testing.options import check_words
from swpks.testing.own_process import OwnProcess, ServerFailed, run_swpks

if TYPE_CHECKING:
    from hcall_abi.control_views import PartitionView
    from hcall_client.blocking import BlockingChannel
    from hcall_client.channel import Channel
    from hcall_client.console import BlockingConsole, ConsoleRequest

__all__ = ["ServerFailed", "ServerProcess"]


class ServerProcess(OwnProcess):
    """A `swpks serve` process over one state folder.

    `partitions` are NAME:KBYTES as on the command line; `options` are more of its options.
    `ready` holds the fields that the server wrote to --ready-fd.  WrongOption for a text in place of a list.
    """

    def __init__(
        self,
        state: Path,
        partitions: Sequence[str] = ("lpar1:64",),
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(state)
        self.state = state
        self.partitions = list(check_words("partitions", partitions, '["lpar1:64"]'))
        self.options = list(check_words("options", options, '["--firmware", "FW950"]'))

    @property
    def command(self) -> list[str]:
        """The words behind `swpks`."""
        named = [word for partition in self.partitions for word in ("--partition", partition)]
        return ["serve", "--state", str(self.state), *named, *self.options]

    def socket(self, name: str = "lpar1") -> Path:
        """Return the path of a partition's Unix socket."""
        return self.state / "run" / f"{name}.sock"

    @property
    def control_socket(self) -> Path:
        """The path of the control channel's Unix socket."""
        return self.socket("control")

    def access_key(self, name: str = "lpar1") -> bytes:
        """Return the key with which clients of a partition prove themselves over TCP."""
        return bytes.fromhex((self.state / "access-keys" / f"{name}.key").read_text("ascii"))

    def start(self) -> ServerProcess:
        """Start the server and wait until it is ready; ServerFailed when it is not."""
        self.spawn()
        return self

    def restart(self) -> ServerProcess:
        """Stop the server if it runs, and start it again on the same state."""
        if self.pid is not None:
            self.stop()
        return self.start()

    def connect(self, name: str = "lpar1") -> AbstractAsyncContextManager[Channel]:
        """Open an asynchronous session with a partition, for the length of a block."""
        from hcall_client.channel import open_channel

        return open_channel(self.socket(name), name="test")

    def connect_blocking(self, name: str = "lpar1", timeout: float = 20.0) -> BlockingChannel:
        """Open a blocking session with a partition."""
        from hcall_client.blocking import BlockingChannel

        return BlockingChannel.connect(self.socket(name), name="test", timeout=timeout)

    def run(self, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run another `swpks` command against this state, such as ``run("hmc", "ipl", "lpar1")``.

        SWPKS_STATE tells it where the state is; `data` is its standard input.
        """
        return run_swpks(list(arguments), data, SWPKS_STATE=str(self.state))

    def hmc(self, *arguments: str) -> str:
        """Run `swpks hmc` with these words, such as ``hmc("power", "lpar1", "off")``; return its output.

        ServerFailed when it refuses.
        """
        done = self.run("hmc", *arguments)
        if done.returncode:
            raise ServerFailed(f"swpks hmc {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout.decode()

    @property
    def console(self) -> BlockingConsole:
        """The management console of the server, such as ``console.call(power_off("lpar1"))``."""
        from hcall_client.console import BlockingConsole

        return BlockingConsole(self.control_socket)

    def ipl(self, name: str = "lpar1") -> None:
        """Restart a partition, which ends its sessions and forgets its passwords."""
        from hcall_client.console import ipl

        self._ask(ipl(name))

    def set_faults(self, *faults: str, name: str = "lpar1") -> None:
        """Give a partition a fault plan, such as ``set_faults("READ_OBJECT=H_BUSY,nth=2")``; none ends it."""
        from hcall_client.console import set_faults

        self._ask(set_faults(name, map(parse_fault, faults)))

    def _ask(self, request: ConsoleRequest[PartitionView]) -> None:
        """Make a request of the console; ServerFailed when it is refused."""
        try:
            self.console.call(request)
        except SwpksError as error:
            raise ServerFailed(f"{request.verb.operation} {request.name}: {error}") from None
