"""The client under judgement: its two pipes, and its process."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod

from hcall_abi.errors import PeerError
from hcall_abi.rules.service import CONFORMANCE_CLIENT

END_SECONDS = 1.0
"""Seconds that a client has to end after `quit` and the end of its standard input."""


class ClientNotStarted(PeerError):
    """The client could not be started, or did not answer the command `begin`."""

    def __init__(self, message: str) -> None:
        super().__init__(CONFORMANCE_CLIENT, message)


class Endpoint(ABC):
    """A running client: it owns the descriptors of the client's standard input and output."""

    def __init__(self, commands: int, reports: int) -> None:
        self.commands = commands
        self.reports = reports
        os.set_blocking(commands, False)
        os.set_blocking(reports, False)

    @abstractmethod
    def fate(self) -> str:
        """Return in words how the client ended; the judge calls it after the end of the client's output."""

    @abstractmethod
    def end(self, *, kill: bool) -> None:
        """End the client and close both descriptors."""

    def close(self) -> None:
        """Close both descriptors."""
        os.close(self.commands)
        os.close(self.reports)


class ProcessEndpoint(Endpoint):
    """A client in its own process, which the shell starts; it shares the judge's standard error."""

    def __init__(self, command: str) -> None:
        # The client gets its own process group: the shell may start it as a child, and both have to end.
        self._process = subprocess.Popen(  # noqa: S603 - the command line of the user
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ClientNotStarted("the client has no pipes")
        # Copies of the descriptors: Popen closes its own with its file objects, and this object must own
        # them.
        super().__init__(os.dup(stdin.fileno()), os.dup(stdout.fileno()))
        stdin.close()
        stdout.close()

    def fate(self) -> str:
        """Return the exit status, or a note that the client closed its output and still runs."""
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "it has closed its standard output and still runs"
        if status < 0:
            return f"it was ended by {signal.Signals(-status).name}"
        return f"its exit status is {status}"

    def end(self, *, kill: bool) -> None:
        """End the client by closing its standard input.

        If it still runs after `END_SECONDS`, SIGKILL ends its process group.  With `kill`, SIGKILL comes at
        once.
        """
        self.close()
        if not kill:
            try:
                self._process.wait(END_SECONDS)
                return
            except subprocess.TimeoutExpired:
                pass
        # The shell is not reaped yet, so no other process can have its process group id.
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
