"""mksyscfg, chsyscfg, rmsyscfg: make, change and delete partitions by records (spec/console.md#changes).

A line is read completely before its first record is carried out.  A record is carried out as a whole or not
at all, because it is one request.  If a later record is refused, the earlier ones stay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trio.lowlevel import checkpoint

from hcall_abi.attributes import attribute_number
from hcall_abi.console import ATTRIBUTES, LARGEST_PARTITION_ID
from hcall_abi.control_views import PartitionView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.levels import LEVELS
from hcall_abi.requests import change_partition, create_partition, delete_partition
from hcall_abi.rules import console as control
from hcall_abi.rules import hmc as rules
from hcall_server.console.grammar import Pair, nearest
from hcall_server.console.lines import ignored
from hcall_server.console.lines.line import SYSTEM, Line, LineCommand, named_at, numbered
from hcall_server.console.namesakes import give_name
from hcall_server.console.options import Option, Syntax, switch

_SWITCH = {"0": False, "1": True}


@dataclass
class RecordChange:
    """The change that a record orders: `texts` by name, and `numbers` of the attributes of PKS."""

    command: str
    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return the value of an attribute; OperatorError if it is missing or empty."""
        if not self.texts.get(name):
            raise OperatorError(rules.LINE_RECORD, f"{self.command}: the record needs {name}=VALUE")
        return self.texts[name]

    def demand(self, needs: tuple[str, ...]) -> None:
        """Raise OperatorError if the record has none of `needs`, or a value that no partition can have."""
        if not any(self.texts.get(name) for name in needs):
            pairs = " or ".join(f"{name}=VALUE" for name in needs)
            raise OperatorError(rules.LINE_RECORD, f"{self.command}: the record needs {pairs}")
        self.switch("auto_start")
        self.partition_id()
        if "new_name" in self.texts:
            self.text("new_name")

    def switch(self, name: str) -> bool | None:
        """Return an attribute that is 0 or 1 as a bool, None if the record does not have it."""
        if (given := self.texts.get(name)) is None:
            return None
        if given not in _SWITCH:
            raise OperatorError(rules.LINE_VALUE, f"{name} is 0 or 1, not {given[:40]!r}")
        return _SWITCH[given]

    def partition_id(self) -> int | None:
        """Return lpar_id, None if the record does not have it."""
        if (given := self.texts.get("lpar_id")) is None:
            return None
        # The length is bounded because Python refuses to convert very long numbers, with an error of its own.
        number = int(given) if given.isascii() and given.isdigit() and len(given) < 9 else 0
        if not 1 <= number <= LARGEST_PARTITION_ID:
            raise OperatorError(
                rules.LINE_VALUE, f"lpar_id is 1 to {LARGEST_PARTITION_ID}, not {given[:40]!r}"
            )
        return number


@dataclass(frozen=True)
class Vocabulary:
    """The attributes of a kind of record.

    `texts` have an effect, `numbers` are those of PKS and secure boot, and `ignored` change nothing.  A
    record has at least one of `needs`.
    """

    texts: Collection[str]
    needs: tuple[str, ...]
    ignored: Collection[str] = ()
    numbers: Collection[str] = ()

    def change_of(self, command: str, record: Sequence[Pair]) -> RecordChange:
        """Return the change that a record orders; OperatorError for an unknown attribute or a wrong value."""
        change = RecordChange(command)
        for pair in record:
            if pair.name in self.ignored:
                continue
            if pair.name not in self.texts and pair.name not in self.numbers:
                near = nearest(pair.name, [*self.texts, *self.numbers])
                message = f"{command}: {pair.name[:40]!r} is no attribute that it can set{near}"
                raise OperatorError(rules.LINE_ATTRIBUTE, message)
            # The grammar has `+=` and `-=` for lists.  No attribute of an emulated system is a list, so they
            # are refused here.
            if pair.operator != "=":
                message = f"{command}: {pair.name} is no list, so it takes = and not {pair.operator}"
                raise OperatorError(rules.LINE_ATTRIBUTE, message)
            if pair.name in self.numbers:
                change.numbers[pair.name] = attribute_number(pair.name, pair.value)
            else:
                change.texts[pair.name] = pair.value
        change.demand(self.needs)
        return change


