"""A real server process on real Unix sockets, to be killed, stopped and started again by tests.

It is synchronous, so that tests of both channels can use it.  A start takes a fraction of a second.  It waits
for the line that the server writes when every socket listens.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcall_abi.errors import SwpksError
from hcall_abi.faults import parse_fault

if TYPE_CHECKING:
    from hcall_abi.control_bodies import PartitionView
    from hcall_client.blocking import BlockingChannel
    from hcall_client.channel import Channel
    from hcall_client.console import BlockingConsole, ConsoleRequest

START_SECONDS = 20.0
"""Longest wait for a server to become ready; generous, because test machines are busy."""
STOP_SECONDS = 20.0
"""Longest wait for a server to end after SIGTERM."""
LOG_SECONDS = 20.0
"""Longest wait for a line of the log."""

_COMMAND = (sys.executable, "-m", "swpks")


def _pipe() -> tuple[int, int]:
    """Return a pipe above the standard streams, which the server gets from elsewhere."""
    low = os.pipe()
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in low)
    for end in low:
        os.close(end)
    return reader, writer


class ServerFailed(Exception):
    """A server process did not start or did not end; the text holds the end of its log."""


class ServerProcess:
    """A `swpks serve` process over one state folder.

    `partitions` are NAME:KBYTES as on the command line; `options` are more of its options.
    `ready` holds the fields that the server wrote to --ready-fd.
    """

    def __init__(
        self,
        state: Path,
        partitions: Sequence[str] = ("lpar1:64",),
        options: Sequence[str] = (),
    ) -> None:
        self.state = state
        self.partitions = list(partitions)
        self.options = list(options)
        self.ready: dict[str, Any] = {}
        self.log_path = state.with_name(state.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"ServerProcess({self.state}, pid {self.pid})"

    @property
    def pid(self) -> int | None:
        """The process id, None while no process runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> str:
        """The server's standard error so far.

        A server writes its log behind its answers, so only that of a stopped server is complete: see
        `log_lines`.  A server that is killed may leave its last lines unwritten.
        """
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def log_lines(self, text: str, least: int = 1) -> list[str]:
        """Wait until the log has at least `least` lines with this text; return all that it has.

        ServerFailed if they do not come in LOG_SECONDS.
        """
        deadline = time.monotonic() + LOG_SECONDS
        while len(found := [line for line in self._whole_lines() if text in line]) < least:
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"the log has {len(found)} lines with {text!r}, not {least}\n{self._tail()}"
                )
            time.sleep(0.002)
        return found

    def _whole_lines(self) -> list[str]:
        whole, _, _ = self.log.rpartition("\n")
        return whole.splitlines()

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
        if self.pid is not None:
            raise ServerFailed("the server runs already")
        reader, writer = _pipe()
        try:
            self._process = self._spawn(writer)
        finally:
            os.close(writer)
        try:
            self.ready = self._wait_ready(reader)
        except BaseException:
            self.kill()
            raise
        finally:
            os.close(reader)
        return self

    def kill(self) -> None:
        """Kill the server as a power cut would, with SIGKILL; nothing when it does not run."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """End the server with SIGTERM, wait, and return its exit status; ServerFailed if it hangs."""
        if not self._process:
            raise ServerFailed("the server was never started")
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"the server did not stop in {STOP_SECONDS:g} s\n{self._tail()}") from None

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
        environment = {**os.environ, "SWPKS_STATE": str(self.state)}
        command = [*_COMMAND, *arguments]
        return subprocess.run(  # noqa: S603 - our own interpreter and program
            command, input=data, capture_output=True, env=environment, check=False, timeout=60
        )

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

    def _spawn(self, ready_fd: int) -> subprocess.Popen[bytes]:
        command = [*_COMMAND, "serve", "--state", str(self.state), "--ready-fd", str(ready_fd)]
        for partition in self.partitions:
            command += ["--partition", partition]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [*command, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_fd],
            )

    def _wait_ready(self, reader: int) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([reader], [], [], START_SECONDS)[0]:
                raise ServerFailed(f"the server was not ready in {START_SECONDS:g} s\n{self._tail()}")
            piece = os.read(reader, 65536)
            if not piece:
                raise ServerFailed(f"the server ended before it was ready\n{self._tail()}")
            line += piece
        told = json.loads(line)
        return told if isinstance(told, dict) else {}

    def _tail(self) -> str:
        return self.log[-4000:]
