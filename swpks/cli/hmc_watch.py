"""`swpks hmc status --watch`: the state in a terminal, until Ctrl-C.

On a terminal each block replaces the one before.  In a pipe, blocks are separated by a line of dashes.  If
the console or the system goes away after the first block, the command reports that, and tries again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable

import msgspec

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import hmc as rules
from hcall_client import console as requests
from hcall_client.console import BlockingConsole, ConsoleMisspoken, ConsoleRefused, ConsoleUnreachable
from swpks.cli import hmc_output, streams
from swpks.cli.hmc_watch_output import overview_text
from swpks.hmc import overview_words as words
from swpks.hmc.line_client import Shown, escaped
from swpks.hmc.overview_views import Overview
from swpks.hmc.store_console import StoreConsole

AGAIN_SECONDS = 1.0
"""Seconds between two questions to a system, and before the next try after a loss."""

SEPARATOR = "-" * 72
_CLEAR = "\x1b[H\x1b[2J"
_ENDS = (ConsoleUnreachable, ConsoleRefused)


class Blocks:
    """Prints blocks; `shown` says whether one was printed."""

    def __init__(self) -> None:
        self.shown = False
        self._terminal = os.isatty(sys.stdout.fileno())
        self._lost = False

    def block(self, text: str) -> None:
        """Print the state."""
        if self._terminal:
            # More lines than the terminal has would scroll the first ones away.
            rows = shutil.get_terminal_size().lines - 2
            lines = text.splitlines()
            if len(lines) > rows:
                lines = [*lines[: rows - 1], f"... {len(lines) - rows + 1} more lines; a pipe shows all"]
            text = _CLEAR + "\n".join(lines)
        elif self.shown:
            text = f"{SEPARATOR}\n{text}"
        self._print(text)
        self.shown, self._lost = True, False

    def line(self, text: str) -> None:
        """Print a line of JSON."""
        self._print(text)
        self.shown, self._lost = True, False

    def lost(self, error: SwpksError) -> None:
        """Report once that the other end is away."""
        if not self._lost:
            streams.complain(f"connection lost since {_now()}: {error.message}; trying again")
        self._lost = True

    def _print(self, text: str) -> None:
        streams.say(text)


class _Overviews(Shown):
    """Prints each overview of a console."""

    def __init__(self, blocks: Blocks, *, as_json: bool) -> None:
        super().__init__(lambda _: None, terminal=False)
        self._blocks = blocks
        self._as_json = as_json

    def say(self, text: object) -> None:
        """Print an overview, which is a line of JSON."""
        if self._as_json:
            self._blocks.line(escaped(text))
            return
        try:
            overview = msgspec.json.decode(str(text), type=Overview)
        except msgspec.DecodeError as error:
            raise ConsoleMisspoken("watch", f"an overview of another shape ({error})") from None
        self._blocks.block(f"{_now()}\n{overview_text(hmc_output.plain(overview))}")


def watch(args: argparse.Namespace, end: BlockingConsole | StoreConsole) -> int:
    """Print the state now and at each change; only an error or Ctrl-C ends it."""
    if args.name is not None:
        message = "--watch shows all partitions: leave NAME out"
        raise OperatorError(rules.HMC_TARGET, message, advised=True)
    blocks = Blocks()
    if isinstance(end, StoreConsole):
        shown = _Overviews(blocks, as_json=args.json)
        return _again(blocks, lambda: end.follow(object, "watch", shown, system=args.system))
    system = _System(blocks, end, as_json=args.json)
    return _again(blocks, system.ask)


def _again(blocks: Blocks, work: Callable[[], object]) -> int:
    """Do the work again and again; after the first block, a loss of the other end ends nothing."""
    while True:
        try:
            work()
        except _ENDS as error:
            stopped = not isinstance(error, ConsoleRefused) or error.rule is rules.HMC_STOPPED
            if not (blocks.shown and stopped):
                raise
            blocks.lost(error)
        time.sleep(AGAIN_SECONDS)


class _System:
    """Asks one system, which has no overview, for its view."""

    def __init__(self, blocks: Blocks, end: BlockingConsole, *, as_json: bool) -> None:
        self._blocks = blocks
        self._end = end
        self._as_json = as_json
        self._last = ""

    def ask(self) -> None:
        """Print the view if its text has changed.

        The text has ages, so it changes while the view does not.  Ages are in minutes, as in an overview: an
        age in seconds would make a block each second.
        """
        view = self._end.call(requests.show_system())
        if self._as_json:
            text = json.dumps(msgspec.to_builtins(view))
        else:
            text = hmc_output.system(hmc_output.plain(view), _in_minutes)
        if text == self._last:
            return
        self._last = text
        if self._as_json:
            self._blocks.line(text)
        else:
            self._blocks.block(f"{_now()}\n{text}")


def _in_minutes(seconds: float) -> str:
    # The system's clock may be ahead of this one, and no copy has a negative age.
    return words.age(int(max(seconds, 0) // 60))


def _now() -> str:
    return hmc_output.moment(time.time())
