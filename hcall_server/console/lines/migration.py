"""migrlpar, rrstartlpar: move partitions to another system (spec/console.md#migration).

A line about several partitions goes on after a refusal; its exit status is 1 then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import console as control
from hcall_abi.rules import hmc as rules
from hcall_abi.rules import migration as moving
from hcall_abi.rules.catalogue import RULES
from hcall_server.console.grammar import NO_RESULTS
from hcall_server.console.lines import ignored
from hcall_server.console.lines.line import SYSTEM, Line, LineCommand, named_at, numbered, owner_of
from hcall_server.console.options import Option, Syntax, switch
from hcall_server.console.way_out import way_out

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job
    from hcall_server.console.migrations import MigrationStatus
    from hcall_server.console.systems import KnownSystem

_OTHER_CONSOLE = "--ip"
LATE = 2.0
"""Seconds after which a line prints that it waits for its systems."""
T = TypeVar("T")

Work = Callable[[Line, str], Awaitable[None]]
"""Carries out an operation on the partition with a name; a refusal is a SwpksError."""


def _target(line: Line) -> KnownSystem:
    """Return the system of -t; OperatorError if the line has none."""
    if "-t" not in line.options:
        message = f"{line.options.command} -o {line.options.needed('-o')} needs -t, the target system"
        raise OperatorError(rules.LINE_NEEDED, message)
    return line.console.find(line.options.value("-t"))


async def _with_notice(line: Line, name: str, order: Callable[[], Awaitable[T]]) -> T:
    """Carry out an order and return its result; if it takes long, print that the line waits."""
    result: list[T] = []
    refusal: SwpksError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_notice_late, line, name)
        try:
            result.append(await order())
        # The nursery would wrap the error into an exception group.  So the error is raised after the nursery.
        except SwpksError as error:
            refusal = error
        nursery.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    return result[0]


async def _notice_late(line: Line, name: str) -> None:
    await trio.sleep(LATE)
    await line.say(f"{name}: no answer of {line.known.name} and {_target(line).name} for {LATE:g} s; waiting")


async def _notice_wait(line: Line, job: Job, name: str) -> None:
    """Print the way out, once, if the job waits for a system."""
    while True:
        before = job.waiting
        await trio.sleep(LATE)
        if before and job.waiting == before:
            await line.say(f"{name}: waits ({before}); {way_out(_attempt(line, name))}")
            return


def _attempt(line: Line, name: str) -> MigrationStatus | None:
    """Return the attempt of a partition from or to the system of the line, None if there is none."""
    return next((each for each in line.console.migrations.status(line.known) if each.name == name), None)


async def _follow(line: Line, job: Job, name: str) -> None:
    """Follow the job about a partition to its end.

    If the job has failed, raise OperatorError with the rule of the failure.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_notice_wait, line, job, name)
        # The nursery would wrap the error of a command that has gone into an exception group.
        try:
            await line.console.jobs.follow(job, line.caller.progress)
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if job.state == "failed":
        reason = job.lines[-1] if job.lines else "no reason is known"
        # The rule of the failure has a number and a remedy of its own.  They help more than those of
        # `line.job`.
        rule = RULES.get(job.rule_id, rules.LINE_JOB)
        raise OperatorError(rule, f"job {job.number} ({job.kind}) failed: {reason}", advised=job.advised)


async def _finish(line: Line, result: Job | str, name: str) -> None:
    """Follow the job that an order returned, or print the text that it returned."""
    await (line.say(result) if isinstance(result, str) else _follow(line, result, name))


# migrlpar


async def _validate(line: Line, name: str) -> None:
    named_at(line, await line.system(), name)
    await _with_notice(line, name, partial(line.console.migrations.validate, line.known, _target(line), name))


async def _migrate(line: Line, name: str) -> None:
    named_at(line, await line.system(), name)
    migrate = partial(line.console.migrations.migrate, line.known, _target(line), name)
    await _follow(line, await _with_notice(line, name, migrate), name)


async def _stop(line: Line, name: str) -> None:
    await line.say(await line.console.migrations.stop(line.known, name))


async def _recover(line: Line, name: str) -> None:
    """Bring an attempt to its end.

    If the attempt has failed, and one system owns the partition, the line has succeeded: it prints the owner.
    """
    force = "--force" in line.options
    recovered = await line.console.migrations.recover(line.known, name, force=force)
    try:
        await _finish(line, recovered, name)
    except OperatorError as failed:
        if failed.rule is not moving.MIGRATION_FAILED or not (owner := owner_of(line, name)):
            raise
        await line.say(f"the attempt has ended: {name} is at {owner}")


_MIGRATE: Mapping[str, Work] = {"v": _validate, "m": _migrate, "s": _stop, "r": _recover}


# rrstartlpar


async def _validate_restart(line: Line, name: str) -> None:
    validate = partial(line.console.migrations.validate_restart, line.known, _target(line), name)
    await _with_notice(line, name, validate)


