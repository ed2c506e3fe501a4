"""Changes of several facts of a partition at once, and the rules of numbers, renames and deletions.

Page: spec/control.md#partitions.  A start does not load this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.console import LARGEST_PARTITION_ID
from hcall_abi.counts import counted
from hcall_abi.rules import console as rules
from hcall_server.platform.demands import Demand

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition


class PartitionWish(NamedTuple):
    """Changes of a partition that are made together.  None or an empty `further` changes nothing."""

    new_name: str | None = None
    auto_start: bool | None = None
    further: Mapping[str, int] = MappingProxyType({})


class NewNumber(NamedTuple):
    """A requested partition id; `taken`: the system has it already."""

    number: int
    taken: bool


NUMBERS: tuple[Demand[NewNumber], ...] = (
    Demand(
        lambda it: not 1 <= it.number <= LARGEST_PARTITION_ID,
        rules.PARTITION_NUMBER,
        "{it.number} is no partition id",
    ),
    Demand(lambda it: it.taken, rules.PARTITION_NUMBER, "there is a partition with the id {it.number}"),
)
"""The rules about the number of a new partition."""


class PartitionState(NamedTuple):
    """A partition that is to be renamed or deleted, with the facts that the rules need.

    `refused`: its stored record could not be opened.  `destroy`: its objects may be lost.
    """

    name: str
    running: bool
    refused: bool
    objects: int
    destroy: bool = False

    @property
    def counted_objects(self) -> str:
        """The number of its objects, as text: "1 object", "2 objects"."""
        return counted(self.objects, "object")


_OFF: Demand[PartitionState] = Demand(
    lambda it: it.running, rules.PARTITION_OFF, "{it.name} is running: power it off first"
)

RENAMES: tuple[Demand[PartitionState], ...] = (_OFF,)
"""The rules about a partition that gets another name; `names.RULES` has those about the name."""

DELETIONS: tuple[Demand[PartitionState], ...] = (
    _OFF,
    Demand(
        # A refused partition has no keystore in memory.  The rule about objects would count 0 objects in
        # it.
        lambda it: it.refused and not it.destroy,
        rules.PARTITION_EMPTY,
        "the stored keystore of {it.name} was refused, so its objects are not known",
    ),
    Demand(
        lambda it: it.objects > 0 and not it.destroy,
        rules.PARTITION_EMPTY,
        "the keystore of {it.name} holds {it.counted_objects}",
    ),
)
"""The rules about a partition that is deleted."""


def standing(partition: Partition, *, destroy: bool = False) -> PartitionState:
    """Return the facts about a partition that the rules of renames and deletions need."""
    keystore = partition.keystore
    return PartitionState(
        name=partition.name,
        running=partition.running,
        refused=partition.refused is not None,
        objects=keystore.contents.object_count if keystore else 0,
        destroy=destroy,
    )
