"""A TPM 2.0 behind a Unix socket, as swtpm serves it: plain commands, no library.

The secret crosses the socket in clear, as it does on the wire to many hardware TPMs.  So the socket belongs
into a private folder.  Each operation has a connection of its own: swtpm serves one client at a time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from hcall_server.components.seam import TPM_PATIENCE, TpmRefusedError, TpmSilentError
from hcall_server.components.tpm import commands
from hcall_server.components.tpm.codes import error_of
from hcall_server.components.tpm.commands import MalformedAnswerError, SealedBlob, TpmAnswer, TpmCommand

P = ParamSpec("P")
Result = TypeVar("Result")
_PAGE = "spec/components.md#start-swtpm"


class SwtpmTpm:
    """A TPM at the socket `path`.  A whole operation takes `patience` seconds at most."""

    kind = "swtpm"

    def __init__(self, path: str, name: str, patience: float = TPM_PATIENCE) -> None:
        self.name = name
        self._path = path
        self._patience = patience

    def __repr__(self) -> str:
        return f"SwtpmTpm({self._path!r})"

    def seal(self, secret: bytes) -> bytes:
        """Return `secret` as a blob that only this TPM unseals."""
        with (
            self._connected() as link,
            link.made(TpmCommand.CREATE_PRIMARY, commands.create_primary()) as key,
        ):
            answer = link.run(TpmCommand.CREATE, commands.create(key, secret))
            return commands.created(answer).joined()

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret in a blob of this TPM."""
        try:
            parts = SealedBlob.split(blob)
        except ValueError as error:
            raise TpmRefusedError(f"{self.name}: the wrapped root key {error}") from None
        with (
            self._connected() as link,
            link.made(TpmCommand.CREATE_PRIMARY, commands.create_primary()) as key,
            link.made(TpmCommand.LOAD, commands.load(key, parts)) as loaded,
        ):
            return commands.unsealed(link.run(TpmCommand.UNSEAL, commands.unseal(loaded)))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[_TpmLink]:
        """Return a block with a connection.

        If the connection or an answer fails, the block raises TpmSilentError.
        """
        place = f"{self.name} at {self._path}"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                link = _TpmLink(stream, self.name, self._patience)
                link.connect(self._path)
                yield link
        except TimeoutError:
            raise TpmSilentError(
                f"{place}: no whole answer came within {self._patience:g} seconds; look at the log of the TPM"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise TpmSilentError(f"{place}: {reason}; is the TPM running? see {_PAGE}") from None
        except MalformedAnswerError as error:
            raise TpmSilentError(f"{place}: an answer {error}; is this the socket of a TPM?") from None


class _TpmLink:
    """One connection.  Its deadline is that of the operation, so a TPM that sends slowly can't extend it."""

    def __init__(self, stream: socket.socket, name: str, patience: float) -> None:
        self._stream = stream
        self._name = name
        self._deadline = time.monotonic() + patience

    def connect(self, path: str) -> None:
        """Connect to the socket of the TPM, and wait until it serves this client.

        TimeoutError if it does not serve this client in time.
        """
        self._connect(path)
        # A TPM may be busy with another client.  It reads a waiting command later, even if this client has
        # given up.  If that command made an object, the object would stay in the TPM's memory.  So the first
        # command makes none.
        self.run(TpmCommand.GET_TEST_RESULT, commands.get_test_result())

    def _connect(self, path: str) -> None:
        """Connect; if the queue of the socket is full, wait: the queue of swtpm holds one or two clients.

        TimeoutError if there is no place in time.
        """
        left = self._left()
        # Python's settimeout makes the socket non-blocking.  Then a full queue is an error at once.  With
        # SO_SNDTIMEO the kernel waits for a place in the queue, for a bounded time.
        limit = struct.pack("@ll", int(left), max(1, int(left % 1 * 1_000_000)))
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self._stream.connect(path)
        except BlockingIOError:
            raise TimeoutError from None

    @contextlib.contextmanager
    def made(self, command: TpmCommand, content: bytes) -> Iterator[int]:
        """Return a block with the handle of an object, which is removed at the end of the block.

        `command` and `content` load the object.  At the end of the block, the caller has its result.  So a
        failure to remove the object is no error: the TPM has less memory until its next start.
        """
        handle = commands.handle_of(self.run(command, content))
        try:
            yield handle
        finally:
            with contextlib.suppress(OSError, MalformedAnswerError, TpmSilentError):
                self.run(TpmCommand.FLUSH_CONTEXT, commands.flush_context(handle))

    def run(self, command: TpmCommand, content: bytes) -> TpmAnswer:
        """Send a command and return its answer; an error for every response code but 0."""
        self._timed(self._stream.sendall)(content)
        header = self._receive(commands.HEADER_SIZE)
        answer = commands.answer_of(header, self._receive(commands.answer_size(header)))
        if answer.code:
            raise error_of(self._name, command, answer.code)
        return answer

    def _receive(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self._timed(self._stream.recv)(size - len(found))
            if not piece:
                raise ConnectionResetError(0, "the TPM closed the connection")
            found += piece
        return found

    def _timed(self, call: Callable[P, Result]) -> Callable[P, Result]:
        """Return `call` with the remaining time as its time-out."""
        self._stream.settimeout(self._left())
        return call

    def _left(self) -> float:
        """Return the seconds until the deadline; TimeoutError if it is over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
