"""A check with the real parsers: does swpks accept a command that a message advises?"""

from __future__ import annotations

import argparse
from functools import cache

from hcall_abi.errors import OperatorError
from hcall_server.console.lines.run import COMMANDS
from swpks.cli.hmc_line import line_of
from swpks.cli.hmc_target import target_of
from swpks.cli.main import whole_parser
from swpks.hmc.names import LINES


@cache
def parser() -> argparse.ArgumentParser:
    """Return the real parser of all commands."""
    return whole_parser()


def takes(words: list[str]) -> bool:
    """Return whether swpks accepts a command.

    Lines of the console are checked by their syntax, all other commands by argparse.
    """
    if words[0] in LINES:
        words = ["swpks", "hmc", "--store", "DIR", *words]
    assert words[0] == "swpks"
    try:
        line = line_of(words[2:]) if words[1:2] == ["hmc"] else None
        if line is None:
            args, unknown = parser().parse_known_args(words[1:])
            if words[1:2] == ["hmc"]:
                target_of(args)  # it refuses two ends
            return not unknown
        if line[1][1:] != ["--help"]:
            COMMANDS[line[1][0]].syntax.parse(line[1][1:])
    except OperatorError:
        return False
    except SystemExit as ended:  # --help ends with status 0
        return ended.code == 0
    return True
