"""The names of the real console's commands: a line begins with one of them (spec/console.md#lines)."""

from __future__ import annotations

LINES = (
    *("lssyscfg", "chsyscfg", "mksyscfg", "rmsyscfg", "chsysstate"),
    *("bkprofdata", "rstprofdata", "rmprofdata", "mkprofdata"),
    *("chtskey", "lstskey", "lsrefcode", "lshmc", "lshwres", "lslic", "lspartition", "mkvterm", "rmvterm"),
    *("migrlpar", "lslparmigr", "rrstartlpar"),
)
"""A command that begins with one of these words is a line: it goes to the console unchanged."""

ALSO_VERBS = ("chtskey", "lstskey")
"""Lines whose names are also verbs at the control channel of a system."""

SOCKET = "run/console.sock"
"""The console's socket, below its store."""
WHERE = "run/where.sock"
"""The socket that answers where a partition is served, below the store."""
