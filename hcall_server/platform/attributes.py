"""The console's rules about changing the attributes of a partition (R-31 to R-36), as rows.

Each row has the condition under which a change breaks the rule, and the console's answer to it.
The order is that of spec/control.md#attributes and #sizes.  This module changes no partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hcall_abi.console import AT_FIRST, ATTRIBUTES, CALLS_OF, OF_UPDATES, AttributeRow, ConsoleAttributes
from hcall_abi.errors import OperatorError
from hcall_abi.levels import FirmwareLevel
from hcall_abi.rules import console as rules
from hcall_server.platform.demands import Demand, check


class Change(NamedTuple):
    """A requested change, with the facts about the partition and its system that the rules need.

    `objects` is the number of objects in the keystore.  `signed_objects` is the number of those that only
    SIGNED_UPDATE may change.  `taken` is the memory of the other partitions and `total` that of the
    system, both in KiB.
    """

    name: str
    level: FirmwareLevel
    before: ConsoleAttributes
    after: ConsoleAttributes
    taken: int
    total: int
    refused: bool = False
    running: bool = False
    objects: int = 0
    signed_objects: int = 0

    @property
    def kbytes(self) -> int:
        """The size that the keystore is to have."""
        return self.after.keystore_kbytes

    @property
    def resized(self) -> bool:
        """Whether the keystore gets another size."""
        return self.kbytes != self.before.keystore_kbytes

    @property
    def sized(self) -> bool:
        """Whether the keystore gets another size that is not 0."""
        return self.resized and self.kbytes != 0

    @property
    def out_of_range(self) -> bool:
        """Whether the size is outside of the range of the firmware level."""
        return not self.level.min_kbytes <= self.kbytes <= self.level.max_kbytes

    @property
    def also_no_size(self) -> str:
        """Return a phrase if the refused size is also out of range, else "".  It is part of a message."""
        return f", and no size for a keystore: {self.level.sizes}" if self.out_of_range else ""

    @property
    def lacks_call(self) -> str:
        """Return "ATTRIBUTE needs CALL" if an attribute is on and the level lacks its h-call, else ""."""
        numbers, calls = self.after.numbers, self.level.calls
        lacking = [(name, call) for name, call in CALLS_OF.items() if numbers[name] and call not in calls]
        return "".join(f"{name} needs {call.name}" for name, call in lacking[:1])

    @property
    def lacks_other(self) -> str:
        """Return "ATTRIBUTE needs OTHER" if an attribute is on and one that it needs is off, else ""."""
        numbers = self.after.numbers
        needs = [(name, row.needs) for name, row in ATTRIBUTES.items() if isinstance(row.needs, str)]
        lacking = [(name, other) for name, other in needs if numbers[name] and not numbers[other]]
        return "".join(f"{name} needs {other}" for name, other in lacking[:1])

    def zeroes(self, *names: str) -> bool:
        """Whether the change switches one of the named attributes off."""
        return any(getattr(self.before, name) and not getattr(self.after, name) for name in names)


class Wish(NamedTuple):
    """One requested attribute: its name and its number."""

    name: str
    number: int

    @property
    def row(self) -> AttributeRow:
        """The row of the attribute."""
        return ATTRIBUTES[self.name]

    @property
    def known(self) -> str:
        """The names of all attributes."""
        return ", ".join(ATTRIBUTES)


WISHES: tuple[Demand[Wish], ...] = (
    Demand(
        lambda it: it.name not in ATTRIBUTES,
        rules.ATTRIBUTE_KNOWN,
        "no attribute {it.name!r}; there are {it.known}",
    ),
    Demand(
        lambda it: it.number not in it.row.numbers,
        rules.ATTRIBUTE_RANGE,
        "{it.name} cannot be {it.number}: it is {it.row.span}",
    ),
)
"""The rules about each attribute of a request; they need no facts about the partition."""

STORED: Demand[Change] = Demand(
    lambda it: it.refused, rules.POWER_STORED, "the keystore of {it.name} was refused"
)

SIZES: tuple[Demand[Change], ...] = (
    Demand(
        lambda it: it.resized and not it.kbytes and it.objects > 0,
        rules.SIZE_IN_USE,
        "the keystore of {it.name} is in use",
    ),
    Demand(
        lambda it: 0 < it.kbytes < it.before.keystore_kbytes,
        rules.SIZE_SHRINKS,
        "{it.name}: {it.kbytes} KiB is less than its {it.before.keystore_kbytes} KiB{it.also_no_size}",
    ),
    Demand(lambda it: it.sized and it.running, rules.SIZE_RUNNING, "{it.name} is running"),
    Demand(
        lambda it: it.sized and it.out_of_range,
        rules.SIZE_RANGE,
        "{it.kbytes} KiB is no size for a keystore: {it.level.sizes}",
    ),
    Demand(
        lambda it: it.sized and it.taken + it.kbytes > it.total,
        rules.SIZE_TOTAL,
        "{it.kbytes} KiB do not fit: {it.taken} of {it.total} KiB are taken",
    ),
)
"""The rules of spec/control.md#sizes, for new partitions as well."""

