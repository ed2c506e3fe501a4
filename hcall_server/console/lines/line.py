"""A running line: its console, options and caller, and the functions that most commands need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from trio.lowlevel import checkpoint

from hcall_abi.control_views import PartitionView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.messages import message
from hcall_abi.remedies import OF_ONE_SYSTEM
from hcall_abi.requests import show_system
from hcall_abi.rules import console as system_rules
from hcall_abi.rules import hmc as rules
from hcall_server.console.advice import at_store, names_in, put_words
from hcall_server.console.grammar import (
    NO_RESULTS,
    Pair,
    divide_records,
    parse_columns,
    parse_record,
    print_record,
)
from hcall_server.console.options import Option, Options, Syntax, switch
from hcall_server.console.whereabouts import found_at, place_of

if TYPE_CHECKING:
    from hcall_server.console.caller import LineCaller
    from hcall_server.console.console import ManagementConsole
    from hcall_server.console.systems import KnownSystem

T = TypeVar("T")
Getters = Mapping[str, Callable[[T], str | None]]
"""The getter of each attribute that a command lists, by name, in the order of a record."""

SYSTEM = Option("-m", "SYSTEM")
COLUMNS = (Option("-F", "[NAMES]", takes="words"), switch("--header"))
FILTER = Option("--filter", "FILTER")
LARGEST_RECORDS = 1 << 20
"""The most bytes of a file with records."""


def constant(text: str) -> Callable[[object], str]:
    """Return a getter that returns the same text for every row of a list."""
    return lambda _: text


@dataclass(frozen=True)
class Line:
    """One line of a caller, with the parsed options of its command."""

    console: ManagementConsole
    options: Options
    caller: LineCaller

    async def say(self, *lines: str) -> None:
        """Print lines to the caller's standard output, nothing for none."""
        if lines:
            await self.caller.say("\n".join(lines))

    async def refuse(self, error: SwpksError) -> None:
        """Print a refusal.  Its remedy has the system and the partition of this line, if they are known."""
        text = refusal(self.console, error)
        # Only remedies of the catalogue contain words in capitals.  If the error is `advised`, its advice has
        # real names already.
        if error.rule.id in (*OF_ONE_SYSTEM, rules.HMC_PROFILE_IDLE.id) and not error.advised:
            words = {"SYSTEM": self._system_name(), "NAME": self.options.value("-n")}
            text = put_words(text, words, () if words["NAME"] else names_in(error))
        await self.caller.say(text)

    def _system_name(self) -> str:
        """Return the name of the system of the line, "" if it was removed meanwhile."""
        try:
            return self.known.name
        except OperatorError:
            return ""

    @property
    def known(self) -> KnownSystem:
        """The managed system of -m; without -m the only system of the console."""
        return self.console.find(self.options.value("-m"))

    async def system(self) -> SystemView:
        """Return the managed system of -m as it is now; SwpksError if it can't be reached."""
        return await self.known.call(show_system())

    async def last_view(self) -> tuple[SystemView, bool]:
        """Return the view of the system of -m, and whether the system is away.

        If the system is away, the result is its last view.  SwpksError if this console process has seen no
        partition in any view of the system.
        """
        try:
            return await self.system(), False
        except SwpksError as error:
            last = self.known.view
            # Only a system without an answer is away.  If the system refuses the request, the caller must see
            # the refusal, and not the last view.
            if error.rule is not system_rules.CONSOLE_SERVED or last is None or not last.partitions:
                raise
            return last, True

    async def partition(self, name: str = "-n", number: str = "--id") -> PartitionView:
        """Return the partition that the line names; OperatorError if its system has no such partition."""
        view = await self.system()
        if (given := self.options.value(name)) is not None:
            return named_at(self, view, given)
        return numbered(view, self.options.needed(number))

    async def records(self) -> list[list[Pair]]:
        """Return the records of -i, or of the file of -f."""
        texts = self.options.words("-i")
        if (path := self.options.value("-f")) is not None:
            # A byte that is no UTF-8 becomes U+FFFD.  No name and no number may contain it, so the record is
            # refused later.
            texts = ((await self.caller.read(path, LARGEST_RECORDS)).decode("utf-8", "replace"),)
        records = []
        for record in divide_records(texts):
            records.append(parse_record(record))
            await checkpoint()  # lets other commands run
        return records

    async def show(self, getters: Getters[T], subjects: Sequence[T]) -> None:
        """Print a record for each subject, or with -F its values."""
        lines = self.listed(getters, subjects)
        await self.say(*(lines or [NO_RESULTS]))

    def listed(self, getters: Getters[T], subjects: Sequence[T]) -> list[str]:
        """Return the lines of a list, none for no subjects; OperatorError for an unknown name after -F."""
        if "-F" not in self.options:
            if "--header" in self.options:
                raise OperatorError(rules.LINE_NEEDED, f"{self.options.command}: --header goes with -F")
            return [print_record((name, get(each)) for name, get in getters.items()) for each in subjects]
        # An unknown name is refused even for an empty list.  So a script with a misspelt name fails on its
        # first run.
        columns = parse_columns(self.options.words("-F"), tuple(getters))
        lines = [columns.line([getters[name](each) for name in columns.names]) for each in subjects]
        # There is no header above "No results were found.", because a script would take that line for a row.
        return [columns.header, *lines] if lines and "--header" in self.options else lines


