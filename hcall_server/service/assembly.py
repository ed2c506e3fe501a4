"""The assembly: the only place where parts become a machine.

    assemble(State(folder).seams(), settings)                    # a server
    assemble(Seams(chance, clock, MemoryNvram(), ...), settings)    # a simulation

A power cut, in a test, is `assemble` again over the same NVRAM and components.
"""

# The order of a start
#
# A start must guarantee:
#
#   1. A refused start changes no stored partition.  Only the first commit of a new or converted system stays.
#   2. A start that is killed at any moment can be repeated.
#   3. A partition whose records do not open stops itself alone, and not the start.
#   4. A server activates no partition before its IPL count is durable (`hcall_server.machine.ipls`).
#
# The steps of `assemble`, and why each of them comes where it does:
#
#     root key and mark   First, because nothing opens without the key.  It writes repairs, which can be
#                         repeated, and the first commit of a new or a converted system.
#     partitions          Before the settings, which change stored partitions and make the missing ones.
#     departed            Before the settings as well.  If a name in the settings is that of a partition which
#                         has moved away, no new one is made.
#     modes               Before the state, because Recovery sets the stored partitions aside.
#     state               Before the settings: in another state than Operating they are postponed.
#     settings            In memory only (guarantee 1).  The encryptor commits them once it runs.
#     key files           Last, so that new partitions of the settings get theirs as well.
#
# The server then goes on (`service/server.py`): it opens its sockets, runs the machine and the control
# channel, and waits for the IPL counts.  The control channel comes before that wait.  So an operator reaches
# a server whose NVRAM hangs, and sees the reason in its health.
#
# All of `assemble` runs without an event loop.  The first step calls the TPMs.  Each call can block for ten
# seconds.  No client is connected yet, so no client waits for it.

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.levels import DEFAULT_LEVEL, LEVELS
from hcall_abi.rules import console, storage
from hcall_server.components.seam import Components
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.keystore.store import Entropy
from hcall_server.machine.logs import Log, explained, log_trouble
from hcall_server.machine.machine import Machine, Transport
from hcall_server.nvram.names import CONSOLE, CUSTODY, TRUSTED_KEY, parse_old_name
from hcall_server.nvram.seam import Nvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.partition import Partition
from hcall_server.platform.profile import LATCH
from hcall_server.platform.root_key import AccessAccount
from hcall_server.platform.system import ManagedSystem
from hcall_server.platform.system_state import SystemState
from hcall_server.sealing import Listed, SystemRecord
from hcall_server.service.custody import is_elsewhere, open_departed, publish_keys, set_modes
from hcall_server.service.entropy import checked
from hcall_server.service.key_steps import accounted
from hcall_server.service.settings import PartitionSettings, Settings, of_size
from hcall_server.service.stored import Opening, Stored
from hcall_server.writeback.commits import record_id
from hcall_server.writeback.encryptor import Encryptor
from hcall_server.writeback.recover import OTHER_COPY, recover_partitions, recover_system
from hcall_server.writeback.schedule import Clock
from hcall_server.writeback.worker import Worker

if TYPE_CHECKING:
    from hcall_server.machine.attachment import Attachment
    from hcall_server.machine.backups import Backups
    from hcall_server.machine.mobility import Mobility

_log = Log()


class Seams(NamedTuple):
    """The outside world of a machine: six seams, each real or simulated.

    `entropy` returns random bytes.  `clock` returns seconds, and `date` seconds since 1970.  `nvram` holds
    sealed records.  `components` hold the root key.  `worker` runs NVRAM commits.  `transport` carries the
    data channel.
    """

    entropy: Entropy
    clock: Clock
    nvram: Nvram
    components: Components
    worker: Worker
    transport: Transport
    date: Callable[[], float] = time.time


