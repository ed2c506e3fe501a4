"""Custody at a start: which partitions this system serves, which ask the console, which are elsewhere.

Page: spec/migration.md#after-a-start.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.rules import migration as rules
from hcall_server.machine.logs import Log
from hcall_server.nvram.names import CONSOLE
from hcall_server.platform.custody import OWNING, Custody, mode_after_start

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.system import ManagedSystem
    from hcall_server.service.stored import Stored

_log = Log()
_KEPT = OWNING | {Custody.FROZEN}
"""The custodies of partitions whose clients may need the access key again."""


def open_departed(system: ManagedSystem, stored: Stored, record: bytes | None) -> None:
    """Load the facts about departed partitions from the custody record.  Few systems have this record.

    StorageError if the record does not open, or if it contradicts the record of a partition.
    """
    if record is None:
        return
    from hcall_server.sealing.custody_record import open_custody

    for departed in open_custody(stored.sealer, record):
        present = system.by_uuid(departed.uuid)
        if present is not None and not present.refused and departed.epoch >= present.profile.epoch:
            message = f"{present.name} ({departed.uuid}) is stored, and has left by attempt {departed.epoch}"
            raise StorageError(rules.CUSTODY_RECORD, message)
        system.departed[departed.uuid] = departed


def set_modes(machine: Machine, stored: Stored, *, without_console: bool) -> None:
    """Give each stored partition its mode.  Modes are not stored: custody and attributes determine them.

    If a console is attached, some partitions ask it before they are served (R-54):

    - A partition that may be restarted remotely.  The console may have done so while this system was down.
    - Every partition, if older records were accepted.  It may have left after they were written.
    - A partition whose present attributes the console may not know.  The console may have an older copy whose
      attributes permit a remote restart.  It may have restarted the partition from that copy.
    """
    attached = CONSOLE in stored.records
    for partition in machine.system.partitions.values():
        if partition.refused:
            continue
        custody = partition.profile.custody
        capable = partition.attributes.simplified_remote_restart_capable or stored.missing
        owned = custody in OWNING
        asks = attached and owned and bool(capable or not machine.attachment.knows(partition.profile))
        if asks and without_console:
            machine.unconfirmed = (*machine.unconfirmed, partition.name)
        partition.mode = mode_after_start(custody, asks=asks and not without_console)
    if machine.unconfirmed:
        _log.warning(
            "partition.unconfirmed",
            partitions=machine.unconfirmed,
            advice="make sure that none of them was restarted on another system",
        )


def publish_keys(machine: Machine) -> None:
    """Write the key file of each partition that this system serves now or later; remove all other key files.

    A frozen partition gets its file.  The system serves it again if the attempt is aborted.
    """
    # The commit of a step can't include key files.  A kill between the commit and the change of a key file
    # leaves a file missing, or one file too many.  Each start repairs that.  In a later state Recovery, one
    # file too many would look like a lost store.
    system, transport = machine.system, machine.transport
    left = {each.name for each in system.departed.values() if each.name}
    for partition in system.places.values():
        if partition.profile.custody in _KEPT:
            transport.publish_key(partition)
            left.discard(partition.name)
        else:
            left.add(partition.name)
    for name in left:
        with suppress(SwpksError):  # the file stays; the next start tries again
            transport.forget_key(name)


def is_elsewhere(system: ManagedSystem, name: str) -> bool:
    """Whether another system owns the partition of this name.  Log a partition that has moved."""
    present = system.partitions.get(name)
    advice = f"nothing is made; a new partition of this name: swpks hmc create {name}"
    if present is not None:
        profile = present.profile
        if profile.custody in OWNING:
            return False
        moved = profile.uuid, profile.peer, profile.epoch
        if profile.custody is not Custody.RELEASED:
            return True
        advice = (
            "nothing is made; the store is here until the new owner is seen, and the name is its own; "
            f"after a remote restart remove it: rrstartlpar -o cleanup -p {name}"
        )
    else:
        reserving = system.reserving(name)
        if reserving is None:
            return False
        moved = reserving.uuid, reserving.peer, reserving.epoch
    uuid, peer, epoch = moved
    _log.warning(
        "partition.moved",
        partition=name,
        uuid=str(uuid),
        target=peer.hex(),
        epoch=epoch,
        advice=advice,
    )
    return True