Command = Callable[[Line], Awaitable[int] | int]
"""Runs a line and returns its exit status, at once if it waits for nothing; a refusal is a SwpksError."""


@dataclass(frozen=True)
class LineCommand:
    """A command: the syntax of its options, and its function."""

    syntax: Syntax
    run: Command


def refusal(console: ManagementConsole, error: SwpksError) -> str:
    """Return the text of a refusal, as a line prints it.

    The commands in the text have the option --store with the folder of this console.
    """
    return at_store(message(error), console.store.folder)


def named(view: SystemView, name: str) -> PartitionView:
    """Return the partition with a name; OperatorError (HSCL8012) if there is none."""
    return _found(view, [each for each in view.partitions if each.name == name], _named(name))


def owner_of(line: Line, name: str) -> str:
    """Return the name of the system that owns a partition; "" if no view shows an owner.

    The partition is on the system of the line, or has been there.
    """
    try:
        place = place_of(line.console.systems, f"{line.known.type_model_serial}/{name}")
    except OperatorError:
        return ""
    return place.system.name if place.custody in ("own", "arrived") else ""


def named_at(line: Line, view: SystemView, name: str) -> PartitionView:
    """Return the partition with a name.

    If it is not here, OperatorError (HSCL8012); the message names the system that has the partition.
    """
    try:
        return named(view, name)
    except OperatorError as error:
        raise OperatorError(error.rule, f"{error.message}{elsewhere(line, name)}") from None


def elsewhere(line: Line, name: str) -> str:
    """Return a sentence that names the other systems that have a partition; "" if none has it."""
    owner = owner_of(line, name)
    place = f"partition {name} is on system {owner}" if owner else found_at(line.console.systems, name)
    if not place:
        return ""
    target = line.options.value("-t") if "-t" in line.options else None
    # The partition is on the system of -t.  The operator has probably exchanged -m and -t.
    swapped = target and place.endswith(f" {line.console.find(target).name}")
    return f" The {place}{': -m is the source, and -t the target' if swapped else ''}."


def numbered(view: SystemView, number: str) -> PartitionView:
    """Return the partition with a partition id; OperatorError (HSCL8012) if there is none."""
    found = [each for each in view.partitions if str(each.number) == number]
    return _found(view, found, f"with ID {number[:80]}")


def _named(name: str) -> str:
    """Return how a refusal names a partition; the name in the line may be empty."""
    # Control characters are escaped.  Otherwise a name could add a second line to output that a script reads.
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name[:80])
    return f"named {shown}" if shown else "with an empty name"


def _found(view: SystemView, partitions: Sequence[PartitionView], described: str) -> PartitionView:
    """Return the first partition of a list; OperatorError (HSCL8012) for an empty list."""
    if not partitions:
        operating = view.state == "Operating"
        state = "" if operating else f" The managed system {view.name} is in the state {view.state}."
        raise OperatorError(system_rules.NAME_EXISTS, f"The partition {described} was not found.{state}")
    return partitions[0]
