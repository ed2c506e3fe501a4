"""The assembly: the only place where parts become a machine.

    assemble(State(folder).seams(), settings)                    # a server
    assemble(Seams(chance, clock, MemoryNvram(), ...), settings)    # a simulation

The order: anchor card, system record, partitions, then the changes that the settings ask for.  None of it
needs an event loop or waits.  Whatever is refused leaves the records of every partition as
they were.  A power cut, in a test, is `assemble` again over what NVRAM and the components hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.levels import DEFAULT_LEVEL, LEVELS
from hcall_abi.rules import console, storage
from hcall_server.components.seam import Components, RootKeyComponent
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.keystore.store import Entropy
from hcall_server.machine.logs import log_trouble
from hcall_server.machine.machine import Machine, Transport
from hcall_server.nvram.seam import Nvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.partition import LATCH, Partition
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import Sealer, SystemRecord
from hcall_server.service.entropy import checked
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.encryptor import Clock, Encryptor
from hcall_server.writeback.recover import recover_partitions, recover_system
from hcall_server.writeback.worker import Worker


class Seams(NamedTuple):
    """What a machine has of the world outside it; each seam has a real and a simulated side.

    `entropy` returns random bytes; `clock` returns seconds; `nvram` holds sealed records; `components`
    hold the root key; `worker` runs NVRAM commits; `transport` carries the data channel.
    """

    entropy: Entropy
    clock: Clock
    nvram: Nvram
    components: Components
    worker: Worker
    transport: Transport


def assemble(seams: Seams, settings: Settings) -> Machine:
    """Make a machine of its parts: recover what NVRAM holds, and do what the settings ask for.

    Raises OperatorError for an impossible wish, StorageError when the system as a whole can't be
    opened.  A partition that can't be opened is in the system, with `refused` set.  No partition is
    activated yet: `Machine.start` does that.
    """
    seams = seams._replace(entropy=checked(seams.entropy))
    records = seams.nvram.load()
    identity = identity_of(seams.components.anchor_card, records, seams.entropy)
    sealer = Sealer(identity, seams.entropy)
    stored = recover_system(records, sealer)
    if stored is None and records:
        raise _lost("the system record is missing", records)
    record = _record(stored, settings)
    system = _system(record, identity, seams.entropy, settings)
    recover_partitions(system, records, sealer)
    _check_total(system)
    machine = _machine(system, sealer, seams, settings)
    if record != stored:
        machine.encryptor.system_changed(record)
    for wish in settings.partition:
        _fulfil(machine, wish)
    for partition in system.partitions.values():
        seams.transport.access_key(partition)
    return machine


def _system(
    record: SystemRecord, identity: SystemIdentity, entropy: Entropy, settings: Settings
) -> ManagedSystem:
    return ManagedSystem(
        LEVELS[record.firmware],
        identity.system_id,
        entropy,
        total_kbytes=record.total_kbytes,
        strict_memory=settings.strict_memory,
        strict_wrapping=settings.strict_wrapping,
    )


def _machine(system: ManagedSystem, sealer: Sealer, seams: Seams, settings: Settings) -> Machine:
    nvram = FaultyNvram(seams.nvram)
    encryptor = Encryptor(
        nvram,
        sealer,
        seams.worker,
        clock=seams.clock,
        delay=settings.flush_delay_ms / 1000,
        on_trouble=log_trouble,
    )
    return Machine(
        system,
        encryptor,
        nvram=nvram,
        transport=seams.transport,
        entropy=seams.entropy,
        clock=seams.clock,
        limits=settings.limits,
    )


def _check_total(system: ManagedSystem) -> None:
    """Refuse a start whose total is too small for the stored keystores (R-34)."""
    taken = system.assigned_kbytes
    if taken > system.total_kbytes:
        message = f"the stored keystores take {taken} KiB, and the system's total is {system.total_kbytes}"
        raise OperatorError(console.SIZE_TOTAL, message)


def identity_of(card: RootKeyComponent, records: Mapping[str, bytes], entropy: Entropy) -> SystemIdentity:
    """Return who the system is; a new system makes its identity.

    StorageError when NVRAM holds records and the card that could open them is gone: a new root key
    would only bury them.
    """
    identity = card.read()
    if identity is None:
        if records:
            raise _lost(f"the {card.name} is missing", records)
        identity = SystemIdentity.make(entropy)
        card.write(identity)
    return identity


def _lost(what: str, records: Mapping[str, bytes]) -> StorageError:
    return StorageError(storage.SYSTEM_KEYS, f"{what}, and NVRAM holds {len(records)} records")


def _record(stored: SystemRecord | None, settings: Settings) -> SystemRecord:
    """Return the level and total that count now: as asked for, else as stored, else the defaults."""
    firmware = settings.firmware or (stored.firmware if stored else DEFAULT_LEVEL.name)
    if firmware not in LEVELS:
        known = ", ".join(sorted(LEVELS))
        message = f"the stored system has firmware level {firmware!r}; this release knows {known}"
        raise StorageError(storage.SYSTEM_FIRMWARE, message)
    if stored and stored.firmware == firmware:
        total = settings.system_total_kbytes or stored.total_kbytes
    else:
        total = settings.system_total_kbytes or LEVELS[firmware].system_total_kbytes
    return SystemRecord(firmware, total)


def _fulfil(machine: Machine, wish: PartitionSettings) -> None:
    """Make or change a partition as the settings say, and give it their fault plan."""
    changed = _provide(machine.system, wish)
    if changed:
        machine.encryptor.changed(changed)
    if wish.faults and wish.name in machine.system.partitions:
        machine.set_faults(wish.name, wish.faults)


def _provide(system: ManagedSystem, wish: PartitionSettings) -> Partition | None:
    """Make or change a partition as the settings say; None when there was nothing to do.

    A partition whose store was refused stays as it is; `Machine.start` logs it.  While the name of a
    refused partition can't be read, no partition is made: it may be that one.
    """
    found = system.partitions.get(wish.name)
    if found is None and any(each.name_unknown for each in system.partitions.values()):
        return None
    attributes = dict(wish.attributes)
    if found is None:
        found = system.create(wish.name, attributes.get("keystore_kbytes", 0))
        before = None
    elif found.refused:
        return None
    else:
        before = found.profile
        attributes.pop(LATCH, None)  # a restart must not arm again what was used up
    if wish.auto_start is not None:
        found.set_auto_start(wish.auto_start)
    system.set_attributes(wish.name, attributes)
    return None if found.profile == before else found
