"""The command line as a tree, made from the parser: for completion and capabilities."""

# Why the parser's private attributes are used
#
# argparse has no public way to list its options.  A second list beside the parser would become wrong with the
# next option.  So this module reads `_actions` and `_choices_actions`; no other module does.
#
# The kind of a value (folder, file) is not in a parser either.  It follows from the type of the option
# (`Path`, `state_path`) or from its metavar, such as DIR or FILE.  So a new option with a usual metavar is
# completed as well.
#
# Lines of the console are not in the parser at all (hmc_line.py).  Their options come from the syntax tables
# of the console.  A line that is also a verb of ours gets the options of both.

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swpks.cli.subjects import asked, offered
from swpks.cli.where import state_path
from swpks.hmc.names import LINES

_FOLDERS, _FILES = ("DIR",), ("F", "FILE", "PATH", "SOCK")

_MANY, _NONE = ("*", "+", argparse.REMAINDER), ("*", "?", argparse.REMAINDER)
"""Numbers of values in a parser: more than one, and none at all."""


class Argument(NamedTuple):
    """An option or an operand: its names (none for an operand), its value, and the possible values.

    `value` is "" for an option without a value; `kind` is "folder", "file" or "".  `of_line` marks options of
    the console's lines: they do not accept --option=value.  `needed` and `repeated` are for the manual.
    """

    names: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    kind: str
    about: str
    of_line: bool = False
    needed: bool = False
    repeated: bool = False


class Command(NamedTuple):
    """A command with its options, operands and further commands.

    Operands precede the further commands: `lpar` has the partition's name before its verbs.
    """

    path: tuple[str, ...]
    about: str
    options: tuple[Argument, ...]
    operands: tuple[Argument, ...]
    commands: tuple[Command, ...]
    description: str = ""

    def all(self) -> Iterator[Command]:
        """Yield this command and all below it."""
        yield self
        for each in self.commands:
            yield from each.all()


def tree(parser: argparse.ArgumentParser) -> Command:
    """Return the commands of a parser, with the lines of the management console below `hmc`."""
    found = _command((parser.prog,), "", parser)
    return found._replace(
        commands=tuple(_with_lines(each) if each.path[-1] == "hmc" else each for each in found.commands)
    )


def option_names(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> list[str]:
    """Return the names of all options that the command in `chosen` accepts."""
    names = list[str]()
    for action in parser._actions:
        names += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            names += option_names(action.choices[getattr(chosen, action.dest)], chosen)
    return list(dict.fromkeys(names))


MOST_COMMANDS = 3
"""Most commands that an error names."""


def of_other_commands(parser: argparse.ArgumentParser, option: str) -> str:
    """Return "; it is an option of `X`" with the commands below `parser` that have it, "" for none."""
    found = _commands_with(parser, option)
    more = " and others" if len(found) > MOST_COMMANDS else ""
    named = ", ".join(f"`{each}`" for each in found[:MOST_COMMANDS])
    return named and f"; it is an option of {named}{more}"


def _commands_with(parser: argparse.ArgumentParser, option: str) -> list[str]:
    """Return the commands that have an option; a command with it stands for its verbs too."""
    found = list[str]()
    for action in parser._actions:
        for sub in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            found += [sub.prog] if option in sub._option_string_actions else _commands_with(sub, option)
    return list(dict.fromkeys(found))


def _command(path: tuple[str, ...], about: str, parser: argparse.ArgumentParser) -> Command:
    options, operands, commands = list[Argument](), list[Argument](), list[Command]()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {each.dest: each.help or "" for each in action._choices_actions}
            commands += [
                _command((*path, name), summaries[name], sub) for name, sub in action.choices.items()
            ]
        else:
            (options if action.option_strings else operands).append(_argument(action))
    described = (tuple(options), tuple(operands), tuple(commands), parser.description or "")
    return Command(path, about, *described)


def _argument(action: argparse.Action) -> Argument:
    value = "" if action.nargs == 0 else _metavar(action)
    choices = offered() if action.type is asked else tuple(map(str, action.choices or ()))
    about = (action.help or "") % {**vars(action), "prog": "swpks"} if action.help else ""
    many = isinstance(action, argparse._AppendAction) or action.nargs in _MANY
    needed = action.required and action.nargs not in _NONE
    kind = _kind(action, value)
    return Argument(tuple(action.option_strings), value, choices, kind, about, needed=needed, repeated=many)


def _metavar(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def _kind(action: argparse.Action, value: str) -> str:
    if value in _FOLDERS or action.type is state_path:
        return "folder"
    return "file" if value in _FILES or action.type is Path else ""


def _with_lines(hmc: Command) -> Command:
    """Return `hmc` with the console's lines; a line that is also a verb has the options of both."""
    from swpks.hmc.usage import options_of

    own = {each.path[-1]: each for each in hmc.commands}
    for line in LINES:
        options = [
            Argument((flag,), flag.lstrip("-").upper() if valued else "", choices, "", "", of_line=True)
            for flag, valued, choices in options_of(line)
        ]
        before = own.get(line) or Command((*hmc.path, line), "a line of the management console", (), (), ())
        known = {name for each in before.options for name in each.names}
        more = [each for each in options if each.names[0] not in known]
        own[line] = before._replace(options=(*before.options, *more))
    return hmc._replace(commands=tuple(own.values()))
