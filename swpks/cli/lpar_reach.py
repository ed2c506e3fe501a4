"""Why a partition is not reached: a name that does not exist, a partition that is off, or no server.

The socket of a partition is missing in all three cases.  The control channel beside it tells them apart.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.frames import OpenStatus
from hcall_abi.rules import protocol
from hcall_abi.rules import service as rules
from hcall_abi.rules.console import NAME_EXISTS
from hcall_abi.scarcity import scarcity_of
from hcall_client.errors import NotReached, OpenRefused
from swpks.cli.refusals import reason_of

if TYPE_CHECKING:
    from hcall_abi.control_views import PartitionView, SystemView

PATIENCE = 5.0
"""Most seconds that the control channel is asked for the reason of an error."""
_GONE = (FileNotFoundError, ConnectionRefusedError)
"""Errors of a socket that nothing listens at."""


def unreached(target: Path | tuple[str, int], name: str, error: OSError, timeout: float) -> SwpksError:
    """Return the error of a command that reached no partition: the place, the reason and what to do."""
    if scarce := scarcity_of(error):
        return scarce
    place = str(target) if isinstance(target, Path) else f"{target[0]}:{target[1]}"
    if isinstance(error, TimeoutError):
        told = f"the server at {place} did not answer within {timeout:g} s: see its log, or set --timeout"
        return PeerError(rules.COMMAND_ANSWERED, told)
    if isinstance(target, Path) and isinstance(error, _GONE):
        return _without_listener(target, name, min(timeout, PATIENCE))
    advice = "" if isinstance(target, Path) else "; its ready line tells where a server listens (tcp)"
    return NotReached(f"no server answers at {place}: {reason_of(error)}{advice}")


def refused_open(error: OpenRefused, name: str, *, numbered: bool) -> SwpksError:
    """Return the refusal of a session with advice; `numbered` says whether --partition was given."""
    if error.status == OpenStatus.NOT_ACTIVATED:
        advice = f"{name} is powered off, or about to move: swpks hmc power {shlex.quote(name)} on"
    elif error.status == OpenStatus.NO_SUCH_PARTITION and not numbered:
        advice = "the listener serves several partitions: add --partition N; swpks hmc status shows the ids"
    else:
        return error
    return OperatorError(error.rule, f"{error.message}: {advice}")


def system_at(control: Path, timeout: float) -> SystemView | None:
    """Return the system that serves a control socket, None if it does not answer."""
    from hcall_client import console

    try:
        return console.BlockingConsole(control, timeout).call(console.show_system())
    except SwpksError:
        return None


def _without_listener(path: Path, name: str, timeout: float) -> SwpksError:
    run = path.parent
    system = system_at(run / "control.sock", timeout)
    if system is not None:
        return _known(system, path, name)
    state = shlex.quote(str(run.parent))
    in_state = run.name == "run"
    advice = f"start one: swpks serve --state {state}" if in_state else "see the ready line of the server"
    others = _sockets(run)
    found = f"; the sockets there are {', '.join(others)}" if others else ""
    missing = "" if run.parent.is_dir() else f" (there is no folder {run.parent})"
    return NotReached(f"no server runs here: nothing listens at {path}{missing}{found}; {advice}")


def _sockets(folder: Path) -> Sequence[str]:
    try:
        return sorted(each.name for each in folder.iterdir() if each.is_socket())
    except OSError:
        return ()


def _known(system: SystemView, path: Path, name: str) -> SwpksError:
    """Return the reason that a running system has for a partition without a socket."""
    found = next((each for each in system.partitions if each.name == name), None)
    state = f"--state {shlex.quote(str(path.parent.parent))}"
    if found is None:
        names = ", ".join(each.name for each in system.partitions) or "no partition"
        told = f"there is no partition {name!r} at {path}: the system {system.name} has {names}"
        return OperatorError(NAME_EXISTS, told)
    return OperatorError(
        protocol.OPEN_POWER, f"{_reason(found)} (nothing listens at {path}): {_advice(found, state)}"
    )


def _reason(partition: PartitionView) -> str:
    if partition.refused:
        return f"{partition.name} is refused by its server"
    if partition.power == "running":
        return f"{partition.name} runs, and its socket is another one"
    return f"{partition.name} is powered off"


def _advice(partition: PartitionView, state: str) -> str:
    name = shlex.quote(partition.name)
    if partition.refused:
        return f"for the reason, swpks hmc {state} status {name}"
    if partition.power == "running":
        return "see the field sockets of the server's ready line, and give --socket"
    return f"swpks hmc {state} power {name} on"
