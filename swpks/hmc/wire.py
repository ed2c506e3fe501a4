"""The console's end of the wire: requests from commands, and messages to commands (spec/console.md#the-wire).

This module turns bytes into values and values into bytes; `swpks.hmc.serving` has the sockets.  The other end
is `swpks.hmc.line_client`, which may import nothing of this package.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from hcall_abi.errors import OperatorError, PeerError
from hcall_abi.rules import hmc as rules
from hcall_server.console.jobs import Job
from swpks.hmc.views import JobView

T = TypeVar("T")

LONGEST_LINE = 24 << 20
"""The most bytes of one message: a file of 16 MiB in base64 has 21.3 MiB."""

MOST_WORDS = 4096
"""The most words of a line."""


class Forwarded(msgspec.Struct, forbid_unknown_fields=True):
    """A verb of the control channel for one system.

    `name` is the name in the path of the request, and `body` is the body of the request.
    """

    operation: str
    system: str | None = None
    name: str = ""
    body: msgspec.Raw = msgspec.Raw()


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """One of the console's own verbs, with its operands."""

    verb: Literal["systems", "add-system", "remove-system", "backup", "recover", "jobs", "copies", "watch"]
    system: str | None = None
    name: str | None = None
    where: str = ""
    number: int | None = None
    give_up: bool = False


class WireRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The one request of a command: a line, a verb for a system, or one of the console's own verbs."""

    line: list[str] | msgspec.UnsetType = msgspec.UNSET
    ask: Forwarded | msgspec.UnsetType = msgspec.UNSET
    order: Order | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        # A request has three optional fields, and this check permits one of them. With a union, msgspec would
        # need a tag in each struct.
        given = [each for each in (self.line, self.ask, self.order) if each is not msgspec.UNSET]
        if len(given) != 1:
            raise ValueError("a request is one of line, ask and order")
        if self.line is not msgspec.UNSET and not 0 < len(self.line) <= MOST_WORDS:
            raise ValueError(f"a line has 1 to {MOST_WORDS} words")


class FileReply(msgspec.Struct, forbid_unknown_fields=True):
    """A command's reply about a file: its content, whether it was or can be written, or an error."""

    content: bytes | None = None
    written: bool = False
    writable: bool = False
    error: str | None = None

    def __repr__(self) -> str:
        # The content may be a trusted system key, and a repr may reach the log.
        return "FileReply(content hidden)"


class LineBuffer:
    """Splits received bytes into lines; PeerError for a line that is too long."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        # The pieces are joined once. If each piece were added to one bytes object, up to 24 MiB would be
        # copied again and again.
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes; return the lines that are complete now, without their newlines."""
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            self._add(end)
            lines.append(b"".join(self._pieces))
            self._pieces, self._size = [], 0
        self._add(rest)
        return lines

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        # An unfinished line is checked too: the rest of a long line must not fill the memory.
        if self._size > self._longest:
            raise PeerError(rules.HMC_WIRE, f"a message of more than {self._longest} bytes")
        self._pieces.append(piece)


def request_of(line: bytes) -> WireRequest:
    """Return the request in a line; PeerError if the line is no request."""
    return _decoded(line, WireRequest)


def reply_of(line: bytes) -> FileReply:
    """Return the reply about a file in a line; PeerError if the line is none."""
    return _decoded(line, FileReply)


def say(text: str) -> bytes:
    """Return the message that makes a command print lines."""
    return _message({"say": text})


def progress(job: Job) -> bytes:
    """Return the message that reports the progress of a job."""
    return _message({"progress": job_view(job)})


def job_view(job: Job) -> JobView:
    """Return a job in the form that commands get."""
    return msgspec.convert(job, JobView, from_attributes=True)


def read(path: str, limit: int) -> bytes:
    """Return the message that asks a command for the content of a file."""
    return _message({"read": path, "limit": limit})


def write(path: str, content: bytes, *, replace: bool) -> bytes:
    """Return the message that makes a command write a file; OperatorError if the file is too large."""
    message = _message({"write": path, "content": content, "replace": replace})
    if len(message) > LONGEST_LINE:
        raise OperatorError(rules.HMC_FILE, f"{path}: {len(content)} bytes are too many")
    return message


def test(path: str, *, replace: bool) -> bytes:
    """Return the message that asks a command whether it can write a file."""
    return _message({"test": path, "replace": replace})


def exit_status(status: int) -> bytes:
    """Return the last message after a line: the exit status."""
    return _message({"exit": status})


def answer(status: int, media_type: str, content: bytes) -> bytes:
    """Return the last message after a verb: the answer that a system's control channel would give."""
    return _message({"answer": {"status": status, "type": media_type, "content": content.decode()}})


def _message(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"


def _decoded(line: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError(rules.HMC_WIRE, f"a message of another shape ({error})") from None