def assemble(
    seams: Seams, settings: Settings, *, accept_older: bool = False, standby: bool = False
) -> Machine:
    """Make a machine of its parts: recover the records in NVRAM, and apply the settings.

    `accept_older`: go on even if NVRAM is older than its high-water mark, or has no mark.  `standby`: refuse
    NVRAM without any record, if the system is not new.  Both are about one start, and therefore no settings.

    Raises OperatorError if the settings can't be applied, StorageError if the system as a whole can't be
    opened.  A partition that can't be opened is in the system, with `refused` set.  No partition is activated
    yet: `Machine.start` does that.
    """
    seams = seams._replace(entropy=checked(seams.entropy))
    nvram = FaultyNvram(seams.nvram)
    stored = Opening(
        seams.components, nvram, seams.entropy, seams.transport, accept_older=accept_older, standby=standby
    ).open(_record(None, settings))
    before = _stored_record(stored)
    system = _system(_record(before, settings), stored.identity, seams.entropy, settings)
    roster = before.roster if before else ()
    recover_partitions(system, stored.records, stored.commit, stored.sealer, roster)
    if any(map(parse_old_name, stored.records)):
        _show_left_over(system, stored, roster)
    open_departed(system, stored, _listed(stored, CUSTODY, "the custody record"))
    access = accounted(stored.access, system, stored.commit.number)
    machine = _machine(system, nvram, stored, seams, settings, access)
    machine.apply_settings = lambda: _apply_missing(machine, settings)
    if settings.log_calls:
        from hcall_server.machine import call_log

        machine.call_log = call_log.CallLog(machine.noise)
    set_modes(machine, stored, without_console=settings.without_console)
    if stored.state is SystemState.RECOVERY:
        system.begin_recovery()
    else:
        system.state = stored.state
    if stored.missing:
        _count_on(machine, stored.missing)
    if stored.state is SystemState.OPERATING:
        _check_total(system)
        _apply(machine, settings)
    elif settings.partition:
        _warn_of_postponed(stored.state, settings)
    if before and SystemRecord.of(system) != before:
        machine.encryptor.system_changed(system)
    publish_keys(machine)
    return machine


def _show_left_over(system: ManagedSystem, stored: Stored, roster: Sequence[Listed]) -> None:
    """Add the partitions whose records of sealed level 1 could not be converted, as refused partitions."""
    from hcall_server.sealing.level_1 import OldSealer
    from hcall_server.writeback.convert import recover_left_over

    recover_left_over(system, stored.records, OldSealer(stored.identity), roster)


def _stored_record(stored: Stored) -> SystemRecord | None:
    """Return the system record; None in a state that has none."""
    if stored.state is not SystemState.OPERATING:
        return None
    return recover_system(stored.records, stored.commit, stored.sealer)


def _apply(machine: Machine, settings: Settings) -> None:
    """Make and change the partitions of the settings."""
    _warn_of_left_out(machine.system, settings)
    for wish in settings.partition:
        known = machine.system.partitions.get(wish.name)
        try:
            _fulfil(machine, wish)
        except OperatorError as error:
            raise of_size(error, wish.name, known.kbytes if known else None) from None


def _apply_missing(machine: Machine, settings: Settings) -> None:
    """Make the partitions of the settings that are missing after a recovery; log each that can't be made."""
    for wish in settings.partition:
        if wish.name not in machine.system.partitions and not is_elsewhere(machine.system, wish.name):
            try:
                _fulfil(machine, wish)
                machine.transport.publish_key(machine.system.find(wish.name))
            # not raised as at a start: after a recovery the system is in use already
            except SwpksError as error:
                _log.error("partition.not_made", partition=wish.name, **explained(error))


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
        strict_updates=settings.strict_updates,
        name=record.name,
    )


def _machine(
    system: ManagedSystem,
    nvram: FaultyNvram,
    stored: Stored,
    seams: Seams,
    settings: Settings,
    access: AccessAccount,
) -> Machine:
    encryptor = Encryptor(
        stored.commits,
        stored.sealer,
        seams.worker,
        clock=seams.clock,
        delay=settings.flush_delay_ms / 1000,
        on_trouble=log_trouble,
    )
    make_attachment, make_backups = _attachment_of(stored, seams), _backups_of(stored, seams, settings)
    machine = Machine(
        system,
        encryptor,
        nvram=nvram,
        transport=seams.transport,
        entropy=seams.entropy,
        clock=seams.clock,
        limits=settings.limits,
        confirm_wait=settings.confirm_wait_ms / 1000,
        make_backups=lambda: make_backups(machine),
        make_attachment=lambda: make_attachment(machine),
        make_migrations=_migrations,
        copy_interval=settings.copy_interval_s,
        access=access,
    )
    return machine


def _backups_of(stored: Stored, seams: Seams, settings: Settings) -> Callable[[Machine], Backups]:
    """Return a function that makes the `Backups` of a machine."""
    key = _listed(stored, TRUSTED_KEY, "the trusted system key")

    def make(machine: Machine) -> Backups:
        from hcall_server.machine import backups

        return backups.Backups(
            machine.system,
            machine.encryptor,
            seams.transport,
            sealer=stored.sealer,
            entropy=seams.entropy,
            date=seams.date,
            sealed_key=key,
            asks=lambda: _asks(machine, settings),
        )

    return make


def _asks(machine: Machine, settings: Settings) -> bool:
    """Whether a restored partition waits for the console's agreement (R-54)."""
    return machine.attachment.link is not None and not settings.without_console


def _migrations(machine: Machine) -> Mobility:
    from hcall_server.mobility import migrations, own_system

    return migrations.LiveMigrations(own_system.own_system_of(machine))


