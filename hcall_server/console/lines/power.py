"""chsysstate: power partitions and managed systems on and off (spec/console.md#power)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hcall_abi.control_views import PartitionView
from hcall_abi.errors import OperatorError
from hcall_abi.requests import ConsoleRequest, ipl, power_off, power_on, stop_system
from hcall_abi.rules import hmc as rules
from hcall_server.console.advice import to_start
from hcall_server.console.lines.jobs import follow_recovery
from hcall_server.console.lines.line import SYSTEM, Line, LineCommand
from hcall_server.console.options import Option, Syntax, switch

Power = Callable[[str], ConsoleRequest[PartitionView]]


def _request(line: Line, operation: str) -> Power:
    """Return the request for an operation on a partition; OperatorError if it needs RMC."""
    if operation == "osshutdown":
        message = "osshutdown: the partition has no RMC connection; use chsysstate -o shutdown"
        raise OperatorError(rules.LINE_RMC, message)
    if operation == "shutdown":
        return ipl if "--restart" in line.options else power_off
    # The last operation is `dumprestart`.  It is an IPL on an emulated system (spec/console.md#power).
    return power_on if operation == "on" else ipl


async def _partition(line: Line, operation: str) -> int:
    # -n and --id belong to -r lpar alone.  The option table can't express that, so the check is here.
    if ("-n" in line.options) == ("--id" in line.options):
        raise OperatorError(rules.LINE_NEEDED, "chsysstate -r lpar takes one of -n, --id")
    partition = await line.partition()
    await line.known.call(_request(line, operation)(partition.name))
    return 0


async def _off(line: Line) -> int:
    await line.known.call(stop_system())
    return 0


async def _rebuild(line: Line) -> int:
    """Request the view of the system again.

    There is nothing else to rebuild: the console has no other state of the system.
    """
    await line.system()
    return 0


_OF_PARTITIONS = ("on", "shutdown", "osshutdown", "dumprestart")
_OF_SYSTEMS: dict[str, Callable[[Line], Awaitable[int]]] = {
    "off": _off,
    "rebuild": _rebuild,
    "recover": follow_recovery,
}


async def _chsysstate(line: Line) -> int:
    kind, operation = line.options.needed("-r"), line.options.needed("-o")
    if kind == "sys" and operation == "on":
        message = f"no line powers {line.known.name} on; {to_start(line.known.where)}"
        raise OperatorError(rules.LINE_SYSTEM_ON, message, advised=True)
    if operation not in (_OF_PARTITIONS if kind == "lpar" else _OF_SYSTEMS):
        raise OperatorError(rules.LINE_CHOICE, f"chsysstate: -o {operation} does not go with -r {kind}")
    if kind == "lpar":
        return await _partition(line, operation)
    return await _OF_SYSTEMS[operation](line)


COMMANDS = (
    LineCommand(
        Syntax(
            "chsysstate",
            (
                Option("-r", choices=("lpar", "sys"), required=True),
                SYSTEM,
                Option("-n", "PARTITION"),
                Option("--id", "ID"),
                Option("-o", choices=tuple(dict.fromkeys((*_OF_PARTITIONS, *_OF_SYSTEMS))), required=True),
                Option("-f", "PROFILE"),
                Option("-b", choices=("norm", "sms", "of", "dd", "ds")),
                switch("--immed"),
                switch("--restart"),
            ),
            ignored={"-k": "value", "--force": "nothing", "--continue": "nothing", "-w": "value"},
        ),
        _chsysstate,
    ),
)
