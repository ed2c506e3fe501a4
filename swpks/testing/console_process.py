"""A real management console in its own process, for tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swpks.testing.at_caller import at_caller
from swpks.testing.options import check_own_options, check_words
from swpks.testing.own_process import OwnProcess, ServerFailed, run_swpks

if TYPE_CHECKING:
    from hcall_client.where import Address
    from swpks.hmc.store_console import StoreConsole

_OWN = {
    "--store": "its folder is the member `store`; for another one, write ConsoleProcess(FOLDER)",
    "--ready-fd": "the fields of the ready line are the member `ready`",
}
"""The options that the process object sets, and the remedies."""


class ConsoleProcess(OwnProcess):
    """A `swpks hmc serve` process over one store.

    `systems` are [NAME=]WHERE as on the command line; `options` are more words of the command line.  `ready`
    holds the fields that the console wrote to --ready-fd.
    """

    @at_caller
    def __init__(self, store: Path, systems: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        super().__init__(store)
        self.store = store
        self.systems = list(check_words("systems", systems, '["a=state/run/control.sock"]'))
        self.options = list(check_words("options", options, '["--manual-recovery"]'))
        check_own_options(self.options, _OWN)

    @property
    def command(self) -> list[str]:
        """The words of the command line after `swpks`."""
        named = [word for system in self.systems for word in ("--system", system)]
        return ["hmc", "serve", "--store", str(self.store), *named, *self.options]

    @property
    def _sockets(self) -> list[Path]:
        """The console's two sockets: one takes commands, the other reports where a partition is."""
        return [self.socket, self.store / "run" / "where.sock"]

    @property
    def socket(self) -> Path:
        """The path of the console's Unix socket."""
        return self.store / "run" / "console.sock"

    @at_caller
    def locate(self, name: str) -> Callable[[], Address]:
        """Return a blocking function that asks this console for the address of a partition."""
        from hcall_client.where import locate_at

        return locate_at(self.store / "run" / "where.sock", name)

    @at_caller
    def start(self) -> ConsoleProcess:
        """Start the console and wait until it is ready; ServerFailed if it does not become ready."""
        self.spawn()
        return self

    @at_caller
    def restart(self) -> ConsoleProcess:
        """Stop the console if it runs, and start it again on the same store."""
        if self.pid is not None:
            self.stop()
        return self.start()

    @at_caller
    def run(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `swpks hmc` with these words for this console, such as ``run("lssyscfg", "-r", "sys")``.

        The command gets the console's store in SWPKS_HMC, and `data` as its standard input.
        """
        return run_swpks(["hmc", *words], data, SWPKS_HMC=str(self.store))

    @at_caller
    def hmc(self, *words: str) -> str:
        """Run `swpks hmc` with these words, and return its output; ServerFailed if the command fails."""
        done = self.run(*words)
        if done.returncode:
            reason = (done.stderr or done.stdout).decode()
            raise ServerFailed(f"swpks hmc {' '.join(words)}: {reason}")
        return done.stdout.decode()

    def console(self, system: str | None = None) -> StoreConsole:
        """Return a client of the console whose requests are about `system`."""
        from swpks.hmc.store_console import StoreConsole

        return StoreConsole(self.store, system)
