"""The stage on which the demo plays: it tells each step and collects the verdicts.

    with stage.step("The machine is powered on", "Each partition has a socket of its own."):
        stage.check("both sockets answer", answered)

A reader can tell verdicts from other text: only a verdict begins with a mark.
"""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator
from typing import TextIO

WIDTH = 100
"""Most columns of a line; a longer text goes on in the next one."""

_BOLD, _DIM, _GREEN, _RED = "1", "2", "32", "1;31"


def wants_colour(out: TextIO) -> bool:
    """Return whether to use colour: on a terminal with colours, unless NO_COLOR is set."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class StepBroken(Exception):
    """A step ended early, and later steps depend on it; the cause has been printed."""


class Unwatched(KeyboardInterrupt):
    """The output takes no more lines: the demo ends as by an interrupt, with everything cleaned up."""


class DemoStage:
    """Prints the steps of the demo to `out`; with `colour` None it finds out whether to use colour.

    `checks` counts the verdicts so far, and `failed` those that did not hold.
    """

    def __init__(self, out: TextIO, *, colour: bool | None = None) -> None:
        self._out = out
        self._colour = wants_colour(out) if colour is None else colour
        self._marks = ("✓", "✗") if _can_write("✓✗", out) else ("ok:", "FAILED:")
        self.steps = 0
        self.checks = 0
        self.failed = 0

    @property
    def held(self) -> bool:
        """Whether there were verdicts and all of them held."""
        return self.checks > 0 and not self.failed

    def title(self, text: str) -> None:
        """Print the title of the demo."""
        self._line(self._paint(text, _BOLD))

    @contextlib.contextmanager
    def step(self, title: str, shows: str) -> Iterator[None]:
        """Tell one step: what it is and what it shows; its verdicts follow in the block.

        An error in the block is a verdict too: it is told, and StepBroken comes out.
        """
        self.steps += 1
        self._line("")
        self._line(self._paint(f"{self.steps:2}. {title}", _BOLD))
        self._paragraph(shows, "    ", "    ", _DIM)
        try:
            yield
        except Exception as error:
            self.check(f"the step could be played to its end ({type(error).__name__}: {error})", held=False)
            raise StepBroken from error

    def say(self, text: str) -> None:
        """Tell something that is no verdict."""
        self._paragraph(text, "    - ", "      ")

    def quote(self, text: str) -> None:
        """Tell a line that a command has printed."""
        self._paragraph(text, "    | ", "      ")

    def check(self, claim: str, held: bool) -> bool:
        """Give a verdict on a claim and return it."""
        self.checks += 1
        self.failed += not held
        mark = self._marks[0 if held else 1]
        first = f"    {self._paint(mark, _GREEN if held else _RED)} "
        self._paragraph(claim, first, " " * (len(mark) + 5), "" if held else _RED)
        return held

    def end(self, seconds: float) -> None:
        """Tell how it went in all."""
        verdict = f"all {self.checks} checks held" if self.held else f"{self.failed} of {self.checks} failed"
        colour = _GREEN if self.held else _RED
        self._line("")
        self._line(self._paint(f"{verdict}, {self.steps} steps, {seconds:.1f} s", colour))

    def _paragraph(self, text: str, first: str, rest: str, colour: str = "") -> None:
        for number, line in enumerate(textwrap.wrap(text, WIDTH - len(rest)) or [""]):
            self._line((rest if number else first) + self._paint(line, colour))

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text

    def _line(self, text: str) -> None:
        """Write and flush a line, because a reader behind a pipe wants to see each step at once."""
        try:
            print(text, file=self._out, flush=True)
        except OSError as error:
            raise Unwatched from error


def _can_write(text: str, out: TextIO) -> bool:
    try:
        text.encode(out.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
