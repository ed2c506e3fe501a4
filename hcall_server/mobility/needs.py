"""What a partition needs at another system: conversion between `platform.arrival` and the messages.

The same facts are the body of `checkArrival` and a message of the channel (spec/migration.md#validation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from hcall_abi.control_bodies import ArrivalCheck
from hcall_server.keystore.image import object_of
from hcall_server.platform import arrival
from hcall_server.sealing.traveller import FORMATS, Traveller

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.system import ManagedSystem


def needs_of(system: ManagedSystem, partition: Partition, epoch: int) -> ArrivalCheck:
    """Return the needs of a partition at its target in an attempt."""
    found = arrival.needs_of(partition, system.level, FORMATS)
    facts = found._asdict() | {"uuid": str(found.uuid), "epoch": epoch}
    return msgspec.convert(facts, ArrivalCheck)


def demand_needs(system: ManagedSystem, facts: ArrivalCheck) -> None:
    """OperatorError if a partition does not fit on this system; the first broken rule decides."""
    fields = msgspec.to_builtins(facts)
    arrival.demand_fit(system, arrival.Needs(**fields | {"uuid": UUID(facts.uuid)}), FORMATS, live=True)


def demand_traveller(system: ManagedSystem, traveller: Traveller, epoch: int) -> None:
    """Raise OperatorError if an arrived partition does not fit this system.

    The partition may have changed since the source sent its needs.
    """
    (profile, image), used = traveller.record, traveller.used
    stored = [object_of(each) for each in image.entries] if image else []
    more = [each.object for each in used.objects] if used else []
    passwords = [each.secret for each in used.passwords] if used else []
    needs = arrival.needs(profile, system.level.name, [*stored, *more], passwords, FORMATS)
    arrival.demand_fit(system, needs._replace(epoch=epoch), FORMATS, live=True)
