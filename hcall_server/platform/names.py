"""The rules about the name of a partition (spec/control.md#names), as rows."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.console import is_partition_name
from hcall_abi.rules import console as rules
from hcall_server.platform.demands import Demand


class NewName(NamedTuple):
    """A requested name.

    `taken`: the system has it already.  `unreadable`: the name of some stored partition is not known.
    `reserved`: it is the last name of a partition that has moved to another system.
    """

    name: str
    taken: bool
    unreadable: bool
    reserved: bool = False


FORM: Demand[NewName] = Demand(
    lambda it: not is_partition_name(it.name),
    rules.NAME_FORM,
    "{it.name!r} is no name for a partition",
)
RULES: tuple[Demand[NewName], ...] = (
    FORM,
    Demand(lambda it: it.taken, rules.NAME_NEW, "there is a partition {it.name!r}"),
    Demand(
        lambda it: it.reserved,
        rules.NAME_NEW,
        "the partition {it.name!r} has moved to another system, and its name is kept for it",
    ),
    Demand(lambda it: it.unreadable, rules.NAME_UNREADABLE, "{it.name} may exist already"),
)
"""In the order of the checks; the first broken rule decides."""
