"""Run a server process with its log: the common part of all servers."""

from __future__ import annotations

import sys
from collections.abc import Callable

from hcall_abi.errors import SwpksError
from hcall_abi.scarcity import scarcity_of
from hcall_server.machine import logs
from hcall_server.process.hardening import forbid_dumps

CRASHED = 1
"""Exit status after an error in the server itself."""
PATIENCE = 1.0
"""Seconds that the process waits at its end for the reader of the log, which may have stopped for ever."""
_STANDARD_ERROR = 2


def run_logged(serve: Callable[[], None], crashed: str, *, level: str, style: str | None) -> int:
    """Call `serve`, with its log on standard error; return the exit status, 0 or CRASHED.

    Raise the SwpksError of `serve`, or ScarcityError if the host lacks a resource.  Any other error is a bug:
    it is logged as the event `crashed`.
    """
    logs.configure(level=level, style=style)
    logs.write_behind(_STANDARD_ERROR, sys.stderr.encoding or "utf-8")
    try:
        serve()
    except SwpksError:
        raise
    except Exception as error:
        if scarce := scarcity_of(error):
            raise scarce from None
        # The error is logged here.  If it left the process, Python would write it itself, and would wait for
        # ever if the reader has stopped.
        logs.Log().error(crashed, exc_info=error)
        return CRASHED
    finally:
        logs.flush(PATIENCE)
    return 0


def protect_memory(*, debuggable: bool) -> None:
    """Forbid core dumps and debuggers, unless the operator permits them.

    If the system refuses that, log it.
    """
    if not (debuggable or forbid_dumps()):
        logs.Log().warning("process.dumpable", reason="the system refuses PR_SET_DUMPABLE")
