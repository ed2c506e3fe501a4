"""The error of a command that finds no server: one message and one rule for all commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules.console import CONSOLE_SERVED


def no_server(path: Path) -> OperatorError:
    """Return the error of a command that found no server listening at the socket `path`.

    If the socket is in a folder `run`, the error names the remedy.  If that folder belongs to a state, the
    remedy is the start of its server.  If it belongs to a console's store, or to no state, the remedy is
    another option.
    """
    run = path.parent
    advice = _advice(run.parent, path) if run.name == "run" else "; see the ready line of the server"
    others = _entries(run)
    found = f"; the sockets there are {', '.join(others)}" if others else ""
    message = f"no server runs here: nothing listens at {path}{found}{advice}"
    return OperatorError(CONSOLE_SERVED, message, advised=True)


def _advice(state: Path, path: Path) -> str:
    """Return the remedy for a socket of a folder that is or is not a state."""
    from hcall_server.folders import (
        FolderKind,
        kind_of,
        nvram_on_etcd,
        question_of,
        refusal_inside,
    )  # most commands reach their server

    quoted = shlex.quote(str(state))
    if (kind := kind_of(state)) is FolderKind.STORE:
        of_system = path.name == "control.sock"  # the other commands have no --store
        right = f"use --store {quoted}" if of_system else "name the state of a system"
        return f"; {state} is a console's store: {right}"
    start = f"start one: swpks serve --state {quoted}"
    if kind is FolderKind.STATE:
        waits = "a standby serves when it owns NVRAM on etcd, see its log; or "
        return f"; {waits}{start} --nvram ..." if nvram_on_etcd(state) else f"; {start}"
    question = question_of(state)
    if not state.exists():
        # A server refuses to make a state inside of another folder of ours.
        more = "" if refusal_inside(state, FolderKind.STATE) else f"; {'or ' if question else ''}{start}"
        return f" (there is no folder {state}){question}{more}"
    if state.is_file():
        return f"; {state} is a file and no folder{question}"
    # A server is started in a new folder only.  With other content, such an advice would lead to a refusal.
    if _is_new(state) and not question:
        return f"; {start}"
    return f"; {state} is no state of a system{question or ': name the folder of --state of the server'}"


def _is_new(folder: Path) -> bool:
    """Return whether a server makes a new state here: in an empty folder, or beside passed sockets."""
    try:
        return {each.name for each in folder.iterdir()} <= {"run"}
    except OSError:
        return False


def _entries(folder: Path) -> Sequence[str]:
    try:
        return sorted(each.name for each in folder.iterdir() if each.is_socket())
    except OSError:
        return ()
