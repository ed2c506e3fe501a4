"""The servers that are measured: swpks, and the echo server."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from bench.processes import PATIENCE, Process, Word
from bench.programs import KBYTES, OBJECTS, preparation, write_answers
from hcall_client.blocking import BlockingChannel
from hcall_client.console import BlockingConsole

# The benchmark starts the installed command, as a user does, and not `python -m`.
SWPKS = Path(sys.executable).with_name("swpks")
WAITING = ("--confirm-wait", "40")
"""Options of a server whose CONFIRM waits for the flush: milliseconds."""


class Echo(Process):
    """An echo server (bench/echo.py) with one table of answers."""

    def __init__(self, folder: Path, kind: str, answers: dict[int, bytes]) -> None:
        self.socket = folder / f"echo-{kind}.sock"
        self.socket.unlink(missing_ok=True)
        table = folder / f"echo-{kind}.answers"
        write_answers(table, answers)
        program: list[Word] = [sys.executable, "-m", "bench.echo", "--socket", self.socket]
        super().__init__([*program, "--answers", table, "--stream", kind], folder / "echo.log")


class Server(Process):
    """`swpks serve` with some partitions on a state folder.

    A partition is a name, or NAME:KBYTES[,ATTRIBUTE=VALUE...] as on the command line; a bare name has
    `KBYTES`.  `toml` is the text of a configuration file, `options` are further words of the command.
    """

    def __init__(
        self,
        state: Path,
        partitions: Iterable[str] = ("bench",),
        options: Iterable[str] = (),
        *,
        toml: str = "",
    ) -> None:
        self.state = state
        words: list[Word] = [SWPKS, "serve", "--state", state, *options]
        asked = [each if ":" in each else f"{each}:{KBYTES}" for each in partitions]
        self.names = [each.partition(":")[0] for each in asked]
        words += [f"--partition={each}" for each in asked]
        if toml:
            config = state.with_suffix(".toml")
            config.write_text(toml)
            words += ["--config", config]
        super().__init__(words, state.with_suffix(".log"))

    def socket(self, name: str = "bench") -> Path:
        """Return the socket of a partition."""
        return self.state / "run" / f"{name}.sock"

    @property
    def console(self) -> BlockingConsole:
        """A client of the server's control channel."""
        return BlockingConsole(self.socket("control"), timeout=PATIENCE)

    def connect(self, name: str = "bench") -> BlockingChannel:
        """Open and return a session with a partition."""
        return BlockingChannel.connect(self.socket(name), timeout=PATIENCE)

    def prepare(self, name: str = "bench", objects: Iterable[tuple[bytes, bytes]] = OBJECTS) -> None:
        """Set the password of a new partition and write its objects, as every measurement needs it."""
        with self.connect(name) as channel:
            for result in channel.pipeline(preparation(objects)):
                if isinstance(result, Exception):
                    raise result
