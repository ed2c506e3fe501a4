"""Why a partition is not reached: a name that does not exist, a partition that is not served, or no server.

In all these cases the partition's socket is missing.  The control channel of the same system has the reason.
"""

# Why a partition is not reached
#
# The error of a socket (no such file, connection refused) is the same for four causes: a misspelt name, a
# partition that is powered off, a partition that the system may not serve, and a server that does not run.
# The remedies differ. So the command asks the control channel of the same system, which knows the state of
# each partition.
#
# It asks only after an error.  A command that succeeds never connects to the control socket, and needs no
# access to it.  The question has a time limit of its own (`PATIENCE`): it only improves a message.
#
# A time-out has several causes.  A frozen partition holds its calls until the end of its migration, and the
# state Recovery holds connections.  If the server hangs, it does not answer the control channel either; then
# the message names the log and --timeout.
#
# A TCP address says nothing about the control channel.  It is known only if --state names the system's
# folder.

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.frames import OpenStatus
from hcall_abi.rules import protocol
from hcall_abi.rules import service as rules
from hcall_abi.rules.console import NAME_EXISTS
from hcall_abi.scarcity import scarcity_of
from hcall_client.errors import NotReached, OpenRefused
from swpks.cli.absent import no_server
from swpks.cli.lpar_sought import Sought
from swpks.cli.refusals import reason_of

if TYPE_CHECKING:
    from hcall_abi.control_views import PartitionView, SystemView

PATIENCE = 5.0
"""Longest wait for the control channel in seconds: it only adds a reason to an error."""
_GONE = (FileNotFoundError, NotADirectoryError, ConnectionRefusedError)
"""Errors of a socket without a listener; the second one if the state is a file."""
_UNSERVED = (OpenStatus.NOT_ACTIVATED, OpenStatus.NO_SUCH_PARTITION)
"""Refusals of OPEN whose reason may be the state of the partition."""


def unreached(sought: Sought, error: OSError) -> SwpksError:
    """Return the error of a command that did not reach its partition: place, reason and remedy."""
    # A shortage of this process, such as no free descriptor, says nothing about the server.
    if scarce := scarcity_of(error):
        return scarce
    target = sought.target
    place = str(target) if isinstance(target, Path) else f"{target[0]}:{target[1]}"
    if isinstance(target, Path) and isinstance(error, _GONE):
        return _without_listener(target, sought)
    if isinstance(error, TimeoutError):  # a frozen partition holds calls, and Recovery holds connections
        message = f"the server at {place} did not answer within {sought.timeout:g} s"
        message += ": see its log, or set --timeout"
        return _standstill(sought) or PeerError(rules.COMMAND_ANSWERED, message)
    advice = "" if isinstance(target, Path) else "; the ready line of the server has its address (tcp)"
    return NotReached(f"no server answers at {place}: {reason_of(error)}{advice}")


def refused_open(sought: Sought, error: OpenRefused, *, numbered: bool) -> SwpksError:
    """Return the error for a refused OPEN, with advice; `numbered`: the command sent a partition id."""
    if error.status in _UNSERVED and (found := _standstill(sought)):
        return found
    if error.status == OpenStatus.NOT_ACTIVATED:
        name, state = shlex.quote(sought.name), _state_option(sought.state)
        told = f"{sought.name} is powered off, or about to move: swpks hmc{state} power {name} on"
    else:
        from swpks.cli.lpar_refused import advice  # only a refusal needs it

        told = advice(error.status, sought, _system(sought), numbered=numbered)
    if not told:
        return error
    # The client's own advice is about arguments of a program, not about options.
    return OperatorError(error.rule, f"{OpenRefused(error.status).message}: {told}")


def system_at(control: Path, timeout: float) -> SystemView | None:
    """Return the system that serves a control socket, None if it does not answer."""
    from hcall_client import console

    try:
        return console.BlockingConsole(control, timeout).call(console.show_system())
    except SwpksError:
        return None


def _system(sought: Sought) -> SystemView | None:
    return system_at(sought.control, min(sought.timeout, PATIENCE)) if sought.control else None


def _standstill(sought: Sought) -> SwpksError | None:
    """Return why the system does not serve a partition.

    None if the system serves the partition, or does not answer.
    """
    system = _system(sought)
    if system is None:
        return None
    from swpks.cli.lpar_standstill import unserved

    return unserved(system, sought.name)


def _without_listener(path: Path, sought: Sought) -> SwpksError:
    system = _system(sought)
    if system is None:
        return no_server(path)
    return _known(system, path, sought.name)


def _known(system: SystemView, path: Path, name: str) -> SwpksError:
    """Return why a partition of a running system has no socket."""
    from swpks.cli.lpar_standstill import unserved

    if standing := unserved(system, name):
        return standing
    found = next((each for each in system.partitions if each.name == name), None)
    state = _state_option(path.parent.parent)
    if found is None:
        names = ", ".join(each.name for each in system.partitions) or "no partition"
        message = f"there is no partition {name!r} at {path}: the system {system.name} has {names}"
        return OperatorError(NAME_EXISTS, message)
    return OperatorError(
        protocol.OPEN_POWER, f"{_reason(found)} (nothing listens at {path}): {_advice(found, state)}"
    )


def _state_option(state: Path | None) -> str:
    return f" --state {shlex.quote(str(state))}" if state else ""


def _reason(partition: PartitionView) -> str:
    if partition.refused:
        return f"{partition.name} is refused by its server"
    if partition.power == "running":
        return f"{partition.name} runs, and its socket is another one"
    return f"{partition.name} is powered off"


def _advice(partition: PartitionView, state: str) -> str:
    name = shlex.quote(partition.name)
    if partition.refused:
        return f"for the reason, swpks hmc{state} status {name}"
    if partition.power == "running":
        return "see the field sockets of the server's ready line, and give --socket"
    return f"swpks hmc{state} power {name} on"
