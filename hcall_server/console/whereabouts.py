"""Where the data channel of a partition is now (spec/console.md#where).

    address = whereabouts(console.systems, "lpar1")        # or its UUID, or SYSTEM/NAME

The answer comes from the last view of the system that owns the partition.  The console makes no request for
it, so the answer costs almost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from hcall_abi.control_views import SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OWNING = ("own", "arrived", "frozen")
"""A frozen partition is still at its source: its clients wait there for the end of the attempt."""
_SHOWN = 80
"""The most characters of a question that an error repeats."""


class SeenSystem(Protocol):
    """A system with its last view; `hcall_server.console.systems.KnownSystem` is one."""

    @property
    def view(self) -> SystemView | None:
        """Its last view."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def type_model_serial(self) -> str:
        """Type, model and serial number."""


S = TypeVar("S", bound=SeenSystem)


class Whereabouts(NamedTuple, Generic[S]):
    """A partition on a system.

    `address` is "" if the partition has left this system, or is not served.
    """

    system: S
    uuid: str
    name: str
    custody: str
    epoch: int
    address: str


def whereabouts(systems: Iterable[SeenSystem], asked: str) -> str:
    """Return the address of a partition's data channel, ``unix:PATH`` or ``tcp:HOST:PORT``.

    OperatorError if the owner does not serve the partition, and for each error of `place_of`.
    """
    owner = place_of(systems, asked)
    if not owner.address:
        raise OperatorError(rules.HMC_WHERE, f"{asked[:_SHOWN]}: {owner.system.name} does not serve it")
    return owner.address


def place_of(systems: Iterable[S], asked: str) -> Whereabouts[S]:
    """Return a partition on the system that owns it.

    `asked` is its UUID, its name, or SYSTEM/NAME.  SYSTEM may also be a system that the partition has left.
    OperatorError if there is no such partition, if several have the name, or if no system owns it.

    If the source of a move has released the partition, the result is the target.  Clients wait there for the
    end of the move.
    """
    places = [place for system in systems for place in _places(system)]
    uuids = _named(places, asked)
    if len(uuids) != 1:
        finding = "several partitions have this name: use SYSTEM/NAME" if uuids else "no system has it"
        raise OperatorError(rules.HMC_WHERE, f"{asked[:_SHOWN]}: {finding}")
    named = [each for each in places if each.uuid in uuids]
    found = [each for each in named if each.custody in _OWNING] or _arriving(named)
    if not found:
        raise OperatorError(rules.HMC_WHERE, f"{asked[:_SHOWN]}: no system owns it at present")
    # Views are of different times, so two systems may show the same partition as their own.  The later epoch
    # is the newer record.  At equal epochs, a target counts more than a frozen source.
    return max(found, key=lambda each: (each.epoch, each.custody != "frozen"))


def found_at(systems: Iterable[S], name: str) -> str:
    """Return a phrase that names the systems with a partition of this name, "" for none."""
    found = {each.system.type_model_serial: each.system for each in _owned(systems, name)}
    names = [each.name for each in found.values()]
    if len(names) > 1:
        return f"partitions named {name} are on the systems {', '.join(names)}"
    return f"partition {name} is on system {names[0]}" if names else ""


def _owned(systems: Iterable[S], name: str) -> list[Whereabouts[S]]:
    """Return the partitions with a name, each only on the system that shows that it owns it."""
    places = [place for system in systems for place in _places(system)]
    return [each for each in places if each.name == name and each.custody in _OWNING]


def _arriving(named: list[Whereabouts[S]]) -> list[Whereabouts[S]]:
    """Return the target of an attempt if the source has released the partition.

    The target will serve the partition soon.
    """
    released = {each.epoch for each in named if each.custody == "released"}
    return [each for each in named if each.custody == "prepared" and each.epoch in released]


def _named(places: list[Whereabouts[S]], asked: str) -> set[str]:
    """Return the UUIDs of the partitions that `asked` may mean."""
    if _UUID.fullmatch(asked):
        return {each.uuid for each in places if each.uuid == asked}
    system, slash, name = asked.rpartition("/")
    found = [each for each in places if each.name == name]
    if slash:
        found = [each for each in found if system in (each.system.name, each.system.type_model_serial)]
    owned = [each for each in found if each.custody in _OWNING]
    # A present partition counts before one that has left and had the same name.
    return {each.uuid for each in owned or found}


def _places(system: S) -> Iterator[Whereabouts[S]]:
    """Yield the partitions in a system's last view, and the partitions that have left the system."""
    if system.view is None:
        return
    facts = {each.uuid: each for each in system.view.custody}
    for each in system.view.partitions:
        epoch = facts[each.uuid].epoch if each.uuid in facts else 0
        yield Whereabouts(system, each.uuid, each.name, each.custody, epoch, each.address)
    present = {each.uuid for each in system.view.partitions}
    for gone in facts.values():
        if gone.uuid not in present:
            yield Whereabouts(system, gone.uuid, gone.name, gone.custody, gone.epoch, "")
