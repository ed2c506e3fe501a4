"""The caller of a console line with its files, and the log of a console, both inside a test."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job

T = TypeVar("T")


class LineAnswer(NamedTuple):
    """The exit status of a line, and its output without the last newline."""

    status: int
    text: str


class LineFiles:
    """The caller of a line: an absolute path is a file on disk, any other path is a key of `files`.

    A file on disk is opened by the rule of the command `swpks hmc`: only if its path is one of `words`.
    """

    # Files in memory have the same errors as files on disk, with the error numbers of the operating system.
    # So a test gets the messages that an operator would get.

    def __init__(self, files: MutableMapping[str, bytes], words: Sequence[str]) -> None:
        from swpks.hmc.line_client import NamedFiles

        self._files = files
        self._disk = NamedFiles(words)
        self._printed: list[str] = []

    def __repr__(self) -> str:
        return f"LineFiles({sorted(self._files)})"

    @property
    def text(self) -> str:
        """The text that the line has printed so far."""
        return "\n".join(self._printed)

    async def read(self, path: str, limit: int) -> bytes:
        """Return the content of a file; OperatorError if it can't be read or has more than `limit` bytes."""
        await trio.lowlevel.checkpoint()
        with _translated(path):
            if Path(path).is_absolute():
                return self._disk.read(path, limit)
            if path not in self._files:
                raise OSError(errno.ENOENT, self._missing(path))
            if len(self._files[path]) > limit:
                raise OSError(errno.EFBIG, f"it has more than {limit} bytes")
        return self._files[path]

    def _missing(self, path: str) -> str:
        near = [each for each in self._files if Path(each) == Path(path)]
        other = f", which has {near[0]!r}: write the same text" if near else ""
        return f'it is not among the files of the test{other}: write pks_console.files[{path!r}] = b"..."'

    async def write(self, path: str, content: bytes, *, replace: bool) -> None:
        """Write a file; OperatorError if it exists and is not to be replaced, or can't be written."""
        await trio.lowlevel.checkpoint()
        with _translated(path):
            if Path(path).is_absolute():
                self._disk.write(path, content, replace=replace)
            elif path in self._files and not replace:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            else:
                self._files[path] = content

    async def test(self, path: str, *, replace: bool) -> None:
        """Raise OperatorError if a file can't be written, or exists and must not be replaced."""
        await trio.lowlevel.checkpoint()
        with _translated(path):
            if Path(path).is_absolute():
                self._disk.test(path, replace=replace)
            elif path in self._files and not replace:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    async def say(self, text: str) -> None:
        """Add lines of standard output to `text`."""
        await trio.lowlevel.checkpoint()
        self._printed.append(text)

    async def progress(self, job: Job) -> None:
        """Add the lines of a job to `text` when the job has ended."""
        await trio.lowlevel.checkpoint()
        if job.state != "running":
            self._printed += job.lines


async def unwatched(_: Job) -> None:
    """Ignore the progress of a job."""
    await trio.lowlevel.checkpoint()


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Imported here, because a console has loaded this module by now.
        from hcall_server.console.caller import file_refused

        raise file_refused(f"{path}: {error.strerror or error}") from None


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
        """Exceptions inside the console.

        The console logs them and goes on, but the test must fail.
        """
        found = (each.fields.get("exc_info") for each in self.events)
        return [error for error in found if isinstance(error, Exception)]

    def check(self) -> None:
        """Raise the first exception inside the console, if there was one."""
        for error in self.bugs:
            raise error

    def info(self, event: str, **fields: object) -> None:
        """Add an event, and wake the tasks that wait in `until`."""
        self.events.append(LoggedEvent(event, fields))
        self._beat.set()
        self._beat = trio.Event()

    def warning(self, event: str, **fields: object) -> None:
        """Add a warning, as an event like any other."""
        self.info(event, **fields)

    async def until(self, find: Callable[[], T | None]) -> T:
        """Call `find` now and after each event, until its result is true; return that result."""
        while not (found := find()):
            await self._beat.wait()
        return found
