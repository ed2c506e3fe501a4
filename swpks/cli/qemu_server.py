"""The server of `swpks qemu`: one that runs already, or one that the command starts and stops."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hcall_abi.attributes import attribute_number
from hcall_abi.console import is_partition_name
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import service as rules
from hcall_abi.rules.console import NAME_FORM
from swpks.cli import refusals, streams
from swpks.qemu.cleanup import Cleanup
from swpks.testing import ServerFailed, ServerProcess, short_path

DEFAULT_KBYTES = 64
LONGEST = 500
"""Characters of a line of the log that an error repeats."""


class Wanted(NamedTuple):
    """The partition that the command line names, and the size of its keystore in KiB if given."""

    name: str
    kbytes: int | None


def wanted_of(text: str) -> Wanted:
    """Return name and size of NAME[:KBYTES]; OperatorError by the rules of names and sizes."""
    name, colon, size = text.partition(":")
    try:
        if not is_partition_name(name):
            raise OperatorError(NAME_FORM, f"{name!r} is no name for a partition")
        return Wanted(name, attribute_number("keystore_kbytes", size) if colon else None)
    except OperatorError as error:
        message = f"--partition is NAME or NAME:KBYTES, not {text[:80]!r}: {error.message}"
        raise OperatorError(error.rule, message) from None


@contextmanager
def state_of(wanted: Path | None, cleanup: Cleanup) -> Iterator[Path]:
    """Yield the state folder that is named, or a temporary one.

    The temporary one is removed at the end of the block.
    """
    if wanted is not None:
        yield wanted.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="swpks-") as folder:
        # Python removes the folder at the end of the block. `cleanup` removes it if SIGKILL ends this
        # process.
        cleanup.remove_folder(Path(folder).absolute())
        streams.complain("swpks qemu: no --state: the keystore lasts as long as this command")
        with short_path(Path(folder).absolute()) as short:  # a long TMPDIR would leave no room for sockets
            if short != Path(folder).absolute():
                cleanup.remove_folder(short.parent)
            yield short / "state"


@contextmanager
def server_on(state: Path, wanted: Wanted, cleanup: Cleanup) -> Iterator[None]:
    """Provide a server during the block: the running server of the state, or a new server."""
    if _is_served(state / "run" / "control.sock"):
        yield
        return
    server = _KeptServer(state, [_partition(state, wanted)], cleanup)
    server.check_state()
    server.begin()
    try:
        yield
    finally:
        # The server may have been killed while the guest ran.
        if server.pid is not None:
            server.stop()


class _KeptServer(ServerProcess):
    """A server that this process starts, and that ends with this process."""

    def __init__(self, state: Path, partitions: list[str], cleanup: Cleanup) -> None:
        super().__init__(state, partitions)
        self._cleanup = cleanup

    def check_state(self) -> None:
        """Raise OperatorError if the path of a socket would be too long."""
        try:
            self._check_sockets()
        except ValueError:
            message = f"{self.state}: its sockets would have too long a path; choose a shorter --state"
            raise OperatorError(rules.SOCKET_PATH, message) from None

    def begin(self) -> None:
        """Start the server; raise its own error if it refuses to start.

        A log that the start has made is removed with the refusal, which has all of its content.
        """
        before = self._log_size()
        try:
            self.state.parent.mkdir(parents=True, exist_ok=True)  # the log is beside the state folder
            self.start()
        except (ServerFailed, ValueError) as error:
            raise self._failure(str(error), before) from None
        except OSError as error:
            reason = "it is a file, not a folder" if isinstance(error, FileExistsError) else error.strerror
            message = f"{error.filename or self.log_path}: {reason or error}; choose another --state"
            raise OperatorError(rules.SERVER_STARTS, message) from None
        finally:
            if before is None and self._log_size() == 0:
                self.log_path.unlink()

    def _failure(self, reason: str, before: int | None) -> SwpksError:
        """Return the error of a server that is not ready: its refusal, or the last line of its log."""
        lines = self.log_path.read_bytes()[before or 0 :].decode("utf-8", "replace").splitlines()
        refusal = next(filter(None, map(refusals.read, reversed(lines))), None)
        if refusal is None:
            last = f"; the last line of its log {self.log_path}: {lines[-1][:LONGEST]}" if lines else ""
            return OperatorError(rules.SERVER_STARTS, f"{reason.splitlines()[0]}{last}")
        if before is None and len(lines) == 1:
            self.log_path.unlink()
        place = f"swpks serve --state {shlex.quote(str(self.state))}"
        return SwpksError(refusal.rule, f"`{place}` does not start: {refusal.message}")

    def _log_size(self) -> int | None:
        """Return the bytes of the log, None if there is no log."""
        try:
            return self.log_path.stat().st_size
        except OSError:
            return None

    def _started(self, ready_fd: int) -> subprocess.Popen[bytes]:
        process = super()._started(ready_fd)
        self._cleanup.end_process(process.pid)
        return process


def _partition(state: Path, wanted: Wanted) -> str:
    """Return the --partition of the server's command line; in a new state it has a keystore size."""
    name, kbytes = wanted
    if kbytes is None and not (state.is_dir() and any(state.iterdir())):
        # The default is for a new state only: in an existing state it would change the partition's keystore.
        kbytes = DEFAULT_KBYTES
        advice = f"--partition {name}:KBYTES chooses another size"
        streams.complain(f"swpks qemu: the keystore of {name} gets {kbytes} KiB; {advice}")
    return name if kbytes is None else f"{name}:{kbytes}"


def _is_served(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(os.fspath(control))
        except OSError:
            return False
    return True
