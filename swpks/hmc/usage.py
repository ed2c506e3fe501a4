"""The usage of a line without a console: the tables of its options are in this installation (--help)."""

from __future__ import annotations

from hcall_server.console.lines.run import COMMANDS, usage_of

__all__ = ["options_of", "usage_of"]


def options_of(command: str) -> list[tuple[str, bool, tuple[str, ...]]]:
    """Return the options of a line: flag, whether a value follows, and the values that it can have."""
    return [(each.flag, each.takes != "nothing", each.choices) for each in COMMANDS[command].syntax.options]
