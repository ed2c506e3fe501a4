"""The judge's side of the line protocol: send a command, and wait for the client's line with a deadline."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import NamedTuple

from swpks.conformance.case import Deviation
from swpks.conformance.client.endpoint import ClientNotStarted, CommandNotRun, Endpoint
from swpks.conformance.client.lines import LONGEST_LINE, VERSION, Report, read_report

PATIENCE = 5.0
"""Seconds that a client may need for one step."""
_RECEIVE = 1 << 16
_SHOWN = 160
"""Most characters of a line in the dialogue of a report."""

Start = Callable[[], Endpoint]


_FLUSH = (
    "an adapter has to flush its output after each line, because C's stdio and Python's print buffer a pipe"
)


class Silent(Deviation):
    """The client hangs or has ended; the judge has to start it again.

    `waited` says that the judge has waited for a line in vain.
    """

    waited = False


class Watched(NamedTuple):
    """A descriptor that must stay silent while the judge waits for a line.

    If bytes come, the judge raises the Deviation that `explain` returns.
    """

    descriptor: int
    explain: Callable[[], Deviation]


class LineClient:
    """The client under judgement; `begin` starts it.  `log` has the lines of both ends, for the report."""

    def __init__(self, start: Start, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.log: list[str] = []
        self._start = start
        self._endpoint: Endpoint | None = None
        self._received = bytearray()
        self.name = ""

    def begin(self) -> None:
        """Start the client unless it runs; ClientNotStarted if it does not answer `begin`.

        CommandNotRun if the shell has not found the command, or may not run it.
        """
        if self._endpoint is not None:
            return
        self._endpoint = self._start()
        self._received.clear()
        try:
            report = self._answer_to_begin()
        except Deviation as error:
            ended = isinstance(error, Silent) and not error.waited and not self._received
            not_run = self._endpoint.not_run() if ended else ""
            self.stop(kill=True)
            if not_run:
                raise CommandNotRun(not_run) from None
            flush = f"; {_FLUSH}" if isinstance(error, Silent) and error.waited else ""
            raise ClientNotStarted(f"no answer to `begin {VERSION}`: {error}{flush}") from None
        if report.kind != "ready":
            self.stop(kill=True)
            raise ClientNotStarted(f"the answer to `begin {VERSION}` is not `ready NAME`: {report.kind}")
        self.name = report.text

    def _answer_to_begin(self) -> Report:
        try:
            self.command(f"begin {VERSION}")
        except Silent:
            # A client that has ended reads no command.  Its earlier output is its answer.
            if not _ready(self._running.reports, select.POLLIN, time.monotonic()):
                raise
        return self.report()

    def stop(self, *, kill: bool = False) -> None:
        """End the client if it runs: with `quit`, or at once with `kill`."""
        if self._endpoint is None:
            return
        if not kill:
            try:
                self.command("quit")
            except Deviation:
                kill = True
        self._endpoint.end(kill=kill)
        self._endpoint = None

    def command(self, line: str) -> None:
        """Send a command; raise Silent if the client does not read it."""
        self.log.append(shown(f"judge: {line}"))
        data, deadline = memoryview(line.encode() + b"\n"), time.monotonic() + self.patience
        while data:
            try:
                data = data[os.write(self._running.commands, data) :]
            except BlockingIOError:
                if not _ready(self._running.commands, select.POLLOUT, deadline):
                    raise Silent("a client that reads its commands", self._nothing()) from None
            except BrokenPipeError:
                raise Silent("a client that reads its commands", self._ended()) from None

    def report(self, *watched: Watched) -> Report:
        """Return the next line of the client; Deviation for a malformed line, Silent if none comes.

        If a watched descriptor becomes readable before the line, a Deviation is raised.
        """
        line = self._line(watched)
        self.log.append(shown(f"client: {line}"))
        try:
            return read_report(line)
        except ValueError as error:
            raise Deviation("a line of the line protocol", f"{shown(line)!r} ({error})") from None

    def closed(self) -> bool:
        """Send `close` and wait for `closed`; return whether `closed` was the next line."""
        self.command("close")
        before, deadline = 0, time.monotonic() + self.patience
        while self._line((), deadline) != "closed":
            before += 1
            if time.monotonic() > deadline:
                raise Silent("`closed`", f"{before} other lines")
        return before == 0

    def _line(self, watched: tuple[Watched, ...], deadline: float = 0.0) -> str:
        deadline = deadline or time.monotonic() + self.patience
        while b"\n" not in self._received:
            self._receive(deadline, watched)
            if len(self._received) > LONGEST_LINE:
                raise Silent(f"a line of at most {LONGEST_LINE} bytes", "more bytes without a newline")
        end = self._received.index(b"\n")
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.decode(errors="backslashreplace").rstrip("\r")

    def _receive(self, deadline: float, watched: tuple[Watched, ...]) -> None:
        reports = self._running.reports
        poll = select.poll()
        for descriptor in (reports, *(each.descriptor for each in watched)):
            poll.register(descriptor, select.POLLIN)
        ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        # If a line and other bytes have come, the line is read first.  The next call finds the other bytes.
        if reports in ready:
            data = os.read(reports, _RECEIVE)
            if not data:
                raise Silent("a line", self._ended())
            self._received += data
            return
        for each in watched:
            if each.descriptor in ready:
                raise each.explain()
        silent = Silent("a line", self._nothing())
        silent.waited = True
        raise silent

    @property
    def _running(self) -> Endpoint:
        if self._endpoint is None:
            raise Silent("a client that runs", "none was started")
        return self._endpoint

    def _nothing(self) -> str:
        return f"nothing for {self.patience:g} s"

    def _ended(self) -> str:
        rest = (
            f" behind {shown(self._received.decode(errors='backslashreplace'))!r}" if self._received else ""
        )
        return f"the end of the client{rest}: {self._running.fate()}"


def shown(text: str) -> str:
    """Return a text, cut to the length that a report shows."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _ready(descriptor: int, events: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
