"""The parser of all commands: a wrong command line is an error as every other, with a rule and a page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules


class WrongWords(OperatorError):
    """The words of a command line are not those of its usage; `words` are the command that refused them."""

    def __init__(self, words: str, message: str) -> None:
        super().__init__(rules.COMMAND_USAGE, message)
        self.words = words


NEAREST = 3
"""Most names that are offered for an unknown one."""


class CommandParser(argparse.ArgumentParser):
    """Raises WrongWords where argparse would print its usage and end the process; so do its subparsers.

    `elsewhere` are words that are no commands here, each with the command that a user of it means.
    """

    elsewhere: Mapping[str, str] = {}
    also: str = ""
    """Further commands that argparse does not know, as words behind its list."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is no choice, with the choices that are near it."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            own = isinstance(action, argparse._SubParsersAction)
            known = {str(each): f"{self.prog} {each}" if own else str(each) for each in action.choices or ()}
            near = nearest(value, {**known, **self.elsewhere} if own else known)
            also = self.also if own else ""
            raise argparse.ArgumentError(action, f"{error.message}{also}{near}") from None

    def error(self, message: str) -> NoReturn:
        """Raise WrongWords with the message of argparse and the command that shows the usage."""
        words = self.prog.partition(" ")[2]
        raise WrongWords(words, f"{message}; for the usage: {self.prog} --help")


def nearest(word: str, known: Mapping[str, str]) -> str:
    """Return an offer of the commands whose names are near a word, "" for none."""
    import difflib  # a wrong word alone needs it

    names = [word] if word in known else difflib.get_close_matches(word, known, NEAREST)
    return f"; did you mean {' or '.join(known[each] for each in names)}?" if names else ""


def lines_elsewhere(lines: Sequence[str]) -> dict[str, str]:
    """Return the lines of the management console, each with the command that carries it out."""
    return {line: f"swpks hmc {line}" for line in lines}
