"""The names of the real console's commands: the first word of a line (spec/console.md#lines)."""

from __future__ import annotations

LINES = (
    *("lssyscfg", "chsyscfg", "mksyscfg", "rmsyscfg", "chsysstate"),
    *("bkprofdata", "rstprofdata", "rmprofdata", "mkprofdata"),
    *("chtskey", "lstskey", "lsrefcode", "lshmc", "lshwres", "lslic", "lspartition", "mkvterm", "rmvterm"),
    *("migrlpar", "lslparmigr", "rrstartlpar"),
)
"""A command that begins with one of these words goes to the console as it stands."""

ALSO_VERBS = ("chtskey", "lstskey")
"""Lines that are verbs of our own as well, at the control channel of a system."""

SOCKET = "run/console.sock"
"""The console's socket, below its store."""
WHERE = "run/where.sock"
"""The socket that tells clients where a partition is served, below the store."""
