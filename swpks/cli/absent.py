"""The error of a command that finds no server: one message and one rule for all commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules.console import CONSOLE_SERVED


def no_server(path: Path) -> OperatorError:
    """Return the error of a command that found no server listening at the socket `path`.

    If the socket is in a folder `run`, that folder belongs to a state or to a console's store. For a state,
    the remedy is to start its server. For a console's store, it is to name the right target.
    """
    from swpks.hmc.store_folder import DATABASE  # most commands reach their server, and need no error

    run = path.parent
    in_state, state = run.name == "run", run.parent
    advice = f"start one: swpks serve --state {shlex.quote(str(state))}"
    if not in_state:
        advice = "see the ready line of the server"
    elif (state / DATABASE).is_file():
        of_system = path.name == "control.sock"  # the other commands have no --store
        right = f"use --store {shlex.quote(str(state))}" if of_system else "name the state of a system"
        advice = f"{state} is a console's store: {right}"
    others = _sockets(run)
    found = f"; the sockets there are {', '.join(others)}" if others else ""
    missing = f" (there is no folder {state})" if in_state and not state.is_dir() else ""
    message = f"no server runs here: nothing listens at {path}{missing}{found}; {advice}"
    return OperatorError(CONSOLE_SERVED, message, advised=True)


def _sockets(folder: Path) -> Sequence[str]:
    try:
        return sorted(each.name for each in folder.iterdir() if each.is_socket())
    except OSError:
        return ()
