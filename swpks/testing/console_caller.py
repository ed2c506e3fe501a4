"""The surroundings of a console that runs inside a test: its caller with files, and its log."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job

T = TypeVar("T")


class LineAnswer(NamedTuple):
    """The exit status of a line, and what it has printed, without the last newline."""

    status: int
    text: str


class LineFiles:
    """The caller of a line: an absolute path is a file on disk, any other one is in `files`.

    A file on disk is opened as by the command `swpks hmc`: only if it stands in `words`.
    """

    def __init__(self, files: MutableMapping[str, bytes], words: Sequence[str]) -> None:
        from swpks.hmc.line_client import NamedFiles

        self._files = files
        self._disk = NamedFiles(words)
        self._printed: list[str] = []

    def __repr__(self) -> str:
        return f"LineFiles({sorted(self._files)})"

    @property
    def text(self) -> str:
        """The text that was printed so far."""
        return "\n".join(self._printed)

    async def read(self, path: str, limit: int) -> bytes:
        """Return the content of a file; OperatorError if it can't be read, or is too long."""
        await trio.lowlevel.checkpoint()
        with _translated(path):
            if Path(path).is_absolute():
                return self._disk.read(path, limit)
            if path not in self._files:
                raise OSError(errno.ENOENT, "it is not among the files of the test")
            if len(self._files[path]) > limit:
                raise OSError(errno.EFBIG, f"it has more than {limit} bytes")
        return self._files[path]

    async def write(self, path: str, content: bytes, *, replace: bool) -> None:
        """Write a file; OperatorError if it exists and is not to be replaced, or can't be written."""
        await trio.lowlevel.checkpoint()
        with _translated(path):
            if Path(path).is_absolute():
                self._disk.write(path, content, replace=replace)
            elif path in self._files and not replace:
                raise OSError(errno.EEXIST, "the file exists")
            else:
                self._files[path] = content

    async def test(self, path: str, *, replace: bool) -> None:
        """OperatorError if a file exists and is not to be replaced, or can't be written."""
        await trio.lowlevel.checkpoint()
        with _translated(path):
            if Path(path).is_absolute():
                self._disk.test(path, replace=replace)
            elif path in self._files and not replace:
                raise OSError(errno.EEXIST, "the file exists")

    async def say(self, text: str) -> None:
        """Take lines of standard output."""
        await trio.lowlevel.checkpoint()
        self._printed.append(text)

    async def progress(self, job: Job) -> None:
        """Take the lines of a job, at its end."""
        await trio.lowlevel.checkpoint()
        if job.state != "running":
            self._printed += job.lines


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OperatorError(rules.HMC_FILE, f"{path}: {error.strerror or error}") from None


class LoggedEvent(NamedTuple):
    """A line of the console's log: the name of the event, and its fields."""

    event: str
    fields: dict[str, object]


class ConsoleLog:
    """The log of a console in memory; a test can wait for its events."""

    def __init__(self) -> None:
        self.events: list[LoggedEvent] = []
        self._beat = trio.Event()

    def __repr__(self) -> str:
        return f"ConsoleLog({len(self.events)} events)"

    @property
    def bugs(self) -> list[Exception]:
        """Exceptions inside the console, which it survives, and which a test should not."""
        found = (each.fields.get("exc_info") for each in self.events)
        return [error for error in found if isinstance(error, Exception)]

    def info(self, event: str, **fields: object) -> None:
        """Note an event."""
        self.events.append(LoggedEvent(event, fields))
        self._beat.set()
        self._beat = trio.Event()

    def warning(self, event: str, **fields: object) -> None:
        """Note an event as well."""
        self.info(event, **fields)

    async def until(self, find: Callable[[], T | None]) -> T:
        """Return what `find` finds; it is asked again after each event, until that is true."""
        while not (found := find()):
            await self._beat.wait()
        return found