UPDATES: tuple[Demand[Change], ...] = (
    Demand(
        # A running partition may be disabled.  That also switches these attributes off, so a size of
        # 0 is allowed.
        lambda it: it.running and it.kbytes != 0 and it.before.of_updates != it.after.of_updates,
        rules.ATTRIBUTE_RUNNING,
        "the partition is running",
    ),
    Demand(
        lambda it: it.lacks_call != "",
        rules.ATTRIBUTE_NEEDS,
        "{it.lacks_call}, which {it.level.name} lacks",
    ),
    Demand(
        lambda it: any(it.after.of_updates) and not it.kbytes,
        rules.ATTRIBUTE_KEYSTORE,
        "the partition has no keystore",
    ),
    Demand(
        lambda it: it.lacks_other != "",
        rules.ATTRIBUTE_NEEDS,
        "{it.lacks_other}",
    ),
    Demand(
        lambda it: (
            it.signed_objects > 0 and it.zeroes("keystore_signed_updates", "linux_dynamic_key_secure_boot")
        ),
        rules.ATTRIBUTE_IN_USE,
        "the keystore is in use: it holds objects of signed updates",
    ),
)
"""The rules of spec/control.md#attributes about signed updates."""

IDLE: Demand[Change] = Demand(
    lambda it: it.running and it.before.while_off != it.after.while_off,
    rules.ATTRIBUTE_IDLE,
    "{it.name} is running",
)

# STORED has to be the first rule.  A refused partition has no keystore in memory.  So the rules about sizes
# would count no objects in it, and let the operator disable it.
RULES = (STORED, *SIZES, *UPDATES, IDLE)
"""In the order of the checks; the first broken rule decides."""


def wished(before: ConsoleAttributes, changes: Mapping[str, int]) -> ConsoleAttributes:
    """Return the attributes after `changes`; OperatorError for an unknown name or value.

    If the changes switch the keystore off, the attributes of signed updates go off too.  An attribute in
    `changes` gets the value there.
    """
    for name, number in changes.items():
        check(WISHES, Wish(name, number))
    after = before.with_numbers(changes)
    # The attributes of signed updates need a keystore.  If they stayed on, a size of 0 alone would break
    # that rule, and one request could not disable the keystore.
    if before.keystore_kbytes and not after.keystore_kbytes:
        after = before.with_numbers(dict.fromkeys(OF_UPDATES, 0) | dict(changes))
    return after


def first(kbytes: int, further: Mapping[str, int]) -> ConsoleAttributes:
    """Return the attributes of a new partition; OperatorError for an unknown name or value.

    Its size is given as `kbytes` or among the `further` attributes, not as both.
    """
    if kbytes and "keystore_kbytes" in further:
        raise OperatorError(rules.ATTRIBUTE_FORM, "keystore_kbytes is given twice")
    return wished(AT_FIRST.with_numbers({"keystore_kbytes": kbytes}), further)
