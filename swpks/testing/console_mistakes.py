"""Mistakes in tests with an emulated console: unknown systems, malformed lines, and a wrong mark."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import Mistake, UnknownName, WrongValue, all_of, check_text, listed
from hcall_abi.rules import migration
from hcall_abi.rules.console import CONSOLE_SERVED
from hcall_client.errors import with_remedy
from swpks.testing.at_caller import Explained, at_caller
from swpks.testing.remedies import ConsoleGone, of_job, of_restart

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job
    from swpks.testing.system import EmulatedSystem


class JobFailed(Explained):
    """A job of the console has failed; `job` has the lines of the job, and the text is the last line."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.kind} of {job.system}: {of_job(job)}")
        self.job = job


class ConsoleOff(Mistake, RuntimeError):
    """The console is off, so it can't carry out the order."""

    def __init__(self) -> None:
        super().__init__("the console is off: write await start() first")


class Systems(dict[str, "EmulatedSystem"]):
    """The systems of a console by name.

    Another name raises UnknownName with the known names.  After `close`, every use raises ConsoleGone.
    """

    _over = False

    def close(self) -> None:
        """Note that the block of the console is over."""
        self._over = True
        for each in self.values():
            each.end()

    def demand(self) -> None:
        """Raise ConsoleGone if the block of the console is over."""
        if self._over:
            raise ConsoleGone

    @at_caller
    def __getitem__(self, name: str) -> EmulatedSystem:
        self.demand()
        check_text("the name of a system", name)
        return super().__getitem__(name)

    def check_order(self, name: str, *systems: object) -> None:
        """Raise WrongValue if the names of a partition and of its systems are in the wrong order."""
        self.demand()
        check_text("the name of a partition", name)
        given = [each for each in systems if isinstance(each, str)]
        found = next((each for each in given if each not in self and self._have(each)), None)
        if name in self and not self._have(name) and found is not None:
            others = [each for each in (name, *given) if each in self]
            after = ", and then ".join(map(repr, others))
            raise WrongValue(
                f"{name!r} is a system, and {found!r} a partition: write {found!r} first, and then {after}"
            )

    def partitions(self) -> str:
        """Return the names of the partitions as text, each with its system."""
        return listed(f"{each}/{name}" for each, system in self.items() for name in system.names)

    def _have(self, name: str) -> bool:
        """Whether a system has a partition with this name, or had it at first."""
        return any(each.has(name) or name in each.wished for each in self.values())

    def __missing__(self, name: str) -> NoReturn:
        known = f"the systems are {listed(self)}: name one of them"
        if self._have(name):
            raise UnknownName(f"{name!r} is a partition, and a system is asked for here; {known}")
        partitions = {each: list(system.wished) for each, system in self.items()} | {name: ["lpar1"]}
        mark = f"@pytest.mark.pks_console(partitions={partitions})"
        raise UnknownName(f"there is no system {name!r}; {known}, or write {mark}")


def check_whose(name: str, system: str | None, systems: Mapping[str, EmulatedSystem]) -> None:
    """Raise UnknownName if a system is unknown, or if a name alone fits several partitions."""
    if system is not None:
        systems[system]  # raises UnknownName for an unknown system
        return
    owners = [each for each, found in systems.items() if found.has(name)]
    uuids = {systems[each].machine.system.find(name).profile.uuid for each in owners}
    if len(uuids) > 1:  # two systems may have the same partition, during a move
        raise UnknownName(
            f"{listed(owners)} each have a partition {name!r}: write locate({name!r}, {owners[0]!r})"
        )


def words_of(line: str | Sequence[str]) -> Sequence[str]:
    """Return the words of a line; WrongType or WrongValue if the line can't be split."""
    if not isinstance(line, str):
        return all_of(str, "a line that is no text", line, 'line("lssyscfg -r sys")')
    try:
        return shlex.split(line)
    except ValueError as error:
        message = f"the line {line!r} can't be taken apart as by a shell: {error}"
        raise WrongValue(f"{message}; write the quotes as in a shell, or a list of words") from None


def told_of_the_mark(
    error: OperatorError, name: str, source: str, target: str, systems: Mapping[str, EmulatedSystem]
) -> OperatorError:
    """Return the refusal of a move.

    If the cause is the mark of the test, the error shows a right mark.  This is a frequent mistake: the
    default systems `a` and `b` both have a partition `lpar1`, so a move of it is refused.
    """
    message = error.message
    if error.rule is migration.ARRIVAL_NAME and systems[target].has(name):
        partitions = {each: list(system.wished) for each, system in systems.items()}
        partitions[target] = [each for each in partitions[target] if each != name]
        mark = f"@pytest.mark.pks_console(partitions={partitions})"
        message = f"{target} has a partition {name} of its own: leave it out by {mark}"
    elif not systems[source].has(name) and systems[source].running:
        message = f"{source} has no partition {name!r}; it has {listed(systems[source].names)}"
    elif off := [
        each for each in (source, target) if not systems[each].running and error.rule is CONSOLE_SERVED
    ]:
        return with_remedy(error, f"{off[0]} is off: write await start_system({off[0]!r}) first")
    else:
        return of_restart(error, name, source, target)
    return OperatorError(error.rule, message)
