"""Helpers of the tests that start whole processes."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hcall_client.blocking import BlockingChannel
from hcall_client.console import BlockingConsole, show_metrics


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a server that ends by itself, and return its status and output."""
    command = [sys.executable, "-m", "swpks", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


REDIRECTED = 'exec "$@" {}'
"""A line for the shell: run the command with other standard streams."""


@contextmanager
def served(state: Path, *options: str, streams: str = "", trap: str = "", **popen: Any) -> Iterator["Served"]:
    """Let a shell start a server with other streams, and yield it when it is ready or has ended.

    `streams` are redirections, such as ``2>&-``. `trap` is a line of the shell that precedes them.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "swpks", "serve", "--state", str(state), "--ready-fd", str(writer)]
    script = f"{trap}\n{REDIRECTED.format(streams)}"
    words = ["sh", "-c", script, "sh", *command, "--partition", "alpha:64", *options]
    process = subprocess.Popen(words, pass_fds=[writer], **popen)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as ready:
            yield Served(state, process, json.loads(ready.read() or b"{}"))
    finally:
        process.kill()
        process.communicate()


class Served(NamedTuple):
    """A server that `served` started. `ready` is empty if the server has ended instead."""

    state: Path
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]

    def connect(self, name: str = "test", partition: str = "alpha") -> BlockingChannel:
        """Open a session with a partition."""
        return BlockingChannel.connect(self.state / "run" / f"{partition}.sock", name=name, timeout=20)

    def metric(self, name: str) -> float:
        """Return one metric that has no labels."""
        console = BlockingConsole(self.state / "run" / "control.sock")
        lines = [line.split(" ") for line in console.call(show_metrics()).splitlines()]
        return next(
            float(value) for each, value in (line for line in lines if len(line) == 2) if each == name
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(20)