_MADE = Vocabulary(
    ("name", "lpar_id", "auto_start"),
    ("name",),
    # A record that makes a partition has attributes of the partition and of its profile.  It has no
    # `new_name`, because a new partition has no earlier name.
    ignored.OF_PARTITIONS | (ignored.OF_PROFILES - {"new_name"}),
    tuple(ATTRIBUTES),
)
_CHANGED = Vocabulary(
    ("name", "lpar_id", "new_name", "auto_start"),
    ("name", "lpar_id"),
    ignored.OF_PARTITIONS,
    tuple(ATTRIBUTES),
)
_PROFILE = Vocabulary(
    ("lpar_name", "lpar_id", "auto_start"),
    ("lpar_name", "lpar_id"),
    # In these records `name` is the name of a profile.  Scripts use any name for it, and each partition has
    # one profile only.  So the name is ignored.
    ignored.OF_PARTITIONS | ignored.OF_PROFILES | {"name"},
    tuple(ATTRIBUTES),
)
_SYSTEM = Vocabulary(("new_name",), ("new_name",))

VOCABULARIES: Mapping[str, Vocabulary] = {
    "mksyscfg -r lpar": _MADE,
    "chsyscfg -r lpar": _CHANGED,
    "chsyscfg -r prof": _PROFILE,
    "chsyscfg -r sys": _SYSTEM,
}
"""The attributes of each kind of record, by the line that takes it."""


async def _wanted(line: Line, change: RecordChange, name: str) -> PartitionView:
    """Return the partition that a record is about.

    A record has a name, an id, or both.  OperatorError if name and id belong to different partitions.
    """
    number = change.partition_id()
    view = await line.system()
    if number is None:
        return named_at(line, view, change.text(name))
    if name not in change.texts:
        return numbered(view, str(number))
    found = named_at(line, view, change.text(name))
    if found.number != number:
        # It is unknown which of the two partitions the operator means, and the wrong one must not be changed.
        message = f"{line.options.command}: {found.name} has the ID {found.number}, and not lpar_id={number}"
        raise OperatorError(rules.LINE_VALUE, f"{message}; leave one of them out", advised=True)
    return found


async def _make(line: Line, change: RecordChange) -> str:
    numbers = dict(change.numbers)
    request = create_partition(
        change.text("name"),
        # In the request, the size is a field, and all other numbers are attributes.
        numbers.pop("keystore_kbytes", 0),
        auto_start=change.switch("auto_start") or False,
        number=change.partition_id(),
        attributes=numbers,
    )
    return (await line.known.call(request)).name


async def _change(line: Line, change: RecordChange) -> str:
    partition = await _wanted(line, change, "name")
    request = change_partition(
        partition.name,
        new_name=change.texts.get("new_name"),
        auto_start=change.switch("auto_start"),
        attributes=change.numbers,
    )
    return (await line.known.call(request)).name


async def _change_profile(line: Line, change: RecordChange) -> str:
    partition = await _wanted(line, change, "lpar_name")
    start = change.switch("auto_start")
    request = change_partition(partition.name, auto_start=start, attributes=change.numbers)
    return (await line.known.call(request)).name


async def _change_system(line: Line, change: RecordChange) -> str:
    return (await give_name(line.console.systems, line.known, change.text("new_name"))).name


async def _with_sizes(line: Line, record: Sequence[Pair], error: OperatorError) -> SwpksError:
    """Return the error of a record, in clearer words if a keystore size is wrong.

    The message then has the sizes that the system permits.
    """
    size = next((each.value for each in record if each.name == "keystore_kbytes"), "")
    if error.rule is not control.ATTRIBUTE_RANGE or not error.message.startswith("keystore_kbytes "):
        return error
    try:
        level = LEVELS[(await line.system()).firmware_level]
    except SwpksError:
        return error
    return OperatorError(error.rule, f"keystore_kbytes is {level.sizes}, not {size[:40]!r}")


