"""Remedies in the words of the fixtures: an error of the server or of its console names a Python call.

The server's own remedies are commands of a shell, which the author of a test does not use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_abi.mistakes import Mistake
from hcall_abi.rules import console, hmc, migration
from hcall_client.errors import OpenRefused, with_message, with_remedy

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job


class PartitionGone(Mistake, RuntimeError):
    """The partition is not served any more: the block or the test that had it is over."""

    def __init__(self) -> None:
        super().__init__("the partition is not served any more: use it inside of its block or its test")


class ConsoleGone(Mistake, RuntimeError):
    """The console and its systems do not exist any more: the block or the test that had them is over."""

    def __init__(self) -> None:
        super().__init__("the console does not exist any more: use it inside of its block or its test")


def of_session(ipl: str, connect: str) -> Mapping[int | None, str]:
    """Return the remedies for a session that has ended; `ipl` and `connect` are the right Python calls."""
    over = f"each IPL and each power-off ends all sessions: write {ipl}"
    return {
        GoodbyeReason.IPL_OR_POWER_OFF: over,
        GoodbyeReason.SERVER_STOPPING: f"write {connect}",
        None: f"if the test has cut the power: write {connect}",
    }


def of_system(system: str, name: str) -> Mapping[int | None, str]:
    """Return the remedies for a session with a partition of a console's system."""
    again = f"await partition({name!r}, {system!r})"
    return {
        **of_session("channel = await ipl(), or take the member `channel` of the newest IPL", again),
        GoodbyeReason.MIGRATED: f"write await partition({name!r}, SYSTEM) with its new system, or follow it "
        f"by swpks.open_following(pks_console.locate({name!r}))",
        None: f"if the test has cut the power: write await start_system({system!r}), and then {again}",
    }


@contextmanager
def off_told(name: str, ipl: str) -> Iterator[None]:
    """Add the remedy `ipl` to a refusal whose reason is that a partition is powered off."""
    told = f"{name} is powered off: write {ipl} first"
    try:
        yield
    except OpenRefused as error:
        raise (with_remedy(error, told) if error.status == OpenStatus.NOT_ACTIVATED else error) from None


def off_already(error: OperatorError, ipl: str) -> OperatorError:
    """Return the refusal of `power_off` for a partition that is off already, with the remedy."""
    return with_remedy(error, f"remove this call, or write {ipl} before it")


_OF_JOBS = {
    hmc.HMC_RECOVERY_EMPTY.id: "only a system in the state Recovery is recovered: "
    "write await replace_service_processor({system!r}) first, with manual_recovery=True in the mark",
    console.CONSOLE_SERVED.id: "if {system} is off: write await start_system({system!r}) first",
    hmc.HMC_RECOVERY_COPIES.id: "write await backup({system!r}) before the loss of the stores",
}
"""The remedy for a job of the console that fails, by its rule."""


_NEEDS_KEY = "; set that key"
"""The beginning of the console's remedy for a store whose trusted system key is another."""


def of_job(job: Job) -> str:
    """Return the last line of a failed job, with the remedy in Python."""
    line = job.lines[-1] if job.lines else "no reason"
    remedy = _OF_JOBS.get(job.rule_id) if _NEEDS_KEY not in line else "write the line as await line(...)"
    return f"{line}; {remedy.format(system=job.system)}" if remedy else line


def of_restart(error: OperatorError, name: str, source: str, target: str) -> OperatorError:
    """Return the refusal of a remote restart with the remedy in Python."""
    if error.rule is migration.RESTART_SOURCE:
        move = f"migrate({name!r}, {source!r}, {target!r})"
        remedy = f"write await power_cut_system({source!r}) first, or await {move}"
    elif error.rule is migration.RESTART_KEY:
        line = "chtskey -m {} -o change --newkey ./key"
        remedy = (
            f"before the loss write files['./key'] = bytes(range(32)), await line({line.format(source)!r}), "
            f"await line({line.format(target)!r}) and await backup({source!r})"
        )
    else:
        return error
    # The rest of the message is a command of a shell.
    return with_remedy(with_message(error, error.message.partition(_NEEDS_KEY)[0]), remedy)
