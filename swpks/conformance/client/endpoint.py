"""The client under judgement: its two pipes, and its process."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod

from hcall_abi.errors import PeerError
from hcall_abi.rules.rule import Rule
from hcall_abi.rules.service import COMMAND_USAGE, CONFORMANCE_CLIENT
from swpks.conformance.group import NOT_RUN, CommandGroup

END_SECONDS = 1.0
"""Seconds that a client has to end after `quit` and the end of its standard input."""


class ClientNotStarted(PeerError):
    """The client could not be started, or did not answer the command `begin`."""

    def __init__(self, message: str, rule: Rule = CONFORMANCE_CLIENT) -> None:
        super().__init__(rule, message)


class CommandNotRun(ClientNotStarted):
    """The shell could not run the command of the client: the operator's fault, no client was judged."""

    def __init__(self, message: str) -> None:
        super().__init__(message, COMMAND_USAGE)


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

    def not_run(self) -> str:
        """Return why the shell could not run the client's command; "" if it could."""
        return ""

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
        self._command = command
        # The command gets a group of its own: the shell may start the client as a child, and both have to
        # end.
        self._group = CommandGroup(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stdin, stdout = self._group.process.stdin, self._group.process.stdout
        if stdin is None or stdout is None:
            raise ClientNotStarted("the client has no pipes")
        # This object needs descriptors of its own: Popen closes the original ones together with its file
        # objects.
        super().__init__(os.dup(stdin.fileno()), os.dup(stdout.fileno()))
        stdin.close()
        stdout.close()

    def fate(self) -> str:
        """Return how the client ended.

        The text has the exit status or the signal.  If the client still runs, the text says that it has
        only closed its output.
        """
        status = self._group.status_within(END_SECONDS)
        if status is None:
            return "it has closed its standard output and still runs"
        if status < 0:
            return f"it was ended by {signal.Signals(-status).name}"
        return f"its exit status is {status}{NOT_RUN.get(status, '')}"

    def not_run(self) -> str:
        """Return the meaning of the shell's own exit statuses, 126 and 127; "" for all others."""
        status = self._group.status_within(END_SECONDS)
        found = NOT_RUN.get(status or 0, "")
        return f"--exec: the exit status is {status}{found}: {self._command}" if found else ""

    def end(self, *, kill: bool) -> None:
        """End the client: close its pipes, and send SIGKILL if it still runs after `END_SECONDS`.

        With `kill`, SIGKILL is sent at once.  SIGKILL also goes to programs that have outlived the shell.
        """
        self.close()
        if not kill:
            self._group.status_within(END_SECONDS)
        self._group.kill()
