"""The output of the demo: it prints each step, and counts the checks.

    with stage.step("The machine is powered on", "Each partition has a socket of its own."):
        stage.check("both sockets answer", answered)

Only the line of a check begins with a mark, so a reader can distinguish it from other text.
"""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator
from typing import TextIO

WIDTH = 100
"""Most columns of a line; a longer text is wrapped."""

_BOLD, _DIM, _GREEN, _RED = "1", "2", "32", "1;31"


def wants_colour(out: TextIO) -> bool:
    """Return whether to use colour: if `out` is a terminal with colours, unless NO_COLOR is set."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class StepBroken(Exception):
    """A step ended early, and later steps depend on it; the demo has printed the cause."""


# This error is a KeyboardInterrupt: an `except Exception` of a step must not take it for a failed check.
class Unwatched(KeyboardInterrupt):
    """The output can't be written any more; the demo ends with a clean-up, as after an interrupt."""


class DemoStage:
    """Prints the steps of the demo to `out`; with `colour` None, colour depends on the terminal.

    `checks` counts the checks so far, and `failed` the checks that did not hold.
    """

    def __init__(self, out: TextIO, *, colour: bool | None = None) -> None:
        self._out = out
        self._colour = wants_colour(out) if colour is None else colour
        # Some terminals and log files use ASCII or Latin-1, which lack these marks.
        self._marks = ("✓", "✗") if _can_write("✓✗", out) else ("ok:", "FAILED:")
        self.steps = 0
        self.checks = 0
        self.failed = 0

    @property
    def held(self) -> bool:
        """Whether there was at least one check and all of them held."""
        return self.checks > 0 and not self.failed

    def title(self, text: str) -> None:
        """Print the title of the demo."""
        self._line(self._paint(text, _BOLD))

    @contextlib.contextmanager
    def step(self, title: str, shows: str) -> Iterator[None]:
        """Print the title and the purpose of a step; the block contains the checks of the step.

        An error in the block counts as a failed check; then StepBroken is raised.
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
        """Print a fact that is not a check."""
        self._paragraph(text, "    - ", "      ")

    def quote(self, text: str) -> None:
        """Print a line of a command's output."""
        self._paragraph(text, "    | ", "      ")

    def check(self, claim: str, held: bool) -> bool:
        """Print a claim with a mark, count it, and return whether it held."""
        self.checks += 1
        self.failed += not held
        mark = self._marks[0 if held else 1]
        first = f"    {self._paint(mark, _GREEN if held else _RED)} "
        self._paragraph(claim, first, " " * (len(mark) + 5), "" if held else _RED)
        return held

    def end(self, seconds: float) -> None:
        """Print the result of the whole demo."""
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
        """Write a line; Unwatched if the output can't be written."""
        try:
            # Each line is flushed: a reader of a pipe has to get each step when it happens.
            print(text, file=self._out, flush=True)
        except OSError as error:
            raise Unwatched from error


def _can_write(text: str, out: TextIO) -> bool:
    try:
        text.encode(out.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