def _attachment_of(stored: Stored, seams: Seams) -> Callable[[Machine], Attachment]:
    """Return a function that makes the `Attachment` of a machine; its console is away since this start."""
    sealed, since = _listed(stored, CONSOLE, "the console record"), seams.date()

    def make(machine: Machine) -> Attachment:
        from hcall_server.machine import attachment

        return attachment.Attachment(
            machine.system,
            machine.encryptor,
            machine.events,
            sealer=stored.sealer,
            date=seams.date,
            key_id=lambda: machine.backups.key.id if machine.backups.key else b"",
            stored=sealed,
            since=since,
        )

    return make


def _listed(stored: Stored, name: str, what: str) -> bytes | None:
    """Return a record of NVRAM, still sealed; None if there is none.

    StorageError if the last commit does not list this record, or lists one that is missing.
    """
    blob, record = stored.records.get(name), record_id(name)
    if blob is None and record in stored.commit.records:
        raise StorageError(storage.RECORDS_COMMITTED, f"{what} is missing in NVRAM")
    if blob is not None and not stored.commit.lists(record, blob):
        raise StorageError(storage.RECORDS_COMMITTED, f"{what} {OTHER_COPY}")
    return blob


def _count_on(machine: Machine, missing: int) -> None:
    """Go on with older records: skip the IPL counts that may have been used, and clear the latches.

    Each IPL needed a commit.  So the number of missing commits is the largest number of missing IPLs.
    """
    for partition in machine.system.places.values():
        if not partition.refused:
            partition.count_on(missing)
            machine.encryptor.changed(partition)
    if machine.system.state is SystemState.OPERATING:
        machine.encryptor.system_changed(machine.system)


def _check_total(system: ManagedSystem) -> None:
    """Refuse a start whose total is too small for the stored keystores (R-34)."""
    taken = system.assigned_kbytes
    if taken > system.total_kbytes:
        message = (
            f"the stored keystores take {taken} KiB, and the system's total is {system.total_kbytes} KiB "
            f"at firmware level {system.level.name}"
        )
        raise OperatorError(console.SIZE_TOTAL, message)


def _record(stored: SystemRecord | None, settings: Settings) -> SystemRecord:
    """Return the present level and total: those of the settings, else the stored ones, else the defaults."""
    firmware = settings.firmware or (stored.firmware if stored else DEFAULT_LEVEL.name)
    if firmware not in LEVELS:
        known = ", ".join(sorted(LEVELS))
        message = f"the stored system has firmware level {firmware!r}; this release knows {known}"
        raise StorageError(storage.SYSTEM_FIRMWARE, message)
    if stored and stored.firmware == firmware:
        total = settings.system_total_kbytes or stored.total_kbytes
    else:
        total = settings.system_total_kbytes or LEVELS[firmware].system_total_kbytes
    name = settings.name or (stored.name if stored else "") or settings.first_name
    return SystemRecord(firmware, total, name=name)


def _warn_of_left_out(system: ManagedSystem, settings: Settings) -> None:
    """Log the partitions of the settings that are not made, because an unreadable one may have their name."""
    unreadable = [each.name for each in system.partitions.values() if each.name_unknown]
    left_out = [wish.name for wish in settings.partition if wish.name not in system.partitions]
    if unreadable and left_out:
        _log.warning(
            "partition.left_out",
            partitions=left_out,
            unreadable=unreadable,
            advice="restore the records of the unreadable partitions, then start again",
        )


_POSTPONED = {
    SystemState.RECOVERY: "they are made after the recovery, if their names are missing then",
    SystemState.RESET_PENDING: "power the system off, and run swpks asmi --state DIR reset-settings",
}


def _warn_of_postponed(state: SystemState, settings: Settings) -> None:
    """Log that the settings of partitions are not applied in this state."""
    _log.warning(
        "partition.postponed",
        partitions=[wish.name for wish in settings.partition],
        state=state.value,
        advice=_POSTPONED[state],
    )


def _fulfil(machine: Machine, wish: PartitionSettings) -> None:
    """Make or change a partition as its settings say, and set its fault plan."""
    if changed := _provide(machine.system, wish):
        machine.encryptor.changed(changed)
    if wish.faults and wish.name in machine.system.partitions:
        machine.set_faults(wish.name, wish.faults)


def _provide(system: ManagedSystem, wish: PartitionSettings) -> Partition | None:
    """Make or change a partition as the settings say; None if nothing was to be changed.

    A partition whose store was refused is not changed; `Machine.start` logs it.  If the name of any refused
    partition cannot be read, no partition is made, because the refused one may have the wanted name.  If
    another system owns the wanted partition, nothing is changed or made.
    """
    if is_elsewhere(system, wish.name):
        return None
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
        attributes.pop(LATCH, None)  # a restart must not arm the latch again after its use
    if wish.auto_start is not None:
        found.set_auto_start(wish.auto_start)
    system.set_attributes(wish.name, attributes)
    return None if found.profile == before else found
