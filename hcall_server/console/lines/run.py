"""Run one line of the console (spec/console.md#lines)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.messages import message
from hcall_abi.rules import console as control
from hcall_abi.rules import hmc as rules
from hcall_server.console.lines import changes, keys, lists, power, preludes, profiles
from hcall_server.console.lines.line import Line, LineCommand

if TYPE_CHECKING:
    from hcall_server.console.caller import LineCaller
    from hcall_server.console.console import ManagementConsole

COMMANDS: Mapping[str, LineCommand] = MappingProxyType(
    {
        command.syntax.command: command
        for family in (lists, changes, power, profiles, keys, preludes)
        for command in family.COMMANDS
    }
)
"""Every command by its name."""

LATER = ("migrlpar", "lslparmigr", "rrstartlpar")
"""Commands that come with the next release."""


async def run_line(console: ManagementConsole, argv: Sequence[str], caller: LineCaller) -> int:
    """Run a line and return its exit status: 0, or 1 after a refusal, which the caller has printed."""
    try:
        command = _command(argv[0] if argv else "")
        line = Line(console, command.syntax.parse(argv[1:]), caller)
    except SwpksError as error:
        await caller.say(message(error))
        return 1
    try:
        status = command.run(line)
        return status if isinstance(status, int) else await status
    except SwpksError as error:
        away = error.rule is control.CONSOLE_SERVED
        await caller.say(message(line.known.explained(error) if away else error))
        return 1


def _command(name: str) -> LineCommand:
    """Return a command; OperatorError for one that the console does not have, or not yet."""
    if name in LATER:
        raise OperatorError(rules.LINE_LATER, f"{name} comes with the next release of swpks")
    if name not in COMMANDS:
        known = ", ".join(sorted((*COMMANDS, *LATER)))
        raise OperatorError(rules.LINE_COMMAND, f"there is no command {name[:40]!r}; there are {known}")
    return COMMANDS[name]