Perform = Callable[[Line, RecordChange], Awaitable[str]]
"""Carries out a record, and returns the name of the partition or system."""


async def _each(line: Line, vocabulary: Vocabulary, perform: Perform) -> int:
    """Carry out each record of a line; after a refusal, print which records are done."""
    changes: list[RecordChange] = []
    for record in await line.records():
        try:
            changes.append(vocabulary.change_of(line.options.command, record))
        except OperatorError as error:
            raise await _with_sizes(line, record, error) from None
        await checkpoint()  # lets other commands run
    if not changes:
        raise OperatorError(rules.LINE_RECORD, f"{line.options.command}: there is no record")
    done: list[str] = []
    for change in changes:
        try:
            done.append(await perform(line, change))
        except SwpksError:
            # After a refusal, a script has to know which records it must not repeat.
            if done:
                await line.say(f"{len(done)} of {len(changes)} records are done: {', '.join(done)}.")
            raise
    return 0


async def _mksyscfg(line: Line) -> int:
    if line.options.needed("-r") == "lpar":
        _demand(line, "-i", "-f")
        return await _each(line, _MADE, _make)
    return await _save_profile(line)


async def _save_profile(line: Line) -> int:
    """Check the line, and change nothing.

    A partition has one profile only: its present configuration.
    """
    _demand(line, "-p", "--id")
    _demand(line, "-n")
    _demand(line, "-o")
    await line.partition("-p")
    return 0


async def _chsyscfg(line: Line) -> int:
    vocabulary, perform = _CHANGES[line.options.needed("-r")]
    return await _each(line, vocabulary, perform)


_CHANGES: dict[str, tuple[Vocabulary, Perform]] = {
    "lpar": (_CHANGED, _change),
    "prof": (_PROFILE, _change_profile),
    "sys": (_SYSTEM, _change_system),
}


async def _rmsyscfg(line: Line) -> int:
    partition = await line.partition()
    await line.known.call(delete_partition(partition.name))
    return 0


def _demand(line: Line, *flags: str) -> None:
    """Raise OperatorError unless the line has exactly one of some options."""
    found = [flag for flag in flags if flag in line.options]
    if len(found) != 1:
        kind = f"{line.options.command} -r {line.options.needed('-r')}"
        needed = f"takes one of {', '.join(flags)}" if len(flags) > 1 else f"needs {flags[0]}"
        raise OperatorError(rules.LINE_NEEDED, f"{kind} {needed}")


_RECORDS = (Option("-i", "RECORD", takes="words"), Option("-f", "FILE"))

COMMANDS = (
    LineCommand(
        Syntax(
            "mksyscfg",
            (
                Option("-r", choices=("lpar", "prof"), required=True),
                SYSTEM,
                *_RECORDS,
                Option("-o", choices=("save",)),
                Option("-p", "PARTITION"),
                Option("--id", "ID"),
                Option("-n", "PROFILE"),
                switch("--force"),
            ),
        ),
        _mksyscfg,
    ),
    LineCommand(
        Syntax(
            "chsyscfg",
            (Option("-r", choices=tuple(_CHANGES), required=True), SYSTEM, *_RECORDS, switch("--force")),
            one_of=(("-i", "-f"),),
        ),
        _chsyscfg,
    ),
    LineCommand(
        Syntax(
            "rmsyscfg",
            (
                Option("-r", choices=("lpar",), required=True),
                SYSTEM,
                Option("-n", "PARTITION"),
                Option("--id", "ID"),
            ),
            one_of=(("-n", "--id"),),
            ignored={"--vioscfg": "nothing", "--vdisks": "nothing"},
        ),
        _rmsyscfg,
    ),
)
