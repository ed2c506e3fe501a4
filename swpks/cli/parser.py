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


# Options between operands
#
# argparse gives a verb its operands at the first of them.  With `create web -m sys2 16` the optional operands
# get nothing, and 16 is left over.  So the words of a verb are ordered before argparse reads them: options
# first.  `parse_intermixed_args` of argparse was dropped: it calls `parse_known_args` itself, hides operands
# in its errors, and refuses a parser with subcommands.
#
# Words whose kind is in doubt stay where they are, and argparse decides: unknown and shortened options, and
# options with another number of values than none or one.  Words behind `--` are operands.


class CommandParser(argparse.ArgumentParser):
    """A parser that raises WrongWords where argparse would print its usage and end the process.

    Its subparsers do the same. `elsewhere` has words that are no commands here, each with the command that
    a user probably means.
    """

    elsewhere: Mapping[str, str] = {}
    also: str = ""
    """Further commands that argparse does not know, as words behind its list."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; a verb's options may stand between its operands."""
        # The type of argparse is three overloads; the value is the same for each of them.
        words = None if args is None else ordered(self, list(args))
        return super().parse_known_args(words, namespace)

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


def ordered(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """Return the words of a verb, options first.

    They are unchanged for a parser with subcommands, and if the kind of a word is in doubt.
    """
    if any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in parser._actions):
        return words
    options, operands = list[str](), list[str]()
    rest = iter(words)
    for word in rest:
        if word == "--":
            operands += [word, *rest]
        elif not word.startswith("-") or word == "-":
            operands.append(word)
        else:
            name, equals, _ = word.partition("=")
            action = parser._option_string_actions.get(name)
            if action is None or action.nargs not in (None, 0):
                return words
            options.append(word)
            if not equals and action.nargs != 0:
                value = next(rest, None)
                if value is None:
                    return words  # argparse names the missing value
                options.append(value)
    return options + operands


def nearest(word: str, known: Mapping[str, str]) -> str:
    """Return "; did you mean X?" with the commands whose names are near a word, "" for none."""
    names = [word] if word in known else near_names(word, known, NEAREST)
    question = did_you_mean(known[each] for each in names)
    return question and f"; {question}"


def lines_elsewhere(lines: Sequence[str]) -> dict[str, str]:
    """Return the lines of the management console, each with the command that carries it out."""
    return {line: f"swpks hmc {line}" for line in lines}
