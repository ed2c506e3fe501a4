"""The parser of all commands: a wrong command line is an error like any other, with a rule and a page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hcall_abi.errors import OperatorError
from hcall_abi.near import did_you_mean, near_names
from hcall_abi.rules import service as rules


class WrongWords(OperatorError):
    """The command line does not match the usage; `words` name the command and its verb."""

    def __init__(self, words: str, message: str) -> None:
        super().__init__(rules.COMMAND_USAGE, message)
        self.words = words


NEAREST = 3
"""Most near names in the error for an unknown one."""


class CommandParser(argparse.ArgumentParser):
    """A parser that raises WrongWords where argparse would print its usage and end the process.

    Its subparsers do the same. `elsewhere` has words that are no commands here, each with the command that
    a user probably means.
    """

    elsewhere: Mapping[str, str] = {}
    also: str = ""
    """Further commands that argparse does not know, as words behind its list."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raise ArgumentError with the near choices for a value that is no choice."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            # A near name of a command is shown as a whole command, so that it can be copied.
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
    """Return "; did you mean X?" with the commands whose names are near a word, "" for none."""
    names = [word] if word in known else near_names(word, known, NEAREST)
    question = did_you_mean(known[each] for each in names)
    return question and f"; {question}"


def lines_elsewhere(lines: Sequence[str]) -> dict[str, str]:
    """Return the lines of the management console, each with the command that carries it out."""
    return {line: f"swpks hmc {line}" for line in lines}
