"""A command of the management console: send its words to the console, and open files for it.

`swpks hmc links` copies this program, under the names of the real console's commands.  So it uses only
Python's own library, and no argparse: its import would take longer than the answer.  Tables name the
options that have a file: a malicious console must get no other file.  Page: spec/console.md#the-wire.
"""

from __future__ import annotations

import binascii
import errno
import json
import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

STORE = ""
"""The console's store, for a copy of this file that `swpks hmc links` has made."""

SOCKET = "run/console.sock"
OF_A_SYSTEM = ("service-processor", "anchor-card", "nvram.sqlite")  # a state has one or more of these
LONGEST_LINE = 24 << 20
LARGEST_FILE = 16 << 20
"""Bytes of a file that travels, at most."""
LAYOUT = "\n\t"
"""Control characters that a text of several lines may have."""
REFUSED = 1
INTERRUPTED = 130
SILENCE = 5.0
"""Seconds without a first byte of the console after which the command reports that, and waits on."""
_WAITS = "this command waits on: Ctrl-C ends it, and no job"

Options = dict[str, tuple[str, ...]]

READ: Options = {
    **dict.fromkeys(("chsyscfg", "mksyscfg", "rstprofdata"), ("-f",)),
    "mkprofdata": ("-b",),
    "chtskey": ("--newkey", "--oldkey"),
}
"""The options of each command whose value is a file to be read."""
WRITTEN: Options = {"bkprofdata": ("-f",), "mkprofdata": ("-x",)}
"""The options of each command whose value is a file to be written."""
REPLACE = "--force"
"""The option of those commands without which an existing file stays."""

Message = dict[str, Any]


class NoConsole(Exception):
    """No console serves the store, or the console went away, or it broke the rules of the wire."""


class Wire:
    """One connection to a console, with messages in both directions; raises NoConsole.

    `timeout` is in seconds for each wait; None waits for ever, because a job may take long.
    """

    def __init__(self, store: str, timeout: float | None = None) -> None:
        self._store = store
        self._rest = b""
        self._mute = timeout is None  # True until a message comes or the user is informed that none comes
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            if timeout is not None:  # settimeout would make a connect to a full queue fail at once
                wait = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6) or 1)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
            self._socket.connect(os.path.join(store, SOCKET))
            self._socket.settimeout(timeout)
        except OSError as error:
            self._socket.close()
            raise self._away(error) from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, message: Message) -> None:
        """Send a message; if the console does not read it, its last message has the reason."""
        line = json.dumps(message).encode("ascii") + b"\n"
        if len(line) > LONGEST_LINE:
            raise NoConsole(f"a message of {len(line)} bytes, {LONGEST_LINE} are the most")
        try:
            self._socket.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except OSError as error:
            raise self._away(error) from None

    def receive(self) -> Message:
        """Return the next message."""
        pieces, size = [self._rest], len(self._rest)
        while b"\n" not in pieces[-1]:
            try:
                if self._mute and not select.select([self._socket], [], [], SILENCE)[0]:
                    _complain(f"the console of {self._store} is silent since {SILENCE:g} s; {_WAITS}")
                piece = self._socket.recv(1 << 16)
                self._mute = False
            except OSError as error:
                raise self._away(error) from None
            size += len(piece)
            if not piece or size > LONGEST_LINE:
                reason = "sent a message without end" if piece else "went away before it had answered"
                raise NoConsole(f"the console of {self._store} {reason}")
            pieces.append(piece)
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise NoConsole(f"the program that serves {self._store} does not speak as a console")
        return message

    def _away(self, error: OSError) -> NoConsole:
        if isinstance(error, TimeoutError | BlockingIOError):
            return NoConsole(f"the console of {self._store} did not answer in time")
        reason = error.strerror or str(error)
        advice = f"start it: swpks hmc serve --store {self._store}"
        if any(os.path.exists(os.path.join(self._store, part)) for part in OF_A_SYSTEM):
            advice = f"{self._store} is a system's state: use --state {self._store}"
        return NoConsole(f"no console serves {self._store} ({reason}); {advice}")


