"""Adapts a machine to the interface that its migrations use."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from hcall_abi.errors import OperatorError, PeerError
from hcall_abi.rules import console
from hcall_abi.rules import migration as rules
from hcall_server.machine.noise import MOBILITY
from hcall_server.mobility.needs import demand_needs, demand_traveller, needs_of
from hcall_server.mobility.ports import Named, OwnSystem, Packed
from hcall_server.sealing.traveller import Traveller, decode_traveller, encode_traveller

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition


def own_system_of(machine: Machine) -> OwnSystem:
    """Return a machine as the `OwnSystem` that its migrations use."""
    system = machine.system

    def present(uuid: UUID) -> Partition:
        partition = system.by_uuid(uuid)
        if partition is None:
            raise OperatorError(console.NAME_EXISTS, f"there is no partition {uuid}")
        return partition

    def find(name: str) -> Named:
        partition = system.find(name)
        return Named(partition.profile.uuid, partition.running)

    def unpack(packed: Packed, uuid: UUID) -> Traveller:
        traveller = decode_traveller(packed.plaintext)
        profile = traveller.record.profile
        # PREPARED repeats the generation of the header, and the source compares it with its store.  So the
        # bytes must have the generation of the header.
        if (profile.uuid, profile.image_generation) != (uuid, packed.generation):
            raise PeerError(rules.MOBILITY_FORM, "another partition has arrived than was announced")
        return traveller

    def pack(uuid: UUID) -> Packed:
        traveller = machine.custodian.traveller_of(present(uuid))
        return Packed(traveller.record.profile.image_generation, encode_traveller(traveller))

    return OwnSystem(
        keeper=machine.custodian,
        system_id=system.system_id,
        entropy=machine.entropy,
        peers=lambda: machine.peers,
        run_beside=machine.run_beside,
        find=find,
        runs=lambda uuid: present(uuid).running,
        needs=lambda uuid, epoch: needs_of(system, present(uuid), epoch),
        check=lambda facts: demand_needs(system, facts),
        pack=pack,
        unpack=unpack,
        demand=lambda traveller, epoch: demand_traveller(system, traveller, epoch),
        allowance=machine.noise.of(MOBILITY),
    )