async def _restart(line: Line, name: str) -> None:
    restart = partial(line.console.migrations.restart, line.known, _target(line), name)
    await _follow(line, await _with_notice(line, name, restart), name)


async def _cleanup(line: Line, name: str) -> None:
    await line.say(await line.console.migrations.cleanup(line.known, name))


async def _cancel(line: Line, name: str) -> None:
    await _finish(line, await line.console.migrations.cancel(line.known, name), name)


async def _recover_restart(line: Line, name: str) -> None:
    await _finish(line, await line.console.migrations.recover_restart(line.known, name), name)


_RESTART: Mapping[str, Work] = {
    "validate": _validate_restart,
    "restart": _restart,
    "cancel": _cancel,
    "recover": _recover_restart,
    "cleanup": _cleanup,
}


_TO_A_TARGET = ("v", "m", "validate", "restart")
"""Operations that need -t; no other one takes it."""
_FORCED = ("r", "restart", "recover", "cleanup")
"""Operations that take --force; only r acts on it (spec/choices.md#the-consoles-lines)."""


# Which partitions


async def _names(line: Line) -> list[str]:
    """Return the names of the partitions that the line is about.

    A name of -p is not looked up: the partition may have left, and then only the register knows it.
    """
    if (given := line.options.value("-p")) is not None:
        names = [each.strip() for each in given.split(",")]
        # Duplicates are removed, because a second order about one partition would be refused.  If no name is
        # left, -p itself is returned, and refused later.
        return list(dict.fromkeys(each for each in names if each)) or [given]
    view, _ = await line.last_view()
    if (number := line.options.value("--id")) is not None:
        return [numbered(view, each.strip()).name for each in number.split(",")]
    return [each.name for each in sorted(view.partitions, key=lambda each: each.number)]


def _check(line: Line) -> None:
    """Raise OperatorError for a mistake that concerns all partitions of a line.

    Such a mistake is in the system of -m, the system of -t, or the option --force.
    """
    source, operation = line.known, line.options.needed("-o")
    for flag, meant in (("-t", _TO_A_TARGET), ("--force", _FORCED)):
        if flag in line.options and operation not in meant:
            finding = f"{line.options.command}: -o {operation} takes no {flag}"
            raise OperatorError(rules.LINE_OPTION, finding)
    if operation in _TO_A_TARGET and _target(line) is source:
        finding = f"source and target are one system, {source.name}"
        raise OperatorError(moving.MIGRATION_SYSTEMS, f"{line.options.command}: {finding}")
    if _OTHER_CONSOLE in line.options:
        finding = "both systems have to be at this console, so there is no --ip"
        raise OperatorError(moving.MIGRATION_SYSTEMS, f"{line.options.command}: {finding}")


def _explained(line: Line, error: SwpksError) -> SwpksError:
    """Return a refusal as the line prints it.

    If exactly one system is away, the text has its name, and since when it is away.
    """
    if error.rule is control.CONSOLE_SERVED:
        given = [line.options.value(flag) for flag in ("-m", "-t") if flag in line.options]
        away = [each for each in map(line.console.find, given) if not each.connected]
        # If both systems are away, it is unknown which one caused the error.
        if len(away) == 1:
            return away[0].explained(error)
    return error


async def _each(line: Line, operations: Mapping[str, Work]) -> int:
    """Carry out an operation on each partition of the line; the exit status is 1 after a refusal."""
    work, status = operations[line.options.needed("-o")], 0
    # This check concerns the whole line, so it runs once.  In the loop, each partition would print the same
    # refusal.
    _check(line)
    names = await _names(line)
    if not names:
        await line.say(NO_RESULTS)
    for name in names:
        try:
            await work(line, name)
        except SwpksError as error:
            status = 1
            await line.refuse(_explained(line, error))
    return status


async def _migrlpar(line: Line) -> int:
    return await _each(line, _MIGRATE)


async def _rrstartlpar(line: Line) -> int:
    return await _each(line, _RESTART)


_SYSTEMS = (SYSTEM, Option("-t", "SYSTEM"))

COMMANDS = (
    LineCommand(
        Syntax(
            "migrlpar",
            (
                Option("-o", choices=tuple(_MIGRATE), required=True),
                *_SYSTEMS,
                Option("-p", "PARTITION[,...]"),
                Option("--id", "ID"),
                switch("--all"),
                Option(_OTHER_CONSOLE, "CONSOLE"),
                switch("--force"),
            ),
            one_of=(("-p", "--id", "--all"),),
            ignored=ignored.OF_MIGRATIONS,
        ),
        _migrlpar,
    ),
    LineCommand(
        Syntax(
            "rrstartlpar",
            (
                Option("-o", choices=tuple(_RESTART), required=True),
                *_SYSTEMS,
                Option("-p", "PARTITION"),
                Option("--id", "ID"),
                Option(_OTHER_CONSOLE, "CONSOLE"),
                switch("--force"),
            ),
            one_of=(("-p", "--id"),),
            ignored=ignored.OF_RESTARTS,
        ),
        _rrstartlpar,
    ),
)