class NamedFiles:
    """The files that the words of a command name; no other path is opened.

    A malicious console may ask for any path.  So a file that is named for reading is never written, and an
    existing file is replaced only with --force.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._read = _named(words, READ)
        self._written = _named(words, WRITTEN)
        self._replace = REPLACE in words[1:]

    def read(self, path: object, limit: object) -> bytes:
        """Return the content of a file; OSError if it can't be read or is too large."""
        named, most = _allowed(path, self._read, "to be read"), LARGEST_FILE
        if isinstance(limit, int):
            most = max(0, min(limit, most))
        # Without O_NONBLOCK, opening a pipe that has no writer would wait for ever.
        descriptor = os.open(named, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            os.set_blocking(descriptor, True)
            content = file.read(most + 1)
        if len(content) > most:
            raise OSError(errno.EFBIG, f"it has more than {most} bytes")
        return content

    def write(self, path: object, content: bytes, *, replace: bool) -> None:
        """Write a file durably, readable only by its owner; OSError if that fails or is not allowed."""
        named = _allowed(path, self._written, "to be written")
        replace = replace and self._replace
        if len(content) > LARGEST_FILE:
            raise OSError(errno.EFBIG, f"it has more than {LARGEST_FILE} bytes")
        if replace and os.path.isfile(named):
            _replace(os.path.realpath(named), content)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        new = not os.path.lexists(named)
        descriptor = os.open(named, flags if replace else flags | os.O_EXCL, 0o600)
        try:
            os.set_blocking(descriptor, True)
            _fill(descriptor, content)
        except OSError:
            if new:  # otherwise an incomplete file would look complete
                os.unlink(named)
            raise
        finally:
            os.close(descriptor)

    def test(self, path: object, *, replace: bool) -> None:
        """Raise OSError if it is already known that a file can't be written; change nothing."""
        named = _allowed(path, self._written, "to be written")
        plain = not os.path.exists(named) or os.path.isfile(named)
        written = os.path.dirname(os.path.realpath(named)) if plain else named
        for fails, number in (
            (os.path.isdir(named), errno.EISDIR),
            (os.path.lexists(named) and not (replace and self._replace), errno.EEXIST),
            (not os.path.exists(written), errno.ENOENT),
            (not os.access(written, os.W_OK), errno.EACCES),
        ):
            if fails:
                raise OSError(number, os.strerror(number))


def _named(words: Sequence[str], table: Options) -> frozenset[str]:
    """Return the values that the words give to the options in this table."""
    options = table.get(words[0], ()) if words else ()
    return frozenset(words[at + 1] for at in range(1, len(words) - 1) if words[at] in options)


def _allowed(path: object, named: frozenset[str], how: str) -> str:
    if not isinstance(path, str) or not path or path not in named:
        raise OSError(errno.EACCES, f"the command does not name it {how}")
    return path


def _replace(path: str, content: bytes) -> None:
    """Replace a file by a rename: after a power cut, the old or the new content is there."""
    folder = os.path.dirname(path)
    new = os.path.join(folder, f".swpks-{os.urandom(8).hex()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            _fill(descriptor, content)
        finally:
            os.close(descriptor)
        os.rename(new, path)
    except OSError:
        os.unlink(new)
        raise
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _fill(descriptor: int, content: bytes) -> None:
    """Replace the content of a regular file, durably; or write to a device or a pipe."""
    plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if plain:
        os.fchmod(descriptor, 0o600)
    _write(descriptor, content)
    if plain:
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)


def escaped(text: object, keep: str = "") -> str:
    """Return a text with escapes in place of control characters, except those in `keep`."""
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode("ascii")
        for each in str(text)
    )


