"""The parser of all commands: a wrong command line is an error as every other, with a rule and a page."""

from __future__ import annotations

import argparse
from typing import NoReturn

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules


class WrongWords(OperatorError):
    """The words of a command line are not those of its usage; `words` are the command that refused them."""

    def __init__(self, words: str, message: str) -> None:
        super().__init__(rules.COMMAND_USAGE, message)
        self.words = words


class CommandParser(argparse.ArgumentParser):
    """Raises WrongWords where argparse would print its usage and end the process; so do its subparsers."""

    def error(self, message: str) -> NoReturn:
        """Raise WrongWords with the message of argparse and the command that shows the usage."""
        words = self.prog.partition(" ")[2]
        raise WrongWords(words, f"{message}; for the usage: {self.prog} --help")
