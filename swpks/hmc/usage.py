"""The usage of a line (--help), which needs no console: this installation has the tables of options."""

from __future__ import annotations

from hcall_server.console.lines.run import COMMANDS, usage_of

__all__ = ["options_of", "usage_of"]


def options_of(command: str) -> list[tuple[str, bool, tuple[str, ...]]]:
    """Return the options of a line, each as (flag, whether a value follows, permitted values)."""
    return [(each.flag, each.takes != "nothing", each.choices) for each in COMMANDS[command].syntax.options]
