"""A process of swpks that reports when it is ready.  Tests kill it, stop it, and start it again."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from hcall_abi.mistakes import (
    Mistake,
    WrongType,
    WrongValue,
    all_of,
    check_bytes,
    check_kind,
    check_mapping,
    check_number,
    check_text,
    kind_of,
)
from swpks.testing.at_caller import Explained, at_caller

START_SECONDS = 20.0
"""Longest wait in seconds for a process to become ready; generous, because test machines are busy."""
STOP_SECONDS = 20.0
"""Longest wait in seconds for a process to end after SIGTERM."""
LOG_SECONDS = 20.0
"""Longest wait in seconds for a line of the log."""

COMMAND = (sys.executable, "-m", "swpks")


class ServerFailed(Explained):
    """A server process, or a `swpks` command, failed; the text has the reason or the end of the log."""


class NotRunning(Mistake, ServerFailed):
    """A test uses a server that the test has not started."""


class RunsAlready(Mistake, ServerFailed):
    """A test starts a server that is running already."""


class OwnProcess:
    """A `swpks` process over one folder; `command` is its command line without --ready-fd.

    `ready` has the fields that the process wrote to --ready-fd.  `environment` has variables that the next
    start adds to the environment.
    """

    def __init__(self, folder: Path) -> None:
        check_kind(os.PathLike, "the folder of a process", folder, 'Path("state")')
        self.folder = folder = Path(folder)
        self.ready: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.log_path = folder.with_name(folder.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._starter = 0
        """The id of the process that started this one.  A fork of that process can't wait for the end."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.folder}, pid {self.pid})"

    @property
    def command(self) -> list[str]:
        """The words of the command line after `swpks`."""
        raise NotImplementedError

    @property
    def _sockets(self) -> list[Path]:
        """The Unix sockets that the process will make when it starts."""
        return []

    def _check_sockets(self) -> None:
        """Raise WrongValue if the path of a socket would be too long; called before the process starts."""
        for path in self._sockets:
            if (size := len(os.fsencode(path.absolute()))) > LONGEST_SOCKET_PATH:
                advice = f'with short_path(tmp_path) as folder: ...(folder / "{self.folder.name}")'
                raise WrongValue(
                    f"the socket {path} has a path of {size} bytes, and {LONGEST_SOCKET_PATH} are permitted: "
                    f"take a shorter folder, or a link to it by swpks.testing.short_path: {advice}"
                )

    def _check_folder(self) -> None:
        """Raise WrongValue if the folder can't be made; the log is beside it."""
        if not (parent := self.folder.absolute().parent).is_dir():
            raise WrongValue(
                f"the folder {parent} does not exist: make it first, such as by PATH.mkdir(parents=True)"
            )

    def _check_environment(self) -> None:
        """Raise WrongType or WrongValue for a variable that no process can have."""
        check_mapping("environment", self.environment, 'environment["TZ"] = "UTC"')
        given: Sequence[tuple[object, object]] = list(self.environment.items())
        for name, value in given:
            if not isinstance(name, str):
                raise WrongType(f"the name of a variable in environment is text, not {kind_of(name)}")
            if not isinstance(value, str):
                message = f"the value of {name} in environment is text, not {kind_of(value)}"
                raise WrongType(f'{message}: write environment["{name}"] = "..."')
            if not name or "=" in name or "\0" in name + value:
                raise WrongValue(
                    f"{name!r} in environment: a name has no =, is not empty, and no part has a zero byte"
                )

    @property
    def pid(self) -> int | None:
        """The process id, None while no process runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> str:
        """The process's standard error so far.

        A server writes its log after its answers.  So the log is complete only when the server has stopped;
        until then, use `log_lines`.  A server that is killed may leave its last lines unwritten.
        """
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    @at_caller
    def log_lines(self, text: str, least: int = 1) -> list[str]:
        """Wait until the log has at least `least` lines with this text; return all such lines.

        ServerFailed after LOG_SECONDS.
        """
        check_text("the text of log_lines", text)
        check_number("least", least)
        deadline = time.monotonic() + LOG_SECONDS
        while len(found := [line for line in self._whole_lines() if text in line]) < least:
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"the log has {len(found)} lines with {text!r}, not {least}\n{self._tail()}"
                )
            time.sleep(0.002)
        return found

    def kill(self) -> None:
        """Kill the process with SIGKILL, as a power cut would; do nothing if it does not run."""
        if self._process:
            self._process.kill()
            self._process.wait()

    @at_caller
    def stop(self) -> int:
        """End the process with SIGTERM, and return its exit status; ServerFailed after STOP_SECONDS."""
        if not self._process:
            raise NotRunning("the server was never started: write start() first")
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    @at_caller
    def wait(self) -> int:
        """Wait for the end of the process, and return its exit status; ServerFailed after STOP_SECONDS."""
        if not self._process:
            raise NotRunning("the server was never started: write start() first")
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"the server did not stop in {STOP_SECONDS:g} s\n{self._tail()}") from None

    @at_caller
    def spawn(self) -> None:
        """Start the process and wait until it is ready; ServerFailed if it ends, or after START_SECONDS."""
        if self.pid is not None:
            raise RunsAlready("the server runs already: write restart(), or kill() or stop() before")
        self._check_environment()
        self._check_folder()
        self._check_sockets()
        reader, writer = _pipe()
        # This process closes its copy of the writing end. So the pipe ends when the new process ends early.
        # Otherwise the wait below would take its whole time.
        try:
            self._process, self._starter = self._started(writer), os.getpid()
        finally:
            os.close(writer)
        try:
            self.ready = self._wait_ready(reader)
        except BaseException:
            self.kill()
            raise
        finally:
            os.close(reader)

    def _started(self, ready_fd: int) -> subprocess.Popen[bytes]:
        with open(self.log_path, "ab", opener=_private) as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [*COMMAND, *self.command, "--ready-fd", str(ready_fd)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_fd],
                env={**os.environ, **self.environment},
            )

    def _whole_lines(self) -> list[str]:
        # The last line may be incomplete at this moment.
        whole, _, _ = self.log.rpartition("\n")
        return whole.splitlines()

    def _wait_ready(self, reader: int) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([reader], [], [], START_SECONDS)[0]:
                raise ServerFailed(f"the server was not ready in {START_SECONDS:g} s\n{self._tail()}")
            piece = os.read(reader, 65536)
            if not piece:
                raise ServerFailed(f"the server ended before it was ready\n{self._tail()}")
            line += piece
        fields = json.loads(line)
        return fields if isinstance(fields, dict) else {}

    def _tail(self) -> str:
        return self.log[-4000:]


def check_command(words: Sequence[object]) -> None:
    """Raise WrongType for a word of a command that is no text."""
    all_of(str, "the words of a command", words, 'run("lpar", "lpar1", "ls")')


def run_swpks(words: list[str], data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a `swpks` command with `data` as its standard input; return the completed process."""
    check_command(words)
    check_bytes("data", data)
    return subprocess.run(  # noqa: S603 - our own interpreter and program
        [*COMMAND, *words],
        input=data,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
        timeout=60,
    )


def _private(path: str, flags: int) -> int:
    """Open a log that only its owner can read; an older log gets the same mode."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fchmod(descriptor, 0o600)
    return descriptor


def _pipe() -> tuple[int, int]:
    """Return a pipe whose descriptors are above 2."""
    # If a test runs with closed standard streams, `os.pipe` may return descriptors from 0 to 2. The new
    # process puts its standard streams there, so it would lose the pipe.
    low = os.pipe()
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in low)
    for end in low:
        os.close(end)
    return reader, writer