class Shown:
    """The output of a command: text, and the progress of a job, which is a bar on a terminal.

    `write` gets text with its newlines, and raises OSError if it can't write the text.
    """

    WIDTH = 24

    def __init__(self, write: Callable[[str], None], *, terminal: bool) -> None:
        self._write = write
        self._terminal = terminal
        self._bar = False
        self._job: object = None
        self._step: object = None
        self._lines = 0

    def say(self, text: object) -> None:
        """Print lines; control characters from the console or from a system are escaped."""
        self.end()
        self._write(f"{escaped(text, LAYOUT)}\n")

    def progress(self, job: Message) -> None:
        """Print the new lines of a job, and its steps if they have changed."""
        number, lines = job.get("number"), job.get("lines")
        if number != self._job:
            self._job, self._lines, self._step = number, 0, None
        lines = lines if isinstance(lines, list) else []
        for line in lines[self._lines :]:
            self.say(escaped(line))
        self._lines = len(lines)
        step = tuple(job.get(each) for each in ("done", "total", "state", "waiting"))
        if step != self._step:
            self._step = step
            self._show(job)

    def end(self) -> None:
        """Remove the bar, so that the next output begins on an empty line."""
        if self._bar:
            self._bar = False
            self._write("\r\x1b[K")

    def _show(self, job: Message) -> None:
        done, total = job.get("done"), job.get("total")
        head = escaped(f"job {job.get('number')} ({job.get('kind')} {job.get('system')})")
        whole = isinstance(done, int) and isinstance(total, int) and 0 <= done <= total and total > 0
        if not self._terminal or job.get("state") != "running" or job.get("waiting"):
            waits = f", waits: {job['waiting']}" if job.get("waiting") else ""
            steps = f", {done} of {total}" if total else ""
            self.say(head + escaped(f": {job.get('state')}{steps}{waits}"))
        elif whole:
            full = int(self.WIDTH * int(done or 0) / int(total or 1))
            self._write(f"\r\x1b[K{head} [{'#' * full}{'.' * (self.WIDTH - full)}] {done}/{total}")
            self._bar = True


def converse(wire: Wire, request: Message, files: NamedFiles, shown: Shown) -> Message:
    """Send a request to the console, and return the console's last message.

    In between, this function prints the lines and opens the files that the console asks for. Raises
    NoConsole, and OSError if the output can't be written.
    """
    wire.send(request)
    while True:
        message = wire.receive()
        if "exit" in message or "answer" in message:
            shown.end()
            return message
        if "say" in message:
            shown.say(message["say"])
        elif isinstance(message.get("progress"), dict):
            shown.progress(message["progress"])
        elif "read" in message or "write" in message or "test" in message:
            wire.send(_file(message, files))
        else:
            raise NoConsole("the console asks for something that this command does not know")


def _file(message: Message, files: NamedFiles) -> Message:
    """Read, write or test a file for the console; return the reply, or the reason of a failure in it."""
    path = message.get("read", message.get("write", message.get("test")))
    try:
        if "test" in message:
            files.test(path, replace=message.get("replace") is True)
            return {"writable": True}
        if "read" in message:
            content = files.read(path, message.get("limit"))
            return {"content": binascii.b2a_base64(content, newline=False).decode("ascii")}
        content = binascii.a2b_base64(str(message.get("content")), strict_mode=True)
        files.write(path, content, replace=message.get("replace") is True)
    except (OSError, ValueError) as error:
        return {"error": f"{path}: {getattr(error, 'strerror', None) or error}"}
    return {"written": True}


def line(words: Sequence[str], store: str) -> int:
    """Carry out a line, whose first word is the command's name; return the exit status, 130 after Ctrl-C."""
    try:
        request = {"line": [_utf8(word) for word in words]}
        wire = Wire(store)
        try:
            shown = Shown(lambda text: _write(1, _encoded(text)), terminal=os.isatty(1))
            return _status(converse(wire, request, NamedFiles(words), shown))
        finally:
            wire.close()
    except (NoConsole, ValueError) as error:
        _complain(f"{words[0]}: {error}")
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        pass
    except OSError as error:
        _complain(f"{words[0]}: standard output: {error.strerror or error}")
    except KeyboardInterrupt:
        return INTERRUPTED
    return REFUSED


def _status(last: Message) -> int:
    status = last.get("exit")
    return status if isinstance(status, int) and 0 <= status < 256 else REFUSED


def _utf8(word: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise ValueError(f"{word!a} is not UTF-8")
    return word


def _encoded(text: str) -> bytes:
    return text.encode(getattr(sys.stdout, "encoding", None) or "utf-8", "backslashreplace")


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _complain(text: str) -> None:
    try:
        os.write(2, _encoded(f"{escaped(text)}\n"))
    except OSError:
        pass  # without standard error, only the exit status is left


def main() -> int:
    """Run the command that has the name of the started file; return the exit status."""
    for number in range(3):  # otherwise a file could get the number of a closed stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    return line([os.path.basename(sys.argv[0]), *sys.argv[1:]], STORE)


if __name__ == "__main__":
    sys.exit(main())
