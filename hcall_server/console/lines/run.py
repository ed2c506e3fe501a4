"""Run one line of the console (spec/console.md#lines)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import console as control
from hcall_abi.rules import hmc as rules
from hcall_server.console.lines import changes, keys, lists, migration, moves, power, preludes, profiles
from hcall_server.console.lines.line import Line, LineCommand, refusal

if TYPE_CHECKING:
    from hcall_server.console.caller import LineCaller
    from hcall_server.console.console import ManagementConsole

COMMANDS: Mapping[str, LineCommand] = MappingProxyType(
    {
        command.syntax.command: command
        for family in (lists, changes, power, profiles, keys, preludes, migration, moves)
        for command in family.COMMANDS
    }
)
"""Every command by its name."""


_OF_OPTIONS = (rules.LINE_OPTION, rules.LINE_NEEDED, rules.LINE_CHOICE)
"""Rules about the options of a line: a command checks those that depend on the value of another one."""

HELP = "--help"
"""The option of every command that prints its usage, and does nothing else."""


def usage_of(command: str) -> str:
    """Return the usage line of a command; OperatorError if the console does not have the command."""
    return _command(command).syntax.usage


async def run_line(console: ManagementConsole, argv: Sequence[str], caller: LineCaller) -> int:
    """Run a line and return its exit status: 0, or 1 after a refusal.

    The refusal is printed.
    """
    try:
        command = _command(argv[0] if argv else "")
        # --help is checked before the parser.  No option table contains it, and a line with --help needs no
        # other option.
        if HELP in argv[1:]:
            await caller.say(command.syntax.usage)
            return 0
        line = Line(console, command.syntax.parse(argv[1:]), caller)
    except SwpksError as error:
        # The line could not be parsed.  So its system and partition are unknown, and the remedy does not name
        # them.
        await caller.say(refusal(console, error))
        return 1
    try:
        status = command.run(line)
        return status if isinstance(status, int) else await status
    except SwpksError as error:
        # The error of the link has only the address of the system.  `explained` adds its name, and since when
        # it is away.
        away = error.rule is control.CONSOLE_SERVED
        await line.refuse(line.known.explained(error) if away else _with_usage(command, error))
        return 1


def _with_usage(command: LineCommand, error: SwpksError) -> SwpksError:
    """Return a refusal; add the usage line if the refusal is about options."""
    if error.rule not in _OF_OPTIONS or error.advised:
        return error
    return OperatorError(error.rule, f"{error.message}.\n{command.syntax.usage}", advised=True)


def _command(name: str) -> LineCommand:
    """Return a command by its name; OperatorError if the console does not have it."""
    if name not in COMMANDS:
        known = ", ".join(sorted(COMMANDS))
        raise OperatorError(
            rules.LINE_COMMAND, f"there is no command {name[:40]!r}; there are {known}", advised=True
        )
    return COMMANDS[name]
