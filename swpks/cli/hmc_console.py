"""Verbs of `swpks hmc` for a console only: its systems, its copies and its jobs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hcall_abi.control_views import SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.rules.hmc import LINE_JOB
from hcall_client import console as requests
from hcall_client.errors import printable
from swpks.cli import hmc_console_output as output
from swpks.cli import hmc_output, streams
from swpks.cli.hmc_serve import place_of
from swpks.hmc.line_client import Message, Shown
from swpks.hmc.store_console import StoreConsole
from swpks.hmc.views import JobView, KnownSystemView, RemovedSystemView, StoredCopyView

FAILED = 1


class OrderAnswer(NamedTuple):
    """The answer to a verb of the console itself.

    It comes with the function that makes text of it, and with the exit status.  If `is_job` is true, the
    answer is a job that has ended; its JSON is one line.
    """

    answer: Any
    shown: Callable[[Any], str]
    status: int = 0
    is_job: bool = False


class OrderVerb(NamedTuple):
    """A verb of the console itself: summary, operands for argparse, and the function that carries it out."""

    summary: str
    operands: dict[str, dict[str, Any]]
    carry_out: Callable[[argparse.Namespace, StoreConsole], OrderAnswer]


def status(args: argparse.Namespace, console: StoreConsole) -> OrderAnswer | None:
    """Return the state of all systems, or of the only one.

    The result is None if the command has to send a request to one system instead.
    """
    if args.name is not None:
        return None
    systems = console.order(list[KnownSystemView], "systems")
    # If the console has one system, `status` shows all of its state.  A system that was never reached has no
    # id, and no status.
    if args.system is None and (len(systems) != 1 or not systems[0].system_id):
        return _listed(console, systems)
    chosen = [
        each
        for each in systems
        if each.system_id and args.system in (None, each.name, each.type_model_serial)
    ]
    if len(chosen) != 1:
        return None
    view = console.call(requests.show_system())

    def shown(answer: SystemView) -> str:
        named = hmc_output.with_names(answer, names_of(systems))
        return f"{hmc_output.system(named)}\n\n{output.link(hmc_output.plain(chosen[0]))}"

    return OrderAnswer(view, shown)


def names_of(systems: Sequence[KnownSystemView]) -> dict[str, str]:
    """Return the names of a console's systems, by system id."""
    return {each.system_id: hmc_output.plain(each.name) for each in systems}


def recover(args: argparse.Namespace, console: StoreConsole) -> OrderAnswer:
    """Start the recovery of a system by the console, and follow it."""
    return _followed(args, console, "recover", system=args.system, give_up=args.give_up)


def _systems(_args: argparse.Namespace, console: StoreConsole) -> OrderAnswer:
    return _listed(console, console.order(list[KnownSystemView], "systems"))


def _listed(console: StoreConsole, systems: list[KnownSystemView]) -> OrderAnswer:
    return OrderAnswer(systems, output.systems if systems else lambda _: output.no_systems(console.store))


def _add_system(args: argparse.Namespace, console: StoreConsole) -> OrderAnswer:
    name, where = place_of(args.where)
    return OrderAnswer(console.order(KnownSystemView, "add-system", name=name, where=where), output.added)


def _remove_system(args: argparse.Namespace, console: StoreConsole) -> OrderAnswer:
    return OrderAnswer(console.order(RemovedSystemView, "remove-system", name=args.name), output.removed)


def _backup(args: argparse.Namespace, console: StoreConsole) -> OrderAnswer:
    return _followed(args, console, "backup", system=args.system)


def _jobs(args: argparse.Namespace, console: StoreConsole) -> OrderAnswer:
    if args.number is None:
        return OrderAnswer(console.order(list[JobView], "jobs"), output.jobs)
    return _followed(args, console, "jobs", number=args.number)


def _copies(args: argparse.Namespace, console: StoreConsole) -> OrderAnswer:
    return OrderAnswer(console.order(list[StoredCopyView], "copies", system=args.system), output.copies)


def _followed(args: argparse.Namespace, console: StoreConsole, verb: str, **operands: Any) -> OrderAnswer:
    """Begin a job, or follow a running one, until its end; print its progress.

    With --json the first line is the job at the beginning, and the last line the job at its end.  Without
    it, FollowedJobFailed is raised if the job has failed.
    """
    job = console.follow(JobView, verb, JsonJob(_write) if args.json else _write, **operands)
    if job.state == "failed" and not args.json:
        raise FollowedJobFailed(job)
    # The progress was printed while the job ran, so there is no text at the end.
    return OrderAnswer(job, lambda _: "", FAILED if job.state == "failed" else 0, is_job=True)


class FollowedJobFailed(OperatorError):
    """A followed job has failed.

    The rule of this error is the rule by which the job failed.  `system` is the name of the job's system.
    """

    def __init__(self, job: JobView) -> None:
        from hcall_abi.rules.catalogue import RULES  # only a failure needs it

        self.system = job.system
        reason = job.lines[-1] if job.lines else "no reason is known"
        # The error has the rule by which the job failed, as a failed line has. The remedy of that rule helps
        # more than the remedy of `line.job`.
        rule, message = RULES.get(job.rule_id, LINE_JOB), f"job {job.number} ({job.kind}) failed: {reason}"
        super().__init__(rule, printable(message), advised=job.advised)


class JsonJob(Shown):
    """Prints a running job once, as one line of JSON.

    Scripts need the job's number before the job ends.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(write, terminal=False)
        self._printed = False

    def progress(self, job: Message) -> None:
        """Print the job at the first call, and only if the job runs."""
        # A job that has ended already is printed once, by the caller.
        if not self._printed and job.get("state") == "running":
            self.say(json.dumps(job))
        self._printed = True


def _write(text: str) -> None:
    with streams.output():
        print(text, end="", flush=True)


_WHERE = {
    "metavar": "[NAME=]WHERE",
    "help": "the path of its control socket, or https://HOST:PORT; NAME is the system's own name",
}

ORDER_VERBS = {
    "systems": OrderVerb("list the systems of the console", {}, _systems),
    "add-system": OrderVerb("add a system to the console", {"where": _WHERE}, _add_system),
    "remove-system": OrderVerb(
        "remove a system from the console; its copies stay",
        {"name": {"metavar": "SYS", "help": "its name or tttt-mmm*sssssss"}},
        _remove_system,
    ),
    "backup": OrderVerb("order the console to take a copy of each store of a system", {}, _backup),
    "jobs": OrderVerb(
        "list the jobs of the console, or follow one",
        {"number": {"metavar": "N", "nargs": "?", "type": int, "help": "the number of the job to follow"}},
        _jobs,
    ),
    "copies": OrderVerb("list the copies that the console holds, and their age", {}, _copies),
}
